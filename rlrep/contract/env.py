"""What environments and the loops around them promise each other. NumPy only: simulator processes import it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from gymnasium import Env, spaces
from numpy.typing import NDArray

Array = NDArray[Any]
Tree = Any
"""State of a component: nested dicts and lists of tensors, arrays, numbers, strings and None."""


@dataclass(frozen=True)
class Step:
    """One step of N environments with same-step autoreset.

    obs `(N, ...)`: observation to act on next (the new episode's first where one ended).
    final_obs `(N, ...)`: observation the action led to (differs from `obs` only where an episode ended).
    reward, terminated, truncated `(N,)`.
    died `(N,)` bool: the worker was lost; its episode ends here and must not be trained on.
    success `(N,)`: flag of the step, NaN where the env has none.
    score `(N,)`: raw return of the whole game on the step that really ended it (see `gives_score`), else NaN.
    context_reward `(N,)`: the reward as known at test, where training is given a denser one; NaN = `reward`.
    """

    obs: Array
    final_obs: Array
    reward: NDArray[np.float32]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    died: NDArray[np.bool_]
    success: NDArray[np.float32]
    score: NDArray[np.float32]
    context_reward: NDArray[np.float32]


@dataclass(frozen=True)
class Task:
    """One task of a family.

    name: what logs and plots call it. parameters: plain numbers, strings and lists, all that `set_task` needs.
    vector: the same as numbers, of one length in the whole family, for agents that may see the task.
    """

    name: str
    parameters: dict[str, Any] = field(hash=False)
    vector: tuple[float, ...] = ()


@dataclass(frozen=True)
class TaskSet:
    """A family's tasks; train and test are disjoint unless the family has too few for that."""

    train: tuple[Task, ...]
    test: tuple[Task, ...]


class VectorEnv(Protocol):
    """N environments stepped together (`envs/vector.py`).

    set_task: the task of one environment from its next episode on (ValueError where there are none).
    gives_score: whether `Step.score` counts in place of an episode's summed rewards (which may be clipped, and episodes
    parts of games). exact: whether `state()` holds everything; if not, `load_state` begins new episodes and the next
    step says that the old ones were lost. notes: what is worth saying of the environment, a line each.
    """

    num_envs: int
    single_observation_space: spaces.Box
    single_action_space: spaces.Box | spaces.Discrete
    frame_stack: int  # frames in one observation; 1 for states
    action_repeat: int  # env steps per agent step
    gives_score: bool
    exact: bool

    @property
    def notes(self) -> Sequence[str]: ...
    def reset(self, seeds: list[int] | None = None) -> Array: ...
    def set_task(self, index: int, task: Task) -> None: ...
    def restart(self, index: int, seed: int) -> Array: ...
    def step_async(self, actions: Array) -> None: ...
    def step_wait(self) -> Step: ...
    def render(self, index: int) -> NDArray[np.uint8]: ...
    def state(self) -> list[Tree]: ...
    def load_state(self, states: list[Tree]) -> Array: ...
    def close(self) -> None: ...


class EnvMaker(Protocol):
    """Makes an environment: any of gymnasium's whose spaces `envs/fitting.py` takes.

    Optional in the environment: `frame_stack` and `action_repeat`, 1 without; `state()` and `load_state(state)`,
    without which a resumed run begins a new episode; `gives_score = True` where `info["score"]` is the raw return of
    a whole game, on the step that really ended it (rewards may be clipped, and episodes parts of games).
    """

    def make(self, seed: int) -> Env[Any, Any]: ...


class EnvConfig(EnvMaker, Protocol):
    """An `env=` choice: the dataclass behind its `_target_`.

    num_envs: simulators of the training env. make: one of them, as `envs/vector.py` takes it.
    Optional: `obs` (`pixels` or `state`, which picks encoder and agent settings; without it, configs with a `size` give
    pixels); `in_workers` (bool: in processes of their own); `random_return`, `human_return` and `optimal_return`
    (floats or None, drawn into the learning curve; the first two normalise scores); `evaluation() -> EnvConfig` (what
    evaluation plays, where that differs from training); `vector(seeds) -> VectorEnv | None` (a vector environment of
    its own; None = ours, from `make`); `presets` (the suffix of the preset and other files that go with it).
    """

    @property
    def num_envs(self) -> int: ...


class TaskFamily(EnvConfig, Protocol):
    """An `env=` choice with many tasks. horizon: agent steps of an episode, at most."""

    @property
    def horizon(self) -> int: ...
    def tasks(self) -> TaskSet: ...
