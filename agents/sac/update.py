"""SAC's losses as functions of tensors (Haarnoja et al. 2018, arXiv 1812.05905), with auxiliary heads on the critic's
encoding.

Gradient sources, in one place: the critic's loss and the heads train the encoder, Q and the heads; the actor's loss,
on the stored and detached encoding, trains the actor alone; the temperature's loss trains the temperature alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from rlrep.aux import AuxTask, Encoded, Encoders, Metrics
from rlrep.contrast import MomentumTarget, effective_rank, feature_std
from rlrep.nn import Encoder
from rlrep.nn.distributions import sample_squashed
from rlrep.replay.batch import Batch

from .networks import Actor, TwinQ

TemperatureLoss = Literal["alpha", "log_alpha"]
"""What multiplies the entropy gap: alpha, as in the paper and SAC-AE, or log alpha, as in Stable-Baselines3.

With alpha the gradient shrinks as alpha falls, faster than Adam's second moment forgets, so the descent slows down.
"""


class Networks(nn.Module):
    """Everything SAC learns or tracks. The targets never receive gradient."""

    def __init__(
        self, encoder: Encoder, q: TwinQ, actor: Actor, *, temperature: float, encoder_tau: float, critic_tau: float
    ) -> None:
        super().__init__()
        self.encoder, self.q, self.actor = encoder, q, actor
        self.target_encoder, self.target_q = MomentumTarget(encoder, encoder_tau), MomentumTarget(q, critic_tau)
        self.log_alpha = nn.Parameter(torch.tensor(temperature).log())


@dataclass(frozen=True)
class Scalars:
    """Named metrics in one tensor `(len(names),)`, so that an update hands over and adds up one tensor instead of
    twenty."""

    names: tuple[str, ...]
    values: Tensor

    @staticmethod
    def stack(metrics: Metrics) -> "Scalars":
        """Join scalar tensors."""
        return Scalars(tuple(metrics), torch.stack([value.float() for value in metrics.values()]))


@dataclass(frozen=True)
class CriticGradients:
    """Gradients in the order of the parameters asked for, and the detached encoding `features`, `latent` that the
    actor reuses."""

    gradients: tuple[Tensor, ...]
    features: Tensor
    latent: Tensor
    metrics: Scalars


@torch.no_grad()
def td_target(nets: Networks, batch: Batch, noise: Tensor) -> Tensor:
    """Soft Bellman target `(B,)`: r + discount (min Q'(s', a') - alpha log pi(a' | s')), a' from the online encoder
    and actor."""
    mean, log_std = nets.actor(nets.encoder.body(batch.next_obs))
    action, log_prob = sample_squashed(mean, log_std, noise)
    q: Tensor = nets.target_q(nets.target_encoder(batch.next_obs), action).amin(0)
    return batch.reward + batch.discount * (q - nets.log_alpha.exp() * log_prob)


def critic_gradients(
    nets: Networks,
    heads: Mapping[str, AuxTask],
    weights: Mapping[str, float],
    parameters: list[Tensor],
    batch: Batch,
    noise: Tensor,
) -> CriticGradients:
    """Encode the batch once and differentiate everything that reaches the encoder. noise: standard normal `(B, A)`
    for a'."""
    target = td_target(nets, batch, noise)
    features = nets.encoder.body(batch.obs)
    latent = nets.encoder.trunk(features)
    q = nets.q(latent, batch.action)
    loss = (q - target).square().mean(1).sum()
    metrics = {"loss/critic": loss.detach(), "q/mean": q.detach().mean(), "q/target": target.mean()}
    encoded, encoders = Encoded(latent), Encoders(nets.encoder, nets.target_encoder)
    for name, head in heads.items():
        head_loss, health = head.loss(batch, encoded, encoders)
        loss = loss + weights[name] * head_loss
        metrics |= {f"aux/{name}/loss": head_loss.detach()} | {
            f"aux/{name}/{key}": value for key, value in health.items()
        }
    return CriticGradients(
        torch.autograd.grad(loss, parameters), features.detach(), latent.detach(), Scalars.stack(metrics)
    )


def actor_gradients(
    nets: Networks,
    parameters: list[Tensor],
    features: Tensor,
    latent: Tensor,
    noise: Tensor,
    target_entropy: float,
    temperature_loss: TemperatureLoss,
) -> tuple[tuple[Tensor, ...], Scalars]:
    """Differentiate the actor's and the temperature's losses, which share no parameter. features, latent: detached;
    noise `(B, A)`."""
    mean, log_std = nets.actor(features)
    action, log_prob = sample_squashed(mean, log_std, noise)
    alpha = nets.log_alpha.exp()
    q = nets.q(latent, action, frozen=True).amin(0)
    actor_loss = (alpha.detach() * log_prob - q).mean()
    entropy = -log_prob.detach().mean()
    factor = alpha if temperature_loss == "alpha" else nets.log_alpha
    alpha_loss = factor * (entropy - target_entropy)
    metrics = {
        "loss/actor": actor_loss.detach(),
        "loss/alpha": alpha_loss.detach(),
        "sac/alpha": alpha.detach(),
        "sac/entropy": entropy,
    }
    return torch.autograd.grad(actor_loss + alpha_loss, parameters), Scalars.stack(metrics)


def diagnose(
    nets: Networks, heads: Mapping[str, AuxTask], weights: Mapping[str, float], batch: Batch, noise: Tensor
) -> Metrics:
    """Meters of one batch's encoding: effective rank and spread of the latent, and each head's gradient norm there
    over Q's.

    `grad_ratio` is that of the weighted loss, so 1 means that the head pulls on the encoder as hard as the critic does.
    """
    target = td_target(nets, batch, noise)
    latent = nets.encoder(batch.obs).detach().requires_grad_()
    encoded, encoders = Encoded(latent), Encoders(nets.encoder, nets.target_encoder)
    q_loss = (nets.q(latent, batch.action) - target).square().mean(1).sum()
    reference = _gradient_norm(q_loss, latent)
    metrics = {"rep/effective_rank": effective_rank(latent.detach()), "rep/feature_std": feature_std(latent.detach())}
    for name, head in heads.items():
        loss, _ = head.loss(batch, encoded, encoders)
        metrics[f"aux/{name}/grad_ratio"] = _gradient_norm(weights[name] * loss, latent) / reference.clamp(min=1e-12)
    return metrics


def _gradient_norm(loss: Tensor, latent: Tensor) -> Tensor:
    """Norm of d loss / d latent; 0 if the loss does not read this latent (a head with anchors of its own)."""
    (gradient,) = torch.autograd.grad(loss, latent, allow_unused=True)
    norm: Tensor = torch.zeros_like(loss) if gradient is None else torch.linalg.vector_norm(gradient)
    return norm
