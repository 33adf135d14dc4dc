"""Options that most of our environments have."""

from collections.abc import Mapping
from typing import Literal

from rlrep.contract.env import EnvConfig

MANY, SIDE, COPIES = (1, 100_000), (1, 4096), (1, 1024)
"""Of what there may be many of; pixels of a side of a frame; simulators, frames in a stack, repeats of an action."""
Workers = Literal["auto", "process", "inline"]


class SimulatorConfig(EnvConfig):
    """A config whose option `workers` says whether simulators run in processes of their own; `auto` as it sees fit."""

    workers: Workers = "auto"

    @property
    def in_workers(self) -> bool:  # type: ignore[override]  # follows from another option here
        """Whether the simulators run in worker processes."""
        return self.workers == "process" or (self.workers == "auto" and self._gains_by_workers())

    def _gains_by_workers(self) -> bool:
        return self.num_envs > 1

    def _check_ranges(self, ranges: Mapping[str, tuple[int, int]]) -> None:
        """Raise ValueError for an option that is not from least to most, the two given by its name."""
        for name, (least, most) in ranges.items():
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"env.{name} must be {least:,} to {most:,}, got {getattr(self, name)}")
