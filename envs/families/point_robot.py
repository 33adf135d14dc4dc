"""A point on a plane that must find a goal it cannot see (PEARL, Rakelly et al. 2019, arXiv 1903.08254), 20 steps.

Observation: its position. Action: a displacement of up to 0.1 per axis. Reward: minus the distance to the goal.
Departure from the authors' code (katerakelly/oyster): tasks and first positions come from generators of their own.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from rlrep.contract.env import Array, Task, TaskSet, Tree

from .base import TaskEnv, TaskFamily, draw_tasks

STRIDE = 0.1  # of a full action, per axis
VIDEO_SIZE, VIDEO_REACH = 128, 1.5  # pixels; what they show of either side of the origin
BLUE, RED, GREY = (40, 90, 200), (210, 50, 40), (190, 190, 190)


class PointRobotEnv(TaskEnv):
    """The dense one. It never ends itself."""

    def __init__(self, family: TaskFamily, seed: int) -> None:
        self._place: NDArray[np.float64] = np.zeros(2)
        super().__init__(family, seed, obs_size=2, action_size=2)

    def render(self) -> Any:
        """Return the plane from above as RGB `(128, 128, 3)`: the robot blue, the goal red, the unit circle grey."""
        grid = np.linspace(-VIDEO_REACH, VIDEO_REACH, VIDEO_SIZE)
        x, y = np.meshgrid(grid, grid[::-1])
        frame = np.full((VIDEO_SIZE, VIDEO_SIZE, 3), 255, np.uint8)
        frame[np.abs(np.hypot(x, y) - 1.0) < 0.012] = GREY
        for place, colour in ((self._goal, RED), (self._place, BLUE)):
            frame[np.hypot(x - place[0], y - place[1]) < 0.06] = colour
        return frame

    def _play(self, task: Task) -> None:
        self._goal = np.array(task.parameters["goal"])

    def _begin(self) -> None:
        self._place = self.np_random.uniform(-1.0, 1.0, 2)

    def _observe(self) -> Array:
        return self._place.astype(np.float32)

    def _advance(self, action: Array) -> tuple[float, bool, dict[str, Any]]:
        self._place = self._place + STRIDE * action
        return -math.hypot(*(self._place - self._goal)), False, {}

    def _save(self) -> Tree:
        return self._place.copy()

    def _load(self, state: Tree) -> None:
        self._place = np.array(state, np.float64)


class SparsePointRobotEnv(PointRobotEnv):
    """From the origin; the sparse reward beside the dense one."""

    def __init__(self, family: "SparsePointRobot", seed: int) -> None:
        self._radius = family.goal_radius
        super().__init__(family, seed)

    def _begin(self) -> None:
        self._place = np.zeros(2)

    def _advance(self, action: Array) -> tuple[float, bool, dict[str, Any]]:
        reward, ended, _ = super()._advance(action)
        return reward, ended, {"context_reward": 1.0 + reward if reward >= -self._radius else 0.0}


@dataclass(frozen=True)
class PointRobot(TaskFamily):
    """Settings of `env=point_robot`: goal and first position uniform in [-1, 1]²."""

    plays: ClassVar = PointRobotEnv
    train_tasks: int = 80
    test_tasks: int = 20
    horizon: int = 20

    def tasks(self) -> TaskSet:
        """Return goals; vector: x and y."""

        def draw(random: np.random.Generator) -> tuple[str, dict[str, Any], tuple[float, ...]]:
            return _goal(*random.uniform(-1.0, 1.0, 2).tolist())

        return draw_tasks(self, draw)


@dataclass(frozen=True)
class SparsePointRobot(TaskFamily):
    """Settings of `env=sparse_point_robot`: from the origin to a goal on the upper half of the unit circle.

    Goals are evenly spaced on it, shuffled, and dealt out to training and test, as in the original. Training is given
    the dense reward; `info["context_reward"]` is the sparse one, which context and evaluation are about: 1 - distance
    within `goal_radius`, else 0.
    """

    plays: ClassVar = SparsePointRobotEnv
    train_tasks: int = 80
    test_tasks: int = 20
    horizon: int = 20
    goal_radius: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.goal_radius <= 0:
            raise ValueError(f"env.goal_radius must be above 0, got {self.goal_radius}")

    def tasks(self) -> TaskSet:
        """Return goals; vector: x and y."""
        angles = np.linspace(0.0, math.pi, self.train_tasks + self.test_tasks)
        shuffled = iter(np.random.default_rng(self.task_seed).permutation(angles).tolist())

        def draw(random: np.random.Generator) -> tuple[str, dict[str, Any], tuple[float, ...]]:
            angle = next(shuffled)
            return _goal(math.cos(angle), math.sin(angle))

        return draw_tasks(self, draw)


def _goal(x: float, y: float) -> tuple[str, dict[str, Any], tuple[float, ...]]:
    return f"x={x:.2f} y={y:.2f}", {"goal": [x, y]}, (x, y)
