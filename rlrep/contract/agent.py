"""What the loops and agents promise each other."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from .env import Array, Step, Task, Tree
from .meta import Job, Trajectory

CompileMode = Literal["off", "default", "cudagraph"]
"""How an update is executed: as it is, compiled, or compiled and replayed as one launch on a GPU."""


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

    @property
    def updates(self) -> int: ...
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


@runtime_checkable
class Stackable(Protocol):
    """What agents have that a fleet can compute as one.

    alike: equal in those that can. Raises ValueError, saying why in one line, for one that goes alone.
    fleet: a function that makes one update of each of several that are alike.
    """

    def alike(self) -> Hashable: ...
    def fleet(self) -> Callable[[Sequence[Any]], None]: ...


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


@dataclass(frozen=True)
class AgentSpec:
    """What an agent is made from, beside its own settings.

    observation_space: of one environment, frames stacked.
    action_space: of one environment, continuous or discrete.
    encoder: settings of the encoder (`rlrep.nn.EncoderConfig`).
    augment: augmentation of the RL batch (`rlrep.views.View`).
    aux: settings of the heads, by name (`rlrep.heads.HeadConfig`).
    device: where the agent learns.
    seed: of weights and of everything the agent draws.
    compile: how its update is executed.
    frame_stack: frames in one observation, 1 for states.
    num_envs: training environments.
    tasks: training tasks of a family, none where there is a single task.
    horizon: agent steps of an episode of a family, at most.
    """

    observation_space: spaces.Box
    action_space: Any
    encoder: Any
    augment: Any
    aux: Mapping[str, Any] = field(default_factory=dict)
    device: torch.device = field(default_factory=partial(torch.device, "cpu"))
    seed: int = 0
    compile: CompileMode = "off"
    frame_stack: int = 1
    num_envs: int = 1
    tasks: Sequence[Task] = ()
    horizon: int = 0

    @property
    def view_shape(self) -> tuple[int, ...]:
        """Shape of one observation after augmentation."""
        space = self.observation_space
        sample = torch.as_tensor(np.zeros((1, *space.shape), space.dtype))
        return tuple(self.augment.fixed(sample).shape[1:])

    @property
    def frame_shape(self) -> tuple[int, ...]:
        """Shape of one frame of a stacked observation."""
        channels, *rest = self.observation_space.shape
        return (channels // self.frame_stack, *rest)


class AgentConfig:
    """An `agent=` choice: a dataclass of settings with `make`, or `make_meta` where it learns families of tasks.

    A dataclass that does not inherit from this one is completed by it where it is read (`rlrep.settings.complete`).

    gains_on_pixels: whether compiling pays on a CPU also on frames.
    compiles: whether an update can be compiled at all.
    per_run: settings that may differ among runs of a fleet, which are computed as one.
    auto: not read any more; a file chooses by `defaults: [override /encoder: NAME]`.
    """

    gains_on_pixels: ClassVar[bool] = False
    compiles: ClassVar[bool] = True
    per_run: ClassVar[tuple[str, ...]] = ()
    auto: ClassVar[Mapping[str, str]] = {}

    @classmethod
    def learns_families(cls) -> bool:
        """Whether this agent learns families of tasks: it has `make_meta`."""
        return cls.make_meta is not AgentConfig.make_meta

    @property
    def depends_on_length(self) -> bool:
        """Whether a schedule reads the planned length, so that a longer run would have been another from its start."""
        return False

    def remark(self, encoder: Any, obs_shape: tuple[int, ...]) -> str | None:
        """Return what else than their heads sets runs with heads apart, for whoever compares them; None = nothing."""
        return None

    def for_length(self, agent_steps: int) -> "AgentConfig":
        """Return the settings of a run of so many agent steps."""
        return self

    def for_updates(self, updates: int) -> "AgentConfig":
        """Return the settings of a run of so many updates. Raises ValueError if something in them lies beyond."""
        return self

    def make(self, spec: AgentSpec) -> Agent:
        """Build the agent. Raises ValueError in one line if the parts do not fit each other."""
        raise ValueError("this agent learns families of tasks")

    def make_meta(self, spec: AgentSpec) -> MetaAgent:
        """Build the agent for a family of tasks. Raises ValueError in one line if the parts do not fit each other."""
        raise ValueError("this agent learns a single task")
