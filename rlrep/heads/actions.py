"""Actions as inputs of a head."""

from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor, nn

from rlrep.nn.actions import per_action


def action_dim(space: spaces.Space[Any]) -> int:
    """Width of an action once encoded: continuous as it is, discrete one-hot. Raises ValueError on other spaces."""
    if isinstance(space, spaces.Box):
        return int(torch.tensor(space.shape).prod())
    if isinstance(space, spaces.Discrete):
        return int(space.n)
    raise ValueError(f"heads that read actions need a Box or Discrete action space, got {space}")


def join_action(latent: Tensor, action: Tensor, dim: int) -> Tensor:
    """Concatenate latents `(B, D)` with actions: float `(B, A)` or int64 `(B,)` made one-hot. Returns `(B, D +
    dim)`."""
    encoded = torch.nn.functional.one_hot(action, dim) if action.ndim == 1 else action
    return torch.cat([latent, encoded.to(latent.dtype)], 1)


def state_action_projector(in_dim: int, hidden_dim: int, out_dim: int) -> nn.Sequential:
    """Build what embeds latents joined with actions, `(B, in_dim)` to `(B, out_dim)`."""
    return nn.Sequential(
        per_action(nn.Linear(in_dim, hidden_dim), 1), nn.ReLU(), nn.Linear(hidden_dim, out_dim), nn.LayerNorm(out_dim)
    )
