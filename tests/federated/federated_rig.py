"""Small runs of parties for the tests of federated learning."""

import torch

from rlrep.config.federate_compose import compose_federation
from rlrep.config.federate_config import FederateConfig
from rlrep.federated import Server
from rlrep.loops.pretraining.job import build
from rlrep.ssl.data.image_data import class_count
from tests.ssl.ssl_rig import SMALL

FEW_IMAGES = ("data.test_fraction=0.85", "encoder.latent_dim=16", "encoder.channels=4")
PARTIES = (*SMALL, *FEW_IMAGES, "parties=3", "rounds=2", "local_epochs=1")


def configured(*words: str) -> FederateConfig:
    return compose_federation([*PARTIES, *words]).config


def serve(*words: str) -> Server:
    """Return a server with its parties, before the first round."""
    config = configured(*words)
    split, _, learner = build(config, torch.device("cpu"))
    setup = config.setup(class_count(split.train, config.train.label))
    return Server(setup, learner, config.engine.make(setup, split.train), average=config.average)


def after(server: Server, rounds: int) -> Server:
    for _ in range(rounds):
        server.round(lambda _: None)
    return server
