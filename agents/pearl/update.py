"""PEARL's losses as functions of tensors (Rakelly et al. 2019, arXiv 1903.08254, algorithm 1).

Gradient sources, in one place: the critic's loss, the KL to the prior and the heads train the context encoder (the
first only if `critic_to_context`); actor, temperature and value function see the latent detached.
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from rlrep.contrast import effective_rank
from rlrep.heads import Metrics
from rlrep.nn import Gaussians
from rlrep.nn.distributions import sample_squashed
from rlrep.replay import Batch, Transitions

from ..heads import Heads, Scalars
from ..meeting import Owned
from ..sac.update import CriticGradients, td_target
from .networks import Networks

Reduction = Literal["mean", "sum"]


@dataclass(frozen=True)
class Weights:
    """What enters the encoder's loss. kl: factor of the KL, its `reduction` over the meta-batch."""

    kl: float
    reduction: Reduction
    critic_to_context: bool


def critic_gradients(
    nets: Networks,
    heads: Heads,
    owned: Owned,
    batch: Batch,
    latent: Tensor | None,
    noise: Tensor,
    latent_noise: Tensor,
    weights: Weights,
) -> CriticGradients:
    """Differentiate everything that reaches the critic, the context encoder and the heads.

    latent: `(T, D)` where it is given (an oracle's), else it is inferred. noise: `(T * B, A)` of the next action.
    """
    loss, joined, belief, metrics = encoder_loss(nets, batch, latent, noise, latent_noise, weights)
    read = joined if belief is None else belief.mean
    found = heads.differentiate(loss, batch, read, nets.encoders(), owned, meet_at_latent=False)
    metrics |= found.metrics
    joined = joined.detach()
    return CriticGradients(found.joint, found.own, joined, joined, Scalars.stack(metrics))


def encoder_loss(
    nets: Networks,
    batch: Batch,
    latent: Tensor | None,
    noise: Tensor,
    latent_noise: Tensor,
    weights: Weights,
) -> tuple[Tensor, Tensor, Gaussians | None, Metrics]:
    """Return the critic's loss plus the weighted KL, (observation, latent) `(T * B, F)`, the belief, and metrics."""
    belief, metrics = None, {}
    if latent is None:
        belief = nets.posterior(_context(batch))
        latent = belief.sample(latent_noise)
        metrics = {"context/kl": belief.kl().detach().mean(), "context/std": belief.var.detach().sqrt().mean()}
    loss, joined, more = critic_loss(nets, batch, latent if weights.critic_to_context else latent.detach(), noise)
    if belief is not None and weights.kl:
        kl = belief.kl()
        loss = loss + weights.kl * (kl.mean() if weights.reduction == "mean" else kl.sum())
    return loss, joined, belief, more | metrics


def critic_loss(nets: Networks, batch: Batch, latent: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Metrics]:
    """Return the squared Bellman errors of both Q functions, summed, what they read `(T * B, F)`, and metrics."""
    joined = join(batch.obs, latent)
    seen = replace(batch, obs=joined, next_obs=join(batch.next_obs, latent.detach()))
    target = td_target(nets, seen, noise) if nets.target_v is None else value_target(nets, seen)
    q = nets.q(joined, batch.action)
    loss = (q - target).square().mean(1).sum()
    return loss, joined, {"loss/critic": loss.detach(), "q/mean": q.detach().mean(), "q/target": target.mean()}


@torch.no_grad()
def value_target(nets: Networks, batch: Batch) -> Tensor:
    """Bellman target `(B,)` of the original: r + discount V'(s', z)."""
    assert nets.target_v is not None
    value: Tensor = nets.target_v(batch.next_obs)
    return batch.reward + batch.discount * value


def value_gradients(
    nets: Networks, parameters: list[Tensor], joined: Tensor, noise: Tensor
) -> tuple[tuple[Tensor, ...], Scalars]:
    """Differentiate the value function's squared error to min Q(s, a, z) - alpha log pi(a | s, z). joined: detached."""
    assert nets.v is not None
    with torch.no_grad():
        mean, log_std = nets.actor(joined)
        action, log_prob = sample_squashed(mean, log_std, noise)
        target = nets.q(joined, action).amin(0) - nets.log_alpha.exp() * log_prob
    loss = (nets.v(joined) - target).square().mean()
    return torch.autograd.grad(loss, parameters), Scalars.stack({"loss/value": loss.detach()})


def join(obs: Tensor, latent: Tensor) -> Tensor:
    """Append each task's latent `(T, D)` to its rows of obs `(T * B, S)`."""
    rows = latent[:, None].expand(-1, len(obs) // len(latent), -1).flatten(0, 1)
    return torch.cat([obs, rows], 1)


def diagnose(
    nets: Networks, heads: Heads, owned: Owned, batch: Batch, noise: Tensor, latent_noise: Tensor, weights: Weights
) -> Metrics:
    """Meters of the belief, and each head's pull on the context encoder's parameters relative to critic and KL."""
    loss, _, belief, _ = encoder_loss(nets, batch, None, noise, latent_noise, weights)
    assert belief is not None
    rank = {"context/effective_rank": effective_rank(belief.mean.detach())}
    return rank | heads.ratios(loss, batch, belief.mean, nets.encoders(), owned, meet_at_latent=False)


def _context(batch: Batch) -> Transitions:
    assert batch.context is not None
    return batch.context
