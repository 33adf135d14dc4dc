"""What a run of federated learning is: frozen, typed settings."""

from dataclasses import dataclass

from rlrep.federated import EngineConfig, Partition, Setup
from rlrep.settings import ranges

from .pretrain_config import PretrainConfig


@dataclass(frozen=True, kw_only=True)
class FederateConfig(PretrainConfig):
    """Everything a run of federated learning depends on.

    partition: how the images are dealt to the parties. local_epochs: of a party over its images in each round.
    average: whether parties share a model, the mean of theirs; false: each trains on alone (SOLO).
    engine: who runs the parties; the numbers are the same.
    """

    partition: Partition
    engine: EngineConfig
    parties: int = 10
    rounds: int = 100
    local_epochs: int = 10
    average: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        ranges.at_least(self, 1, ("parties", "rounds", "local_epochs"))

    def setup(self, classes: int) -> Setup:
        """Return what every party knows. classes: how many all images have."""
        return Setup(
            self.method,
            self.data,
            self.encoder,
            self.optimiser,
            self.partition,
            parties=self.parties,
            rounds=self.rounds,
            epochs=self.local_epochs,
            batch_size=self.train.batch_size,
            label=self.train.label,
            seed=self.seed,
            precision=self.precision,
            micro_batches=self.train.micro_batches,
            classes=classes,
        )
