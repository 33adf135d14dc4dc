"""Walkers and hoppers whose bodies differ from task to task: masses, inertias, joint damping and friction.

Distribution of Lee's rand_param_envs, as PEARL uses it (Rakelly et al. 2019, arXiv 1903.08254): every entry of a
parameter array is multiplied by base^u, u uniform in [-3, 3]; base 1.3 for damping, else 1.5. Observations, rewards,
ends and the agent step of 0.016 s (4 simulation steps of 0.004) are those of the original. Departures:
- gymnasium's v5 models: both of the walker's feet have friction 1.9 (one of the original's had 0.9);
- MuJoCo 3 in place of 1.31, and constants derived from the parameters (inverse weights, centres of the subtrees) are
  computed anew for every task, which the original did not do;
- tasks come from a generator of their own; the original's from numpy's global one, never seeded.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from rlrep.contract.env import Array, Task, TaskSet

from .base import TaskFamily, draw_tasks
from .robot import Robot, RobotEnv, flat

BASES = {"body_mass": 1.5, "body_inertia": 1.5, "dof_damping": 1.3, "geom_friction": 1.5}
LIMIT = 3.0  # of the exponents
WALKER = Robot("walker2d_v5.xml", timestep=0.004, frame_skip=4, noise=0.005)
HOPPER = Robot("hopper.xml", timestep=0.004, frame_skip=4, noise=0.005)


class RandParamsEnv(RobotEnv):
    """Run forward, stay up: velocity + 1 - 0.001 |a|²; observes positions but x, and velocities clipped to ±10."""

    def __init__(self, family: TaskFamily, seed: int) -> None:
        self._originals = originals(self.robot)
        super().__init__(family, seed)

    def _check(self, task: Task) -> None:
        for name, original in self._originals.items():
            found = np.shape(task.parameters[name])
            if found != original.shape:
                raise ValueError(
                    f"task {task.name} has {name} of shape {found}; {self.robot.model} needs {original.shape}"
                )

    def _play(self, task: Task) -> None:
        for name, original in self._originals.items():
            getattr(self._model, name)[:] = original * np.asarray(task.parameters[name])
        self._mujoco.mj_setConst(self._model, self._data)

    def _observe(self) -> Array:
        data = self._data
        return flat(data.qpos[1:], np.clip(data.qvel, -10, 10))

    def _reward(self, velocity: NDArray[np.float64]) -> float:
        return float(velocity[0] + 1.0 - 1e-3 * np.square(self._data.ctrl).sum())


class WalkerEnv(RandParamsEnv):
    """The walker has fallen where its torso is not between 0.8 and 2 m high, or leans by a radian."""

    robot, obs_size = WALKER, 17

    def _fallen(self) -> bool:
        _, height, angle = self._data.qpos[:3]
        return not (0.8 < height < 2.0 and -1.0 < angle < 1.0)


class HopperEnv(RandParamsEnv):
    """The hopper has fallen where its torso is below 0.7 m or leans by 0.2 radians, or a coordinate beyond 100."""

    robot, obs_size = HOPPER, 11

    def _fallen(self) -> bool:
        data = self._data
        _, height, angle = data.qpos[:3]
        tame = (np.abs(np.concatenate([data.qpos[2:], data.qvel])) < 100).all()  # NaN is not
        return not (tame and height > 0.7 and abs(angle) < 0.2)


@dataclass(frozen=True)
class WalkerRandParams(TaskFamily):
    """Settings of `env=walker_rand_params`."""

    plays: ClassVar[type[RandParamsEnv]] = WalkerEnv
    train_tasks: int = 40
    test_tasks: int = 10

    def tasks(self) -> TaskSet:
        """Return bodies; vector: the exponents as shares of their limit, in [-1, 1]."""
        return _bodies(self, self.plays.robot)


@dataclass(frozen=True)
class HopperRandParams(WalkerRandParams):
    """Settings of `env=hopper_rand_params`."""

    plays: ClassVar[type[RandParamsEnv]] = HopperEnv


def originals(robot: Robot) -> dict[str, NDArray[np.float64]]:
    """Return the model's own parameters, by name."""
    model = robot.load()
    return {name: np.array(getattr(model, name)) for name in BASES}


def _bodies(family: TaskFamily, robot: Robot) -> TaskSet:
    shapes = {name: array.shape for name, array in originals(robot).items()}

    def draw(random: np.random.Generator) -> tuple[str, dict[str, Any], tuple[float, ...]]:
        exponents = {name: random.uniform(-LIMIT, LIMIT, shape) for name, shape in shapes.items()}
        factors = {name: (BASES[name] ** each).tolist() for name, each in exponents.items()}
        return "", factors, tuple((np.concatenate([each.ravel() for each in exponents.values()]) / LIMIT).tolist())

    return draw_tasks(family, draw)
