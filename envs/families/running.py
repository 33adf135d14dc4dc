"""The running families of PEARL (Rakelly et al. 2019, arXiv 1903.08254): same robot, another direction, speed or goal.

Observations, rewards, agent steps and task distributions are those of the authors' code (katerakelly/oyster), on
gymnasium's v5 models. Departures, all families:
- MuJoCo 3 in place of 2.0, which left contact forces (`cfrc_ext`) at zero: here they cost what the formula says, and
  ant_goal and humanoid_dir observe them, so that these families' returns are not comparable with the published ones;
- tasks come from a generator of their own; the original seeded numpy's global one, or did not seed at all;
- episodes of 200 steps are truncated; the original did not tell the end of an episode from a cut.
The families of one direction and its opposite train and test on the same two tasks, as the original does.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from rlrep.contract.env import Array, Task, TaskSet

from .base import TaskFamily, draw_tasks
from .robot import Robot, RobotEnv, flat

CHEETAH = Robot("half_cheetah.xml", timestep=0.01, frame_skip=5, noise=0.1, normal_velocity=True)
ANT = Robot("ant.xml", timestep=0.01, frame_skip=5, noise=0.1, normal_velocity=True, contact_forces=True)
HUMANOID = Robot("humanoid.xml", timestep=0.003, frame_skip=5, noise=0.01, contact_forces=True)
TORSO = 1  # body, of every model
TOP_SPEED = 3.0  # of cheetah_vel's tasks, m/s
GOAL_RADIUS = 3.0  # of the disc with ant_goal's tasks, m

Vector = NDArray[np.float64]


class CheetahEnv(RobotEnv):
    """Observes positions but x, velocities, and where the torso is (x among it), 20 numbers. It never falls."""

    robot, obs_size = CHEETAH, 20

    def _observe(self) -> Array:
        data = self._data
        return flat(data.qpos[1:], data.qvel, data.xpos[TORSO])

    def _control_cost(self) -> float:
        return 0.05 * float(np.square(self._data.ctrl).sum())


class CheetahDirEnv(CheetahEnv):
    """Reward: velocity in the task's direction - 0.05 |a|²."""

    def _play(self, task: Task) -> None:
        self._direction = task.parameters["direction"]

    def _reward(self, velocity: Vector) -> float:
        return float(self._direction * velocity[0]) - self._control_cost()


class CheetahVelEnv(CheetahEnv):
    """Reward: -|velocity - the task's| - 0.05 |a|²."""

    def _play(self, task: Task) -> None:
        self._speed = task.parameters["speed"]

    def _reward(self, velocity: Vector) -> float:
        return -abs(float(velocity[0] - self._speed)) - self._control_cost()


class AntEnv(RobotEnv):
    """Its place and velocity are the torso's."""

    robot = ANT

    def _position(self) -> Vector:
        return np.array(self._data.xpos[TORSO, :2])

    def _contact_cost(self) -> float:
        return 0.5e-3 * float(np.square(np.clip(self._data.cfrc_ext, -1.0, 1.0)).sum())


class AntDirEnv(AntEnv):
    """Reward: velocity in the direction - 0.5 |a|² - contact cost + 1; it ends off 0.2 to 1 m of the torso's height."""

    obs_size = 27

    def _play(self, task: Task) -> None:
        self._direction = _unit(task)

    def _observe(self) -> Array:
        return flat(self._data.qpos[2:], self._data.qvel)

    def _reward(self, velocity: Vector) -> float:
        control_cost = 0.5 * float(np.square(self._data.ctrl).sum())
        return float(velocity @ self._direction) - control_cost - self._contact_cost() + 1.0

    def _fallen(self) -> bool:
        data = self._data
        finite = np.isfinite(data.qpos).all() and np.isfinite(data.qvel).all()
        return not (finite and 0.2 <= data.qpos[2] <= 1.0)


class AntGoalEnv(AntEnv):
    """Reward: -(|dx| + |dy|) to the goal - 0.1 |a|² - contact cost; it never ends itself.

    Observes all positions and velocities and the contact forces on every body (the world's too), clipped to ±1: 113.
    """

    obs_size = 113

    def _play(self, task: Task) -> None:
        self._goal = np.array(task.parameters["goal"])

    def _observe(self) -> Array:
        data = self._data
        return flat(data.qpos, data.qvel, np.clip(data.cfrc_ext, -1.0, 1.0))

    def _reward(self, velocity: Vector) -> float:
        distance = float(np.abs(self._place - self._goal).sum())
        return -distance - 0.1 * float(np.square(self._data.ctrl).sum()) - self._contact_cost()


