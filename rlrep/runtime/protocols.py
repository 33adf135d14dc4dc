"""What the training loop asks of agents and environments. It imports neither."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from gymnasium import Env, spaces
from numpy.typing import NDArray
from torch import Tensor

from rlrep.replay.ring import Ring
from rlrep.replay.tasks import Job, Trajectory

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


class Task(Protocol):
    """One task of a family (`envs/tasks.py`). vector: what an agent that may see the task is shown."""

    @property
    def name(self) -> str: ...
    @property
    def parameters(self) -> dict[str, Any]: ...
    @property
    def vector(self) -> tuple[float, ...]: ...


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


class Trainee(Protocol):
    """What every loop asks of a learner with its replay."""

    updates: int
    rings: Mapping[str, Ring]  # append-only replay columns, saved in chunks that checkpoints share

    def ready(self) -> bool: ...
    def update(self) -> None: ...
    def metrics(self) -> dict[str, float]: ...
    def nonfinite(self) -> list[str]: ...
    def last_batch(self) -> dict[str, Tensor]: ...
    def describe(self) -> list[str]: ...
    def state(self) -> Tree: ...
    def load_state(self, state: Tree) -> None: ...


class Agent(Trainee, Protocol):
    """A learner in one task. All arrays are batched over the N training envs (acting takes any N)."""

    def act(self, obs: Array, *, explore: bool) -> Array: ...
    def random_actions(self, count: int) -> Array: ...
    def begin(self, obs: Array) -> None: ...
    def observe(self, action: Array, step: Step) -> None: ...


class MetaAgent(Trainee, Protocol):
    """A learner of many tasks that acts by a latent `(D,)` per episode, its guess at the task.

    act: the policy's mean, or its sample by standard normal noise `(N, A)`.
    plan: what to collect in an iteration. begin: a job's collection begins. observe: an episode of a training task.
    train_latent, test_latent: a latent for the next episode, given standard normal noise `(D,)`.
    beliefs: means and variances `(R, D)` by R contexts of equal length, None for an agent that infers nothing.
    """

    latent_dim: int

    def act(self, obs: Array, latent: Array, noise: Array | None = None) -> Array: ...
    def plan(self, iteration: int, initial_steps: int) -> list[Job]: ...
    def begin(self, job: Job) -> None: ...
    def observe(self, task: int, episode: Trajectory, *, context: bool) -> None: ...
    def train_latent(self, task: int, noise: Array, *, informed: bool) -> Array: ...
    def test_latent(self, task: Task, episodes: Sequence[Trajectory], noise: Array) -> Array: ...
    def beliefs(self, contexts: Sequence[Trajectory]) -> tuple[Array, Array] | None: ...


class EnvConfig(Protocol):
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
    def make(self, seed: int) -> Env[Any, Any]: ...


class TaskSet(Protocol):
    """A family's tasks."""

    @property
    def train(self) -> Sequence[Task]: ...
    @property
    def test(self) -> Sequence[Task]: ...


class TaskFamily(EnvConfig, Protocol):
    """An `env=` choice with many tasks. horizon: agent steps of an episode, at most."""

    @property
    def horizon(self) -> int: ...
    def tasks(self) -> TaskSet: ...


class AgentConfig(Protocol):
    """An `agent=` choice. One that learns families of tasks has `make_meta` instead; see `MetaAgentConfig`.

    Optional, where a schedule reads the planned length of the run: `depends_on_length = True`, and
    `for_length(agent_steps)`, which returns the config with that schedule settled. `gains_on_pixels = True` where
    compiling pays on a CPU also on frames, `compiles = False` where an update cannot be compiled. `auto`: by group,
    what the agent takes there unless the command line names something else.
    """

    def make(
        self,
        observation_space: spaces.Box,
        action_space: Any,
        *,
        frame_stack: int,
        num_envs: int,
        encoder: Any,
        augment: Any,
        aux: Mapping[str, Any],
        device: torch.device,
        seed: int,
        compile: Any,
    ) -> Agent: ...


class MetaAgentConfig(Protocol):
    """An `agent=` choice that learns a family of tasks."""

    def make_meta(
        self,
        observation_space: spaces.Box,
        action_space: Any,
        *,
        tasks: Sequence[Task],
        horizon: int,
        encoder: Any,
        augment: Any,
        aux: Mapping[str, Any],
        device: torch.device,
        seed: int,
        compile: Any,
    ) -> MetaAgent: ...
