"""What a pretraining run is: frozen, typed settings."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from rlrep.launch import LauncherConfig
from rlrep.nn import EncoderConfig
from rlrep.settings import ranges
from rlrep.ssl import MethodConfig, OptimiserConfig
from rlrep.ssl.data import DataConfig
from rlrep.ssl.evaluation import ProbeConfig

from .config import Device, LoggerConfig


@dataclass(frozen=True)
class PretrainSettings:
    """How long and how often.

    epochs, updates: length of the run; one of the two. batch_size: images of an update, all processes together.
    micro_batches: parts of a process's batch that go through the network one after the other, to save memory; what is
    contrasted within a batch is then contrasted within a part.
    label: which labels are classes, for methods that use them; None = the only ones.
    evaluations: probes over the run, evenly spaced, besides those of the untrained encoder.
    log_every, checkpoint_every: updates.
    callbacks: see `TrainConfig`.
    """

    epochs: int | None = None
    updates: int | None = None
    batch_size: int = 256
    micro_batches: int = 1
    label: str | None = None
    evaluations: int = 10
    log_every: int = 50
    checkpoint_every: int = 1000
    callbacks: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        counts = ("epochs", "updates", "batch_size", "micro_batches", "evaluations", "log_every", "checkpoint_every")
        ranges.at_least(self, 1, counts)


@dataclass(frozen=True)
class PretrainConfig:
    """Everything a pretraining run depends on. choices: the chosen name of each group."""

    method: MethodConfig
    data: DataConfig
    encoder: EncoderConfig
    optimiser: OptimiserConfig
    train: PretrainSettings
    probe: ProbeConfig
    logger: LoggerConfig
    launcher: LauncherConfig
    choices: Mapping[str, str]
    seed: int
    device: Device
    precision: Literal["float32", "bf16"]
    out: str
    root: str = "runs"

    def __post_init__(self) -> None:
        ranges.at_least(self, 0, ("seed",))
