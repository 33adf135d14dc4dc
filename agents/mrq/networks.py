"""MR.Q's modules: a model on the encoder's latent, and an actor and twin Q functions on what the two have made."""

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import elu, layer_norm

from rlrep.contrast import MomentumTarget
from rlrep.nn import Encoder, EnsembleLinear, init_xavier
from rlrep.nn.elu import normed_mlp

from .two_hot import make_bins


class Predicted(NamedTuple):
    """What a model says of B steps. terminated `(B,)`: 1 = the episode ends of itself. latent: `(B, D)` of the next
    observation. reward: logits `(B, bins)`."""

    terminated: Tensor
    latent: Tensor
    reward: Tensor


class Model(nn.Module):
    """Latents `(B, D)` and actions `(B, A)` to joint encodings `(B, E)`, and these, linearly, to `Predicted`."""

    def __init__(self, latent_dim: int, action_dim: int, *, action_width: int, hidden_dim: int, bins: int) -> None:
        super().__init__()
        self.action = nn.Linear(action_dim, action_width).apply(init_xavier)
        self.joint = normed_mlp(latent_dim + action_width, hidden_dim, hidden_dim, nn.ELU)
        self.linear = nn.Linear(hidden_dim, 1 + latent_dim + bins).apply(init_xavier)
        self._widths = (1, latent_dim, bins)

    def forward(self, latent: Tensor, action: Tensor) -> Tensor:
        """Return joint encodings of latents and actions."""
        joint: Tensor = self.joint(torch.cat([latent, elu(self.action(action))], 1))
        return joint

    def predict(self, joint: Tensor) -> Predicted:
        """Return what follows."""
        terminated, latent, reward = self.linear(joint).split(self._widths, 1)
        return Predicted(terminated.squeeze(1), latent, reward)


class TwinValue(nn.Module):
    """Two Q functions of joint encodings `(B, E)` in batched products, with LayerNorm and ELU: `(2, B)` values."""

    def __init__(self, joint_dim: int, hidden_dim: int, *, hidden_layers: int = 3) -> None:
        super().__init__()
        widths = [joint_dim, *[hidden_dim] * hidden_layers]
        self.hidden = nn.ModuleList(EnsembleLinear(2, a, b) for a, b in pairwise(widths))
        self.last = EnsembleLinear(2, hidden_dim, 1)
        self.apply(init_xavier)

    def forward(self, joint: Tensor, *, frozen: bool = False) -> Tensor:
        """Return Q values. `frozen` sends gradient to the input only."""
        x = joint
        for layer in self.hidden:
            x = layer(x, frozen=frozen)
            x = elu(layer_norm(x, x.shape[-1:]))
        values: Tensor = self.last(x, frozen=frozen)
        return values.squeeze(-1)


class Networks(nn.Module):
    """Everything MR.Q learns or tracks; the targets are copied now and then.

    reward_scale: mean absolute reward, which the Q functions are in units of; target_scale: which the targets are.
    terminates: 1 once an episode has ended of itself. bins: of rewards.
    """

    reward_scale: Tensor
    target_scale: Tensor
    terminates: Tensor
    bins: Tensor

    def __init__(
        self, encoder: Encoder, model: Model, value: TwinValue, actor: nn.Module, *, bins: int, bound: float
    ) -> None:
        super().__init__()
        self.encoder, self.model, self.value, self.actor = encoder, model, value, actor
        self.target_encoder, self.target_model = MomentumTarget(encoder, 1.0), MomentumTarget(model, 1.0)
        self.target_value, self.target_actor = MomentumTarget(value, 1.0), MomentumTarget(actor, 1.0)
        self.register_buffer("reward_scale", torch.ones(()))
        self.register_buffer("target_scale", torch.zeros(()))
        self.register_buffer("terminates", torch.zeros(()))
        self.register_buffer("bins", make_bins(bins, bound))

    @torch.no_grad()
    def renew(self, reward_scale: Tensor, terminated: Tensor) -> None:
        """Copy the targets. reward_scale, terminated: of the replay, see `Replay.rewards`."""
        for target in (self.target_encoder, self.target_model, self.target_value, self.target_actor):
            target.update()
        self.target_scale.copy_(self.reward_scale)
        self.reward_scale.copy_(reward_scale.clamp(min=1e-8))
        self.terminates.clamp_(min=terminated.float())
