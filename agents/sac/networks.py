"""SAC's modules: a squashed Gaussian actor, and twin Q functions held as one batched network."""

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from rlrep.contrast import MomentumTarget
from rlrep.nn import Encoder, EnsembleLinear, mlp


class Actor(nn.Module):
    """Features `(B, F)` through the actor's own trunk to mean and log standard deviation `(B, A)`."""

    def __init__(
        self,
        trunk: nn.Module,
        latent_dim: int,
        hidden_dim: int,
        action_dim: int,
        log_std_range: tuple[float, float],
        log_std_bound: Literal["squash", "clamp"],
        *,
        hidden_layers: int = 2,
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.layers = mlp(latent_dim, [hidden_dim] * hidden_layers, 2 * action_dim)
        self.low, self.high = log_std_range
        self.log_std_bound = log_std_bound

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and bounded log standard deviation."""
        mean, log_std = self.layers(self.trunk(features)).chunk(2, 1)
        if self.log_std_bound == "clamp":
            return mean, log_std.clamp(self.low, self.high)
        return mean, self.low + 0.5 * (self.high - self.low) * (log_std.tanh() + 1)


class TwinQ(nn.Module):
    """Two Q functions of (latent, action) in batched matrix products; `(2, B)` values."""

    def __init__(self, latent_dim: int, hidden_dim: int, action_dim: int, *, hidden_layers: int = 2) -> None:
        super().__init__()
        dims = (latent_dim + action_dim, *[hidden_dim] * hidden_layers, 1)
        self.layers = nn.ModuleList(EnsembleLinear(2, a, b) for a, b in pairwise(dims))

    def forward(self, latent: Tensor, action: Tensor, *, frozen: bool = False) -> Tensor:
        """Return Q values. `frozen` sends gradient to the inputs only, which is what the actor's loss needs."""
        x = torch.cat([latent, action], 1)
        *hidden, last = self.layers
        for layer in hidden:
            x = layer(x, frozen=frozen).relu()
        return last(x, frozen=frozen).squeeze(-1)  # type: ignore[no-any-return]


class Networks(nn.Module):
    """Everything SAC learns or tracks. The targets never receive gradient."""

    def __init__(
        self, encoder: Encoder, q: TwinQ, actor: Actor, *, temperature: float, encoder_tau: float, critic_tau: float
    ) -> None:
        super().__init__()
        self.encoder, self.q, self.actor = encoder, q, actor
        self.target_encoder, self.target_q = MomentumTarget(encoder, encoder_tau), MomentumTarget(q, critic_tau)
        self.log_alpha = nn.Parameter(torch.tensor(temperature).log())
