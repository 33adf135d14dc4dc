"""What task families have in common: their tasks' draws, and environments that change task between episodes."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces

from rlrep.contract.env import Array, Task, TaskSet, Tree

from ..options import COPIES, MANY, SimulatorConfig, Workers
from ..vector.tasks import task_from, task_state

Draw = Callable[[np.random.Generator], tuple[str, dict[str, Any], tuple[float, ...]]]
"""Returns a new task's label, parameters and vector."""


@dataclass(frozen=True)
class TaskFamily(SimulatorConfig, ABC):
    """Options that every family has.

    train_tasks, test_tasks: how many tasks to draw, from streams of `task_seed` of their own: a test task is the same
    whatever the number of training tasks (not so of `SparsePointRobot`, whose goals are spaced evenly, then dealt out).
    plays: the class of its environments, made of the family and a seed.
    horizon: agent steps until an episode is truncated.
    num_envs: simulators stepped together. workers: whether in processes of their own; `auto` = no: two cores gain
    nothing by processes for steps of a tenth to half of a millisecond (benchmarks/task_steps.py); many may.
    """

    plays: ClassVar[type[Any]]
    presets: ClassVar[str] = "meta"
    train_tasks: int = 100
    test_tasks: int = 30
    task_seed: int = 0
    horizon: int = 200
    num_envs: int = 1
    workers: Workers = "auto"

    def __post_init__(self) -> None:
        self._check_ranges({"train_tasks": MANY, "test_tasks": MANY, "horizon": (1, 2**31 - 1), "num_envs": COPIES})
        self._check_ranges({"task_seed": (0, 2**63 - 1)})

    def _gains_by_workers(self) -> bool:
        return False

    @abstractmethod
    def tasks(self) -> TaskSet:
        """Return the tasks; the same ones for the same options, whatever other random numbers were drawn."""

    def first_task(self) -> Task:
        """Return what an environment plays until told otherwise; not all tasks need be drawn for it."""
        return self.tasks().train[0]

    def make(self, seed: int) -> Any:
        """Build one environment (a `TaskEnv`), which plays the first training task until told otherwise."""
        return self.plays(self, seed)


def draw_tasks(family: TaskFamily, draw: Draw) -> TaskSet:
    """Return as many tasks as the family asks for; one drawn for training is not drawn again for the test."""
    streams = np.random.SeedSequence(family.task_seed).spawn(2)
    train, test = (np.random.default_rng(stream) for stream in streams)
    return TaskSet(
        tuple(_named("train", index, draw(train)) for index in range(family.train_tasks)),
        tuple(_named("test", index, draw(test)) for index in range(family.test_tasks)),
    )


def _named(split: str, index: int, drawn: tuple[str, dict[str, Any], tuple[float, ...]]) -> Task:
    label, parameters, vector = drawn
    return Task(f"{split}-{index} {label}".rstrip(), parameters, vector)


class TaskEnv(gymnasium.Env[Array, Array], ABC):
    """An environment whose task is set between episodes: seeding, time limit and exact state, the rest in `_`-methods.

    Actions in [-1, 1], observations float32. `terminated`: the episode ended itself; `truncated`: the horizon; never
    both.
    """

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012
    render_mode = "rgb_array"
    frame_stack = 1
    action_repeat = 1

    def __init__(self, family: TaskFamily, seed: int, *, obs_size: int, action_size: int) -> None:
        self._horizon, self._steps = family.horizon, 0
        self._task = self._playing = family.first_task()
        self.observation_space = spaces.Box(-np.inf, np.inf, (obs_size,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (action_size,), np.float32)
        self._play(self._task)
        self._obs: Array = self.reset(seed=seed)[0]

    def set_task(self, task: Task) -> None:
        """Play `task` from the next reset on. Raises ValueError for another family's."""
        needed = set(self._task.parameters)
        if set(task.parameters) != needed:
            raise ValueError(
                f"task {task.name} has {_listed(task.parameters)}; {type(self).__name__} needs {_listed(needed)}"
            )
        self._check(task)
        self._task = task

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Start an episode of the task; with `seed` it is the same episode whatever came before."""
        super().reset(seed=seed)
        if self._task != self._playing:
            self._play(self._task)
            self._playing = self._task
        self._steps = 0
        self._begin()
        self._obs = self._observe()
        return self._obs.copy(), {}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Take `action` `(A,)`, clipped to [-1, 1]."""
        reward, terminated, info = self._advance(np.clip(np.asarray(action, np.float64), -1.0, 1.0))
        self._steps += 1
        self._obs = self._observe()
        return self._obs.copy(), reward, terminated, self._steps >= self._horizon and not terminated, info

    def state(self) -> Tree:
        return {
            "random": self.np_random.bit_generator.state,
            "task": task_state(self._task),
            "playing": task_state(self._playing),
            "steps": self._steps,
            "obs": self._obs.copy(),
            "physics": self._save(),
        }

    def load_state(self, state: Tree) -> Array:
        task, playing = task_from(state["task"]), task_from(state["playing"])
        assert task is not None and playing is not None
        self.np_random.bit_generator.state = state["random"]
        self._task, self._playing, self._steps = task, playing, state["steps"]
        self._play(playing)
        self._load(state["physics"])
        self._obs = np.array(state["obs"], np.float32)
        return np.array(self._obs)

    def _check(self, task: Task) -> None:
        """Raise ValueError for a task that cannot be played."""

    @abstractmethod
    def _play(self, task: Task) -> None:
        """Put the task into force."""

    @abstractmethod
    def _begin(self) -> None:
        """Draw an episode's first state."""

    @abstractmethod
    def _observe(self) -> Array:
        """Return the observation, float32 `(D,)`."""

    @abstractmethod
    def _advance(self, action: Array) -> tuple[float, bool, dict[str, Any]]:
        """Take one agent step; return reward, whether the episode ended itself, and the step's info."""

    @abstractmethod
    def _save(self) -> Tree:
        """Return the simulation's state."""

    @abstractmethod
    def _load(self, state: Tree) -> None:
        """Return to it bit for bit."""


def _listed(names: Any) -> str:
    return ", ".join(sorted(names)) or "no parameters"
