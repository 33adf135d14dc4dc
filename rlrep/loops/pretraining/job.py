"""Pretraining an encoder on images: what is built and said."""

from collections.abc import Sequence
from typing import Any

import torch

from rlrep.config.pretrain_config import PretrainConfig
from rlrep.nn import Encoder
from rlrep.process.seeds import Seeds
from rlrep.record import versions
from rlrep.settings import UserError, one_line
from rlrep.ssl import Learner
from rlrep.ssl.base import seen_shape
from rlrep.ssl.data import Split, describe
from rlrep.ssl.evaluation import ProbeData
from rlrep.ssl.learner import plan, world

from ..distributed import first_alone
from ..loop import Outlets
from ..session import Job, Site
from .picture import Picture
from .work import COLUMNS, Parts, Pretraining


class Pretrain(Job):
    """A run of an image method."""

    counted = shown = "updates"
    columns: Sequence[str] = COLUMNS

    def __init__(self, config: PretrainConfig) -> None:
        self.config = self._config = config

    def prepare(self, site: Site) -> None:
        """Read the data and build what trains on it."""
        self._site = site
        self._split, self._encoder, self._learner = build(self._config, site.device)

    def settled(self) -> dict[str, Any]:
        return {"device": self._site.device.type}

    def build(self, *, restored: bool) -> None:
        """All is built: what is restored goes into it."""

    def scale(self) -> tuple[int, int]:
        return self._learner.length.updates, 1

    def headline(self) -> list[str]:
        config, split, encoder, length = self._config, self._split, self._encoder, self._learner.length
        weights = sum(parameter.numel() for parameter in encoder.parameters())
        processes = f"{world()[1]} processes, " if world()[1] > 1 else ""
        return [
            f"{_title(config)} -> {config.out}",
            *describe(split),
            f"{len(split.train)} images {split.train.shape} to train on, {len(split.test)} to test on; "
            f"encoder of {weights} weights, latent {encoder.latent_dim}",
            f"{length.updates} updates of {length.batch_size} images, {processes}"
            f"{versions.device_name(split.train.images.device)}, {torch.get_num_threads()} threads",
        ]

    def work(self, outlets: Outlets) -> Pretraining:
        return Pretraining(self.parts(outlets), self._config.train, outlets)

    def parts(self, outlets: Outlets) -> Parts:
        """Return what is worked with."""
        config = self._config
        data = ProbeData.of(self._split, config.probe)
        picture = Picture(outlets.folder, _title(config), outlets.reporter.say)
        return Parts(self._learner, config.encoder, data, config.probe, picture, versions.command_line())

    def places(self) -> list[str]:
        return ["pretraining.png", "encoder.safetensors", "eval.csv", "metrics.jsonl"]


def build(config: PretrainConfig, device: torch.device) -> tuple[Split, Encoder, Learner]:
    """Read the data and build what trains on it. Raises UserError if the parts do not fit each other."""
    seeds = Seeds(config.seed)
    try:
        split = first_alone(lambda: config.data.make(device))  # it may write a file that the others read
        seeds.set_globals()
        encoder = config.encoder.make(seen_shape(config.method.views, split.train.images))
        train = config.train
        learner = Learner(
            config.method,
            encoder,
            split.train,
            optimiser=config.optimiser,
            length=plan(len(split.train), batch_size=train.batch_size, epochs=train.epochs, updates=train.updates),
            label=train.label,
            seed=seeds.agent,
            gap=config.data.gap,
            precision=config.precision,
            micro_batches=train.micro_batches,
        )
    except ValueError as error:
        raise UserError(one_line(error)) from error
    return split, encoder, learner


def _title(config: PretrainConfig) -> str:
    named = [config.choices[group] for group in ("method", "data", "encoder")]
    return "  ".join([*named, f"preset={config.choices['preset']}", f"seed={config.seed}"])
