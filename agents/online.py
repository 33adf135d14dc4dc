"""Agents that learn while they act in one task: heads on observations, the replay of one stream of steps."""

from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rlrep.contract.agent import AgentSpec
from rlrep.heads import Head, Metrics, Pull, fitted
from rlrep.nn import Encoder
from rlrep.replay import Batch, Priority, Replay, ReplaySpec

from .learner import Learner, Networks, Outcome, Precision, trained

N = TypeVar("N", bound=Networks)


class OnlineLearner(Learner[N, Replay]):
    """A learner on a `rlrep.replay.Replay`. See `rlrep.contract.agent.Agent`."""

    def __init__(
        self,
        spec: AgentSpec,
        make_networks: Callable[[tuple[int, ...]], N],
        layout: ReplaySpec,
        *,
        batch_size: int,
        pull: Pull,
        precision: Precision,
    ) -> None:
        self._batch_size, self._channels = batch_size, layout.frame_shape[0]
        replay = partial(Replay, layout, device=spec.device, seed=spec.seed + 1)
        super().__init__(
            spec,
            make_networks,
            lambda nets: make_heads(spec, nets.encoder),
            lambda needs: replay(needs=needs),
            pull=pull,
            precision=precision,
        )

    @abstractmethod
    def act(self, obs: NDArray[Any], *, explore: bool) -> NDArray[Any]:
        """Return actions `(N, ...)` for stacked observations `(N, ...)`."""

    @abstractmethod
    def random_actions(self, count: int) -> NDArray[Any]:
        """Return uniform actions `(count, ...)`."""

    def begin(self, obs: NDArray[Any]) -> None:
        """Take the first observations `(N, ...)` of new episodes."""
        self.replay.begin(self._newest(obs))

    def observe(self, action: NDArray[Any], step: Any) -> None:
        """Store one vector step (a `rlrep.contract.agent.Step`)."""
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

    def _newest(self, obs: NDArray[Any]) -> NDArray[Any]:
        """The newest frame of stacked observations `(N, S*C, ...)`."""
        return obs[:, -self._channels :]

    def _sample(self) -> Batch:
        return self.replay.sample(self._batch_size)

    def _learnt(self, batch: Batch, outcome: Outcome) -> None:
        if outcome.priorities is not None and batch.rows is not None:
            self.replay.update_priorities(batch.rows, outcome.priorities)

    def _meters(self, batch: Batch, noise: Tensor) -> Metrics:
        """Return nothing where there is no encoder to know anything of."""
        return self._encoder_meters(batch, noise) if list(self.nets.encoder.parameters()) else {}

    @abstractmethod
    def _encoder_meters(self, batch: Batch, noise: Tensor) -> Metrics:
        """Return what is worth knowing of a batch's encoding. Draws nothing, changes nothing."""


def make_heads(spec: AgentSpec, encoder: Encoder) -> dict[str, Head]:
    """Build every head on the latent. Raises ValueError if there is nothing to train, or a head does not fit."""
    if spec.aux and not trained(encoder):
        instead = "encoder.freeze=false or another encoder.trunk" if list(encoder.parameters()) else "encoder=mlp"
        raise ValueError(f"aux={','.join(spec.aux)} has no encoder to train: choose {instead}")
    for name, head in spec.aux.items():
        if not hasattr(head, "make"):
            raise ValueError(f"aux={name} tells tasks apart, so it needs a family of them: use it with agent=pearl")
    return {
        name: fitted(head, spec.view_shape).make(name, encoder.latent_dim, spec.action_space)
        for name, head in spec.aux.items()
    }


def replay_layout(
    spec: AgentSpec,
    action_shape: tuple[int, ...],
    action_dtype: torch.dtype,
    *,
    capacity: int,
    n_step: int,
    discount: float,
    priority: Priority | None = None,
) -> ReplaySpec:
    """Return the layout of an environment's replay."""
    return ReplaySpec(
        frame_shape=spec.frame_shape,
        frame_dtype=torch.uint8 if spec.observation_space.dtype == np.uint8 else torch.float32,
        frame_stack=spec.frame_stack,
        action_shape=action_shape,
        action_dtype=action_dtype,
        num_envs=spec.num_envs,
        capacity=capacity,
        n_step=n_step,
        discount=discount,
        priority=priority,
    )
