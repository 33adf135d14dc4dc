"""MR.Q: what acts, and the phases in which it learns."""

from collections.abc import Callable

import torch
from torch import Tensor

from rlrep.replay import Batch
from rlrep.views import View

from ..online import Exploring, OnlineAgent
from .networks import Networks
from .update import Due, Update


class MRQ(OnlineAgent[Networks]):
    """An agent whose encoder and model are trained in phases, between which critic and actor see them fixed."""

    step: Update

    def update(self) -> None:
        """Make one update of critic and actor; before every `target_every` of them, a phase of as many steps of encoder
        and model."""
        if self.updates % self.step.target_every == 0:
            self.nets.renew(*self.replay.rewards())
            for _ in range(self.step.target_every):
                self._advance(self._sample, Due(encoder=True))
            self._meters_before = super()._diagnose()
        self.updates += 1
        self._advance(self._sample_alone, self.step.due(self.updates))

    def _sample_alone(self) -> Batch:
        return self.replay.sample(self._settings.batch_size, alone=True)

    def _diagnose(self) -> dict[str, float]:
        """Return the meters as they were at the end of the encoder's last phase."""
        return self._meters_before


def act(nets: Networks, noise: float, obs: Tensor, exploring: Exploring | None) -> Tensor:
    """Return the policy's actions `(N, A)`; to explore, under Gaussian noise of this deviation."""
    action: Tensor = nets.actor(nets.encoder(obs)).tanh()
    if exploring is None:
        return action
    drawn = torch.randn(action.shape, generator=exploring.stream, device=action.device)
    return (action + noise * drawn).clamp(-1, 1)


def divergence(nets: Networks, view: View, obs: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the squared distance `(N,)` of the actions at other observations `(N, ...)` from those at these."""

    def actions(seen: Tensor) -> Tensor:
        return act(nets, 0.0, view.fixed(seen), None)

    with torch.no_grad():
        here = actions(obs)
    return lambda other: (actions(other) - here).square().sum(1)
