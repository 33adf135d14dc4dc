"""Agents that learn while they act in one task: a policy, heads on observations, the replay of one stream of steps."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from gymnasium import spaces
from torch import Generator, Tensor, nn

from rlrep.contract.agent import AgentSpec
from rlrep.contract.env import Array, Step, Tree
from rlrep.heads import Pull
from rlrep.nn import Encoder
from rlrep.replay import Batch, Needs, Priority, Replay, ReplaySpec
from rlrep.replay.sending import sent

from .fleet import Joint, signature
from .heads import Heads
from .learner import Inputs, Learner, Outcome, Update, seeded
from .meeting import trained

N = TypeVar("N", bound=nn.Module)


class Exploring(NamedTuple):
    """What a policy explores by: a random stream, and how many actions have been explored by before."""

    stream: Generator
    acted: int


Policy = Callable[[Tensor, Exploring | None], Tensor]
"""Observations `(N, ...)` as the networks read them to actions `(N, ...)`: exploring ones, or (None) the best known."""
Prepare = Callable[[int, Replay], None]
"""What an agent does before an update, by the number of those made: to its networks, and to what its replay draws."""
Divergence = Callable[[Tensor], Callable[[Tensor], Tensor]]
"""Observations `(N, ...)` to what says how far a policy is moved at others from there, `(N,)`."""


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


class OnlineAgent(Learner[N, Replay]):
    """An agent of one task, see `rlrep.contract.agent.Agent`: an update and a policy on the same networks.

    settings: of its replay. priority: of its draws, None = uniform. prepare: None = updates differ in nothing.
    divergence: None = nobody asks how far it is moved.
    asks: what its own losses need beside the batch, by names that no head has.
    """

    def __init__(
        self,
        title: str,
        spec: AgentSpec,
        settings: Settings,
        step: Update[N],
        policy: Policy,
        priority: Priority | None = None,
        prepare: Prepare | None = None,
        divergence: Divergence | None = None,
        asks: Mapping[str, Needs] | None = None,
    ) -> None:
        layout = _layout(spec, settings, priority)
        replay = Replay(layout, device=spec.device, seed=spec.seed + 1, needs={**step.heads.needs, **(asks or {})})
        super().__init__(title, spec, step, replay)
        self._policy, self._prepare, self.divergence, self._acted = policy, prepare, divergence, 0
        self._space, self._settings, self._channels = spec.action_space, settings, spec.frame_shape[0]

    def update(self) -> None:
        """Make one update, see `Learner.update`."""
        self.prepare()
        super().update()

    def drawn(self) -> tuple[Inputs, Any]:
        """Begin an update, see `Learner.drawn`."""
        self.prepare()
        return super().drawn()

    def prepare(self) -> None:
        """Do what is to be done before an update, see `Prepare`."""
        if self._prepare is not None:
            self._prepare(self.updates, self.replay)

    def act(self, obs: Array, *, explore: bool) -> Array:
        """Return actions `(N, ...)` for stacked observations `(N, ...)`, seen under the fixed view."""
        exploring = Exploring(self.act_stream, self._acted) if explore else None
        with torch.no_grad():
            seen = self.augment.fixed(sent(obs, self.device))
            action: Array = self._policy(seen, exploring).cpu().numpy()
        self._acted += len(action) if explore else 0
        return action

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
        frames, resets = self._newest(step.final_obs), self._newest(step.obs)
        self.replay.add(action, step.reward, step.terminated, step.truncated, frames, resets, step.died)

    def ready(self) -> bool:
        """Whether an update has something to sample."""
        return self.replay.can_sample()

    def alike(self) -> Hashable:
        """Return what is equal in agents that a fleet can compute as one. Raises ValueError, saying why, for one that
        goes alone."""
        if type(self).update is not OnlineAgent.update:
            raise ValueError(f"the updates of {self.title} are of more than one kind")
        return signature(self, self._settings)

    def fleet(self) -> Callable[[Sequence[Any]], None]:
        """Return a function that makes an update of each of several agents that are alike."""
        return Joint().update

    def state(self) -> Tree:
        """Return everything but the replay's rings."""
        return super().state() | {"acted": self._acted}

    def load_state(self, state: Tree) -> None:
        """Restore `state()`, see `Learner.load_state`."""
        super().load_state(state)
        self._acted = state["acted"]

    def _newest(self, obs: Array) -> Array:
        """The newest frame of stacked observations `(N, S*C, ...)`."""
        return obs[:, -self._channels :]

    def _sample(self) -> Batch:
        return self.replay.sample(self._settings.batch_size)

    def _learnt(self, batch: Batch, outcome: Outcome) -> None:
        if outcome.priorities is not None and batch.rows is not None:
            self.replay.update_priorities(batch.rows, outcome.priorities)


def make_parts(
    spec: AgentSpec, networks: Callable[[Encoder], N], pull: Pull, *, modelled: bool = False
) -> tuple[N, Heads]:
    """Build an agent's networks on an encoder, and its heads on the latent.

    pull: of heads that name none. modelled: the agent gives heads a `Rollout` of its own model.
    Raises ValueError if heads have nothing to train, or one does not fit.
    """
    with seeded(spec.seed):
        encoder = spec.encoder.make(spec.view_shape)
        if spec.aux and not trained(encoder):
            instead = "encoder.freeze=false or another encoder.trunk" if list(encoder.parameters()) else "encoder=mlp"
            raise ValueError(f"aux={','.join(spec.aux)} has no encoder to train: choose {instead}")
        nets = networks(encoder)
        fitted = {name: head.fitted(spec.view_shape, spec.frame_stack) for name, head in spec.aux.items()}
        tasks = {
            name: (head.make_on_model if modelled else head.make)(name, encoder.latent_dim, spec.action_space)
            for name, head in fitted.items()
        }
        heads = Heads(tasks, spec.aux, pull)
    return nets.to(spec.device), heads.to(spec.device)


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
