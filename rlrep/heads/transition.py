"""A latent transition model of a head's own: from a latent and an action to the next latent."""

import torch
from torch import Tensor, nn

from rlrep.nn.actions import per_action

from .actions import join_action
from .branches import make_projector


def make_transition(latent_dim: int, action_dim: int, hidden_dim: int) -> nn.Sequential:
    """Build an MLP with LayerNorm from a latent joined with an action to the next latent."""
    first, *others = make_projector(latent_dim + action_dim, hidden_dim, latent_dim)
    return nn.Sequential(per_action(first, 1), *others, nn.LayerNorm(latent_dim))


def roll_out(transition: nn.Module, latent: Tensor, actions: Tensor, action_dim: int) -> Tensor:
    """Return the latents predicted after each of the actions `(K, B, ...)`, `(K, B, D)`, from latents `(B, D)` on."""
    latents = []
    for action in actions.unbind(0):
        latent = transition(join_action(latent, action, action_dim))
        latents.append(latent)
    return torch.stack(latents)
