"""Agents that learn while they act in one task: heads on observations, the replay of one stream of steps."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol, TypeVar

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rlrep.contract.agent import AgentSpec
from rlrep.contract.env import Array, Step
from rlrep.heads import Head, Pull
from rlrep.nn import Encoder
from rlrep.replay import Batch, Priority, Replay, ReplaySpec

from .heads import Heads
from .learner import Learner, Outcome, Update, seeded
from .meeting import trained

N = TypeVar("N", bound=nn.Module)


class Settings(Protocol):
    """What an agent's replay is told by the agent's config."""

    @property
    def batch_size(self) -> int: ...
    @property
    def capacity(self) -> int: ...
    @property
    def discount(self) -> float: ...
    @property
    def n_step(self) -> int: ...


class OnlineAgent(Learner[N, Replay], ABC):
    """An agent on a `rlrep.replay.Replay`, see `rlrep.contract.agent.Agent`: what is left to say is how it acts.

    settings: of its replay. priority: of its draws, None = uniform.
    """

    def __init__(
        self, spec: AgentSpec, settings: Settings, step: Update[N], heads: Heads, priority: Priority | None = None
    ) -> None:
        self._space, self._batch_size = spec.action_space, settings.batch_size
        self._channels = spec.frame_shape[0]
        layout = _layout(spec, settings, priority)
        needs = {name: task.needs for name, task in heads.tasks.items()}
        replay = Replay(layout, device=spec.device, seed=spec.seed + 1, needs=needs)
        super().__init__(spec, step, heads, replay)

    @abstractmethod
    def act(self, obs: Array, *, explore: bool) -> Array:
        """Return actions `(N, ...)` for stacked observations `(N, ...)`."""

    def seen(self, obs: Array) -> Tensor:
        """Return observations `(N, ...)` as the networks read them when the agent acts: under the fixed view."""
        view: Tensor = self.augment.fixed(torch.as_tensor(obs, device=self.device))
        return view

    def random_actions(self, count: int) -> Array:
        """Return uniform actions: whole numbers `(count,)`, or `(count, A)` in [-1, 1]."""
        if isinstance(self._space, spaces.Discrete):
            drawn = torch.randint(int(self._space.n), (count,), generator=self.act_stream, device=self.device)
        else:
            size = (count, int(np.prod(self._space.shape)))
            drawn = 2 * torch.rand(size, generator=self.act_stream, device=self.device) - 1
        return drawn.cpu().numpy()

    def begin(self, obs: Array) -> None:
        """Take the first observations `(N, ...)` of new episodes."""
        self.replay.begin(self._newest(obs))

    def observe(self, action: Array, step: Step) -> None:
        """Store one vector step."""
        self.replay.add(
            action,
            step.reward,
            step.terminated,
            step.truncated,
            self._newest(step.final_obs),
            self._newest(step.obs),
            step.died,
        )

    def ready(self) -> bool:
        """Whether an update has something to sample."""
        return self.replay.can_sample()

    def _newest(self, obs: Array) -> Array:
        """The newest frame of stacked observations `(N, S*C, ...)`."""
        return obs[:, -self._channels :]

    def _sample(self) -> Batch:
        return self.replay.sample(self._batch_size)

    def _learnt(self, batch: Batch, outcome: Outcome) -> None:
        if outcome.priorities is not None and batch.rows is not None:
            self.replay.update_priorities(batch.rows, outcome.priorities)


def make_parts(spec: AgentSpec, networks: Callable[[Encoder], N], pull: Pull) -> tuple[N, Heads]:
    """Build an agent's networks on an encoder, and its heads on the latent. pull: of heads that name none.

    Raises ValueError if heads have nothing to train, or one does not fit.
    """
    with seeded(spec.seed):
        encoder = spec.encoder.make(spec.view_shape)
        nets, heads = networks(encoder), Heads(_make_heads(spec, encoder), spec.aux, pull)
    return nets.to(spec.device), heads.to(spec.device)


def _make_heads(spec: AgentSpec, encoder: Encoder) -> dict[str, Head]:
    if spec.aux and not trained(encoder):
        instead = "encoder.freeze=false or another encoder.trunk" if list(encoder.parameters()) else "encoder=mlp"
        raise ValueError(f"aux={','.join(spec.aux)} has no encoder to train: choose {instead}")
    return {
        name: head.fitted(spec.view_shape, spec.frame_stack).make(name, encoder.latent_dim, spec.action_space)
        for name, head in spec.aux.items()
    }


def _layout(spec: AgentSpec, settings: Settings, priority: Priority | None) -> ReplaySpec:
    discrete = isinstance(spec.action_space, spaces.Discrete)
    return ReplaySpec(
        frame_shape=spec.frame_shape,
        frame_dtype=torch.uint8 if spec.observation_space.dtype == np.uint8 else torch.float32,
        frame_stack=spec.frame_stack,
        action_shape=() if discrete else (int(np.prod(spec.action_space.shape)),),
        action_dtype=torch.int64 if discrete else torch.float32,
        num_envs=spec.num_envs,
        capacity=settings.capacity,
        n_step=settings.n_step,
        discount=settings.discount,
        priority=priority,
    )
