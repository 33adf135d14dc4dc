"""Any environment that gymnasium knows, or was told of, by its id: `env=gym env.id=HalfCheetah-v5`."""

from dataclasses import dataclass
from typing import Any, Literal

import gymnasium
from gymnasium.error import DependencyNotInstalled, Error

from rlrep.contract.env import Scoring

from .options import COPIES, SIDE, SimulatorConfig, Workers


@dataclass(frozen=True)
class Gym(SimulatorConfig):
    """One of gymnasium's own environments, as it stands: its states, its time limit, no action repeat.

    id: as `gymnasium.make` takes it. obs: what it shows. size: side of its frames, where it shows such.
    They cannot be saved: a resumed run begins new episodes. Raises ValueError for an id that names a module to import.
    """

    id: str
    obs: Literal["state", "pixels"] = "state"
    size: int = 84
    num_envs: int = 1
    workers: Workers = "auto"

    def __post_init__(self) -> None:
        self._check_ranges({"size": SIDE, "num_envs": COPIES})
        if ":" in self.id:
            raise ValueError(
                f"env.id={self.id} names a module to import: write a config of your own for it (CONTRIBUTING.md)"
            )

    def scoring(self) -> Scoring:
        """Return plain returns, under the environment's own name."""
        return Scoring(suite=self.id, task=self.id)

    def make(self, seed: int) -> gymnasium.Env[Any, Any]:
        """Build it. Raises ValueError for an unknown id, RuntimeError where something it needs is not installed."""
        try:
            env = self._found()
        except DependencyNotInstalled as error:
            raise RuntimeError(f"env.id={self.id}: {error}") from error
        except Error as error:
            raise ValueError(f"env.id={self.id}: {error}") from error
        if (self.obs == "pixels") != (len(env.observation_space.shape or ()) == 3):
            raise ValueError(f"env.obs={self.obs}, but {self.id} shows {env.observation_space}")
        return env

    def _found(self) -> gymnasium.Env[Any, Any]:
        env = gymnasium.make(self.id)
        if "rgb_array" not in env.metadata.get("render_modes", ()):  # one of the user's own need not draw
            return env
        env.close()
        return gymnasium.make(self.id, render_mode="rgb_array")
