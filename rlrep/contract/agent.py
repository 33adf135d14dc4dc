"""What the loops and agents promise each other."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from gymnasium import spaces
from torch import Tensor

from .env import Array, Step, Task, Tree
from .meta import Job, Trajectory


class Rows(Protocol):
    """Columns of equal length that are only ever appended to, of which the newest `capacity` rows are stored.

    columns: by name, each `(capacity, *shape)`. written: rows ever appended. oldest: first row still stored.
    read: copies of rows start..stop-1. restore: puts rows back at start, the last of them the newest.
    """

    capacity: int
    written: int
    columns: dict[str, Tensor]

    @property
    def oldest(self) -> int: ...
    def read(self, start: int, stop: int) -> dict[str, Tensor]: ...
    def restore(self, start: int, rows: Mapping[str, Tensor]) -> None: ...


class Trainee(Protocol):
    """What every loop asks of a learner with its replay. rings: the replay's columns, saved in chunks that checkpoints
    share."""

    updates: int

    @property
    def rings(self) -> Mapping[str, Rows]: ...

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
