"""Meta-World's benchmarks as task families: ML1, ML10 and ML45 with hidden goals, MT10 with visible ones.

Yu et al. 2019 (arXiv 1910.10897), environments v3 of `metaworld` 3.1.1. A task is an environment and one of its 50
goals (the package's `rand_vec`: places of object and target). The goals are those that the package's classes draw
(`metaworld.ML1(name, seed=task_seed)` and so on), the training goals for training: `gymnasium.make_vec` gives the test
goals for `Meta-World/ML1-train`.

Observations are float32 `(39,)`: hand, gripper, objects, the same of the step before, and the target, or zeros where it
is hidden; MT10 adds which of its environments it is, one-hot. Rewards are the package's, unscaled (v2: 0 to 10). An
episode never ends itself; `info["success"]` is 1.0 on the steps that solve the task: an episode with one is a success.
An episode depends on the task and the actions only: object and target start where the goal says.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np

from rlrep.contract.env import Array, Scoring, Task, TaskSet, Tree

from ..families.base import TaskEnv, TaskFamily
from .simulator import ACTION_SIZE, HORIZON, OBS_SIZE, Simulator
from .tasks import GOALS, SEEDS, benchmark, check_name, make_tasks, one_hot


@dataclass(frozen=True)
class MetaWorldFamily(TaskFamily):
    """Options of all benchmarks.

    train_tasks, test_tasks: goals of each environment. task_seed: the seed given to the package's class.
    horizon: steps of an episode, 500 at most. reward_version: v2, or v1, the rewards of the first release.
    """

    goal_visible: ClassVar[bool] = False
    appends_name: ClassVar[bool] = False
    train_tasks: int = GOALS
    test_tasks: int = GOALS
    horizon: int = HORIZON
    reward_version: Literal["v1", "v2"] = "v2"
    obs: Literal["state"] = "state"

    def __post_init__(self) -> None:
        super().__post_init__()
        goals = (1, GOALS)
        self._check_ranges({"train_tasks": goals, "test_tasks": goals, "horizon": (1, HORIZON), "task_seed": SEEDS})

    def _gains_by_workers(self) -> bool:
        return self.num_envs > 1

    def train_names(self) -> tuple[str, ...]:
        """Return the environments trained on, in the package's order."""
        return benchmark(type(self).__name__)[0]

    def test_names(self) -> tuple[str, ...]:
        """Return the environments tested on."""
        return benchmark(type(self).__name__)[1]

    def names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.train_names() + self.test_names()))

    def tasks(self) -> TaskSet:
        """Return the benchmark's tasks. Every environment is built once for that: ML45 takes some seconds."""
        train, test, names = self.train_names(), self.test_names(), self.names()
        return TaskSet(
            make_tasks(train, self.task_seed, self.train_tasks, split="train", known=names),
            make_tasks(test, self._test_seed(), self.test_tasks, split="test", known=names),
        )

    def first_task(self) -> Task:
        """Return the first training task, for which one environment is enough."""
        return make_tasks(self.train_names()[:1], self.task_seed, 1, split="train", known=self.names())[0]

    def scoring(self) -> Scoring:
        """Return plain returns, where success is not what counts."""
        return Scoring(suite=type(self).__name__)

    def make(self, seed: int) -> "MetaWorldEnv":
        return MetaWorldEnv(self, seed)

    def _test_seed(self) -> int:
        return self.task_seed


@dataclass(frozen=True)
class ML1(MetaWorldFamily):
    """50 training and 50 test goals of one environment, the target hidden. task: the environment, as `push-v3`."""

    task: str = field(kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_name(self.task)

    def train_names(self) -> tuple[str, ...]:
        return (self.task,)

    def test_names(self) -> tuple[str, ...]:
        return (self.task,)

    def scoring(self) -> Scoring:
        """Return those of the benchmark, under the environment's name."""
        return Scoring(suite="ML1", task=self.task)

    def _test_seed(self) -> int:
        return self.task_seed + 1  # as the package does where both splits have the same environment


@dataclass(frozen=True)
class ML10(MetaWorldFamily):
    """10 training and 5 other test environments, the target hidden."""


@dataclass(frozen=True)
class ML45(MetaWorldFamily):
    """45 training and 5 other test environments, the target hidden."""


@dataclass(frozen=True)
class MT10(MetaWorldFamily):
    """10 environments, target and name seen. Tested on the tasks that are trained on: `test_tasks` of each."""

    goal_visible: ClassVar[bool] = True
    appends_name: ClassVar[bool] = True

    def tasks(self) -> TaskSet:
        """Return the training tasks, and the first `test_tasks` of each environment among them."""
        names = self.train_names()
        most = max(self.train_tasks, self.test_tasks)
        drawn = make_tasks(names, self.task_seed, most, split="train", known=names)
        groups = [drawn[start : start + most] for start in range(0, len(drawn), most)]
        return TaskSet(
            tuple(task for group in groups for task in group[: self.train_tasks]),
            tuple(task for group in groups for task in group[: self.test_tasks]),
        )


class MetaWorldEnv(TaskEnv):
    """Plays any task of a family. A simulator is built for the first task of its environment, and kept."""

    def __init__(self, family: MetaWorldFamily, seed: int) -> None:
        self._family, self._names = family, family.names()
        self._simulators: dict[str, Simulator] = {}
        size = OBS_SIZE + (len(self._names) if family.appends_name else 0)
        super().__init__(family, seed, obs_size=size, action_size=ACTION_SIZE)
        self.metadata = {**type(self).metadata, "render_fps": round(1 / self._simulator.seconds)}

    def render(self) -> Array:
        """Return the scene as RGB `(256, 256, 3)`. Raises RuntimeError without OpenGL."""
        return self._simulator.frame()

    def close(self) -> None:
        for simulator in self._simulators.values():
            simulator.close()

    def _check(self, task: Task) -> None:
        name = task.parameters["env"]
        if name not in self._names:
            raise ValueError(f"task {task.name} is of {name}; this family has {', '.join(self._names)}")

    def _play(self, task: Task) -> None:
        name, family = str(task.parameters["env"]), self._family
        if name not in self._simulators:
            self._simulators[name] = Simulator(
                name, goal_visible=family.goal_visible, reward_version=family.reward_version
            )
        self._simulator = self._simulators[name]
        self._goal: list[float] = task.parameters["rand_vec"]
        self._name = np.array(one_hot(name, self._names) if family.appends_name else (), np.float32)

    def _begin(self) -> None:
        self._values = self._simulator.begin(self._goal)

    def _observe(self) -> Array:
        return np.concatenate((self._values, self._name))

    def _advance(self, action: Array) -> tuple[float, bool, dict[str, Any]]:
        self._values, reward, success = self._simulator.step(action)
        return reward, False, {"success": success}

    def _save(self) -> Tree:
        return {"values": self._values.copy(), "simulator": self._simulator.state()}

    def _load(self, state: Tree) -> None:
        self._simulator.load(self._goal, state["simulator"])
        self._values = np.array(state["values"], np.float32)
