"""Options that most of our environments have."""

from typing import Literal

from rlrep.contract.env import EnvConfig

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

    def _check_at_least_one(self, *names: str) -> None:
        """Raise ValueError for options below 1."""
        for name in names:
            if getattr(self, name) < 1:
                raise ValueError(f"env.{name} must be at least 1, got {getattr(self, name)}")
