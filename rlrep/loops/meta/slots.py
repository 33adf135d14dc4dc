"""Simulators that play whole episodes, each of a task and by a latent of its own."""

from dataclasses import dataclass, field

import numpy as np

from rlrep.contract.env import Array, Step, Tree
from rlrep.contract.meta import Trajectory

_COLUMNS = ("obs", "action", "reward", "context_reward")


@dataclass
class Track:
    """The episode that one simulator is in: what was seen of it so far, and the success flag's maximum."""

    obs: list[Array]
    action: list[Array] = field(default_factory=list)
    reward: list[float] = field(default_factory=list)
    context_reward: list[float] = field(default_factory=list)
    success: float = float("nan")

    @staticmethod
    def begin(obs: Array) -> "Track":
        """Start with an episode's first observation."""
        return Track([np.array(obs)])

    def add(self, action: Array, step: Step, row: int) -> None:
        """Take one step of simulator `row`."""
        self.action.append(np.array(action))
        self.obs.append(np.array(step.final_obs[row]))
        reward, shown = float(step.reward[row]), float(step.context_reward[row])
        self.reward.append(reward)
        self.context_reward.append(reward if np.isnan(shown) else shown)
        self.success = float(np.fmax(self.success, step.success[row]))

    def __len__(self) -> int:
        return len(self.action)

    @property
    def total_return(self) -> float:
        """Sum of the rewards as they count at test."""
        return float(sum(self.context_reward))

    def trajectory(self, *, terminated: bool) -> Trajectory:
        """Return the finished episode."""
        obs, action = np.stack(self.obs).astype(np.float32), np.stack(self.action).astype(np.float32)
        reward, shown = (np.array(r, np.float32) for r in (self.reward, self.context_reward))
        return Trajectory(obs, action, reward, shown, terminated)

    def state(self) -> Tree:
        """Return what was seen."""
        arrays = {name: np.array(getattr(self, name)) for name in _COLUMNS}
        return {**arrays, "success": self.success}

    @staticmethod
    def load(state: Tree) -> "Track":
        """Go on from `state()`."""
        numbers = {name: [float(x) for x in state[name]] for name in ("reward", "context_reward")}
        return Track(list(state["obs"]), list(state["action"]), **numbers, success=state["success"])