class HumanoidDirEnv(RobotEnv):
    """Reward: 1.25 times the centre of mass's velocity in the direction, 5 for being up, less control and impact costs.

    1.25 = 0.25 / 0.003 s of displacement: the original divides by the simulation's step, not the agent's of 0.015 s.
    Observes everything MuJoCo knows of the bodies, the world's zeros among it: 376. It ends off 1 to 2 m of height.
    """

    robot, obs_size = HUMANOID, 376

    def _play(self, task: Task) -> None:
        self._direction = _unit(task)

    def _observe(self) -> Array:
        data = self._data
        return flat(data.qpos[2:], data.qvel, data.cinert, data.cvel, data.qfrc_actuator, data.cfrc_ext)

    def _position(self) -> Vector:
        mass = self._model.body_mass
        return np.asarray(mass @ self._data.xipos[:, :2] / mass.sum())

    def _reward(self, velocity: Vector) -> float:
        control_cost = 0.1 * float(np.square(self._data.ctrl).sum())
        impact_cost = min(0.5e-6 * float(np.square(self._data.cfrc_ext).sum()), 10.0)
        return 1.25 * float(velocity @ self._direction) - control_cost - impact_cost + 5.0

    def _fallen(self) -> bool:
        return not 1.0 <= self._data.qpos[2] <= 2.0


@dataclass(frozen=True)
class CheetahDir(TaskFamily):
    """Settings of `env=cheetah_dir`: run forward, or backward."""

    plays: ClassVar = CheetahDirEnv
    train_tasks: int = 2
    test_tasks: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_two(self, "cheetah_dir")

    def tasks(self) -> TaskSet:
        """Return the two directions; vector: the sign."""
        return _twice(
            [Task(name, {"direction": sign}, (sign,)) for name, sign in (("forward", 1.0), ("backward", -1.0))]
        )


@dataclass(frozen=True)
class CheetahVel(TaskFamily):
    """Settings of `env=cheetah_vel`: run at a speed, uniform in [0, 3] m/s (the original's docstring says 2)."""

    plays: ClassVar = CheetahVelEnv

    def tasks(self) -> TaskSet:
        """Return speeds; vector: the speed in m/s."""

        def draw(random: np.random.Generator) -> tuple[str, dict[str, Any], tuple[float, ...]]:
            speed = float(random.uniform(0.0, TOP_SPEED))
            return f"v={speed:.2f}", {"speed": speed}, (speed,)

        return draw_tasks(self, draw)


@dataclass(frozen=True)
class AntDir(TaskFamily):
    """Settings of `env=ant_dir`: walk in a direction.

    directions: `forward_backward` = the two of the paper's Ant-Fwd-Back (the original's own file left that out, and so
    had two random ones), `random` = angles uniform in the circle.
    """

    plays: ClassVar = AntDirEnv
    train_tasks: int = 2
    test_tasks: int = 2
    directions: Literal["forward_backward", "random"] = "forward_backward"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.directions == "forward_backward":
            _check_two(self, "ant_dir", "; env.directions=random has as many as you like")

    def tasks(self) -> TaskSet:
        """Return directions; vector: cosine and sine."""
        if self.directions == "random":
            return draw_tasks(self, _draw_angle)
        return _twice([_angle_task("forward", 0.0), _angle_task("backward", math.pi)])


@dataclass(frozen=True)
class AntGoal(TaskFamily):
    """Settings of `env=ant_goal`: walk to a place, uniform in a disc of 3 m."""

    plays: ClassVar = AntGoalEnv
    train_tasks: int = 150

    def tasks(self) -> TaskSet:
        """Return goals; vector: x and y in m."""

        def draw(random: np.random.Generator) -> tuple[str, dict[str, Any], tuple[float, ...]]:
            angle, radius = random.uniform(0.0, 2 * math.pi), GOAL_RADIUS * math.sqrt(random.uniform())
            goal = [radius * math.cos(angle), radius * math.sin(angle)]
            return f"x={goal[0]:.2f} y={goal[1]:.2f}", {"goal": goal}, tuple(goal)

        return draw_tasks(self, draw)


@dataclass(frozen=True)
class HumanoidDir(TaskFamily):
    """Settings of `env=humanoid_dir`: walk in a direction, uniform in the circle."""

    plays: ClassVar = HumanoidDirEnv

    def tasks(self) -> TaskSet:
        """Return directions; vector: cosine and sine."""
        return draw_tasks(self, _draw_angle)


def _check_two(family: TaskFamily, name: str, remedy: str = "") -> None:
    if (family.train_tasks, family.test_tasks) != (2, 2):
        counts = f"{family.train_tasks} for training and {family.test_tasks} for the test"
        raise ValueError(f"env={name} has two tasks, forward and backward, not {counts}{remedy}")


def _twice(tasks: list[Task]) -> TaskSet:
    return TaskSet(tuple(tasks), tuple(tasks))


def _angle_task(name: str, angle: float) -> Task:
    return Task(name, {"angle": angle}, (math.cos(angle), math.sin(angle)))


def _draw_angle(random: np.random.Generator) -> tuple[str, dict[str, Any], tuple[float, ...]]:
    angle = float(random.uniform(0.0, 2 * math.pi))
    return f"angle={math.degrees(angle):.0f}", {"angle": angle}, (math.cos(angle), math.sin(angle))


def _unit(task: Task) -> Vector:
    angle = task.parameters["angle"]
    return np.array([math.cos(angle), math.sin(angle)])
