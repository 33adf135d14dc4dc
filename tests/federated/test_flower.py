"""Flower's engine: the numbers of the one in process, or one line where it is not installed."""

from importlib.util import find_spec

import pytest
import torch

from rlrep.federated import Flower, Server
from rlrep.loops.pretraining.job import build
from rlrep.settings import UserError
from rlrep.ssl.data.image_data import class_count

from .federated_rig import after, configured, serve

MISSING = find_spec("flwr") is None
WORDS = ("method=moon", "parties=2", "rounds=2")


def flower() -> Server:
    config = configured(*WORDS)
    split, _, learner = build(config, torch.device("cpu"))
    setup = config.setup(class_count(split.train, None))
    return Server(setup, learner, Flower().make(setup, split.train), average=True)


@pytest.mark.slow
@pytest.mark.skipif(MISSING, reason="Flower is not installed: the extra federated needs an environment of its own")
def test_both_engines_come_to_the_same_numbers() -> None:
    server = flower()
    with server._engine:
        after(server, 2)
    for name, value in after(serve(*WORDS), 2).state()["models"][0].items():
        torch.testing.assert_close(server.state()["models"][0][name], value, rtol=0, atol=1e-6, msg=name)


@pytest.mark.skipif(not MISSING, reason="Flower is installed")
def test_without_flower_it_is_one_line() -> None:
    with pytest.raises(UserError, match=r"pip install 'rlrep\[federated\]', or choose engine=in_process"):
        flower()


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="cpus must be at least 1"):
        Flower(cpus=0)
