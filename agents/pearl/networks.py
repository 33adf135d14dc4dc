"""PEARL's modules beside SAC's: what turns transitions into Gaussians of the task latent."""

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from rlrep.contrast import MomentumTarget
from rlrep.heads import Encoders
from rlrep.nn import Encoder, Gaussians, mlp, product
from rlrep.replay import Transitions

from ..sac import networks as sac
from ..sac.networks import Actor, TwinQ

LEAST_VARIANCE = 1e-7


class ContextEncoder(nn.Module):
    """One Gaussian per transition, whatever the others: their product does not depend on the order.

    next_obs: whether a transition's next observation is read; terminals never are.
    """

    def __init__(
        self, obs_dim: int, action_dim: int, latent_dim: int, hidden_dim: int, layers: int, *, next_obs: bool
    ) -> None:
        super().__init__()
        self._next_obs = next_obs
        width = obs_dim * (1 + next_obs) + action_dim + 1
        self.layers = mlp(width, [hidden_dim] * layers, 2 * latent_dim)

    def forward(self, context: Transitions) -> Gaussians:
        """Map R windows of W transitions to Gaussians `(R, W, D)`."""
        return to_gaussians(self.layers(flat(context, next_obs=self._next_obs)))


class RecurrentEncoder(nn.Module):
    """One Gaussian per window, from a GRU's last state: the order counts."""

    def __init__(
        self, obs_dim: int, action_dim: int, latent_dim: int, hidden_dim: int, layers: int, *, next_obs: bool
    ) -> None:
        super().__init__()
        self._next_obs = next_obs
        width = obs_dim * (1 + next_obs) + action_dim + 1
        self.body = mlp(width, [hidden_dim] * max(layers - 2, 0), hidden_dim)
        self.memory = nn.GRU(hidden_dim, hidden_dim, batch_first=True)
        self.last = nn.Linear(hidden_dim, 2 * latent_dim)

    def forward(self, context: Transitions) -> Gaussians:
        """Map R windows of W transitions to Gaussians `(R, 1, D)`."""
        hidden = self.body(flat(context, next_obs=self._next_obs)).relu()
        _, state = self.memory(hidden)
        return to_gaussians(self.last(state[-1])[:, None])


def flat(context: Transitions, *, next_obs: bool) -> Tensor:
    """Return transitions as vectors `(R, W, F)`."""
    parts = [context.obs, context.action, context.reward[..., None]]
    return torch.cat([*parts, context.next_obs] if next_obs else parts, -1)


def to_gaussians(raw: Tensor) -> Gaussians:
    """Split `(..., 2 D)` into mean and variance, which softplus keeps positive."""
    mean, var = raw.chunk(2, -1)
    return Gaussians(mean, softplus(var).clamp(min=LEAST_VARIANCE))


class Networks(sac.Networks):
    """SAC's networks on (observation, latent), and the context encoder with the copy that heads contrast it with.

    context: None where the latent is given (an oracle's) or absent. v: the original's value function, else None.
    """

    def __init__(
        self,
        encoder: Encoder,
        q: TwinQ,
        actor: Actor,
        context: ContextEncoder | RecurrentEncoder | None,
        v: "Value | None",
        *,
        temperature: float,
        critic_tau: float,
        context_tau: float,
    ) -> None:
        super().__init__(encoder, q, actor, temperature=temperature, encoder_tau=critic_tau, critic_tau=critic_tau)
        self.context, self.v = context, v
        self.target_context = None if context is None else MomentumTarget(context, context_tau)
        self.target_v = None if v is None else MomentumTarget(v, critic_tau)

    def posterior(self, context: Transitions) -> Gaussians:
        """Return the belief about the task of each of R contexts, `(R, D)`."""
        assert self.context is not None
        return product(self.context(context))

    def encoders(self) -> Encoders:
        """Return what heads encode with."""
        return Encoders(self.encoder, self.target_encoder, self.context, self.target_context)


class Value(nn.Module):
    """State value of (observation, latent) `(B, F)`: `(B,)`."""

    def __init__(self, latent_dim: int, hidden_dim: int, hidden_layers: int) -> None:
        super().__init__()
        self.layers = mlp(latent_dim, [hidden_dim] * hidden_layers, 1)

    def forward(self, latent: Tensor) -> Tensor:
        """Return values."""
        value: Tensor = self.layers(latent).squeeze(-1)
        return value
