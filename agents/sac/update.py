"""SAC's losses as functions of tensors (Haarnoja et al. 2018, arXiv 1812.05905), with auxiliary heads on the critic's
encoding.

Gradient sources, in one place: the critic's loss trains the encoder and Q; the heads, by their pull, the encoder and
themselves; the actor's loss, on the stored and detached encoding, trains the actor alone; the temperature's loss trains
the temperature alone.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from rlrep.contrast import MomentumTarget
from rlrep.heads import Encoders, Metrics
from rlrep.nn import Encoder
from rlrep.nn.distributions import sample_squashed
from rlrep.replay.batch import Batch

from .. import learner
from ..heads import Heads, Scalars, spread
from ..meeting import Gradients, Owned
from .networks import Actor, TwinQ

TemperatureLoss = Literal["alpha", "log_alpha"]
"""What multiplies the entropy gap: alpha, as in the paper and SAC-AE, or log alpha, as in Stable-Baselines3.

With alpha the gradient shrinks as alpha falls, faster than Adam's second moment forgets, so the descent slows down.
"""


class Networks(learner.Networks):
    """Everything SAC learns or tracks. The targets never receive gradient."""

    def __init__(
        self, encoder: Encoder, q: TwinQ, actor: Actor, *, temperature: float, encoder_tau: float, critic_tau: float
    ) -> None:
        super().__init__()
        self.encoder, self.q, self.actor = encoder, q, actor
        self.target_encoder, self.target_q = MomentumTarget(encoder, encoder_tau), MomentumTarget(q, critic_tau)
        self.log_alpha = nn.Parameter(torch.tensor(temperature).log())


@dataclass(frozen=True)
class CriticGradients:
    """Gradients of the critic and the heads that join it, and of each head with an optimiser `own`, see `Found`; the
    detached encoding `features`, `latent` that the actor reuses."""

    gradients: Gradients
    own: dict[str, Gradients]
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


def critic_gradients(nets: Networks, heads: Heads, owned: Owned, batch: Batch, noise: Tensor) -> CriticGradients:
    """Encode the batch once and differentiate everything that reaches the encoder. noise: standard normal `(B, A)`
    for a'."""
    target = td_target(nets, batch, noise)
    features = nets.encoder.body(batch.obs)
    latent = nets.encoder.trunk(features)
    q = nets.q(latent, batch.action)
    loss = (q - target).square().mean(1).sum()
    metrics = {"loss/critic": loss.detach(), "q/mean": q.detach().mean(), "q/target": target.mean()}
    found = heads.differentiate(loss, batch, latent, Encoders(nets.encoder, nets.target_encoder), owned)
    metrics |= found.metrics
    return CriticGradients(found.joint, found.own, features.detach(), latent.detach(), Scalars.stack(metrics))


def actor_gradients(
    nets: Networks,
    parameters: list[Tensor],
    features: Tensor,
    latent: Tensor,
    noise: Tensor,
    target_entropy: float,
    temperature_loss: TemperatureLoss,
    *,
    penalty: float = 0.0,
) -> tuple[tuple[Tensor, ...], Scalars]:
    """Differentiate the actor's and the temperature's losses, which share no parameter. features, latent: detached;
    noise `(B, A)`. penalty: factor of the mean squares of the policy's mean and log standard deviation."""
    mean, log_std = nets.actor(features)
    action, log_prob = sample_squashed(mean, log_std, noise)
    alpha = nets.log_alpha.exp()
    q = nets.q(latent, action, frozen=True).amin(0)
    actor_loss = (alpha.detach() * log_prob - q).mean()
    if penalty:
        actor_loss = actor_loss + penalty * (mean.square().mean() + log_std.square().mean())
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


def diagnose(nets: Networks, heads: Heads, owned: Owned, batch: Batch, noise: Tensor) -> Metrics:
    """Meters of one batch's encoding, with the heads' pull on it relative to the critic's."""
    target = td_target(nets, batch, noise)
    latent = nets.encoder(batch.obs)
    loss = (nets.q(latent, batch.action) - target).square().mean(1).sum()
    encoders = Encoders(nets.encoder, nets.target_encoder)
    return spread(latent) | heads.ratios(loss, batch, latent, encoders, owned)
