"""One update of soft actor-critic (Haarnoja et al. 2018, arXiv 1812.05905), with auxiliary heads on the critic's
encoding.

Gradient sources, in one place: the critic's loss trains the encoder and Q; the heads, by their pull, the encoder and
themselves; the actor's loss, on the stored and detached encoding, trains the actor alone; the temperature's loss trains
the temperature alone.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Generator, Tensor
from torch.nn.functional import smooth_l1_loss

from rlrep.heads import Encoders, Metrics
from rlrep.nn.distributions import sample_squashed
from rlrep.replay.batch import Batch

from ..heads import Heads, Losses
from ..learner import Outcome
from ..optimisers import Apart, Optimisers
from ..sampling import LEAST_PRIORITY
from .networks import Networks

TemperatureLoss = Literal["alpha", "log_alpha"]
"""What multiplies the entropy gap: alpha, as in the paper and SAC-AE, or log alpha, as in Stable-Baselines3.

With alpha the gradient shrinks as alpha falls, faster than Adam's second moment forgets, so the descent slows down.
"""


class Noise(NamedTuple):
    """Standard normal numbers `(B, A)` of an update: of the target's action, and of the actor's."""

    next_action: Tensor
    action: Tensor


class Due(NamedTuple):
    """What an update does after the critic's step: train actor and temperature, move the targets."""

    actor: bool
    targets: bool


class Encoding(NamedTuple):
    """The batch's observations through the critic's encoder, detached: features `(B, F)`, latent `(B, D)`.

    error: absolute TD errors `(B,)`, the larger of both Q functions', for a replay that samples by them.
    """

    features: Tensor
    latent: Tensor
    error: Tensor | None = None


@dataclass(eq=False)
class Update:
    """One update.

    actor_every, target_every: updates between steps of actor and temperature, and between moves of the targets.
    target_entropy: nats. prioritised: the critic's loss is Huber's, and TD errors are priorities (`Sampling`).
    """

    nets: Networks
    heads: Heads
    optimisers: Optimisers
    actor_every: int
    target_every: int
    target_entropy: float
    temperature_loss: TemperatureLoss
    prioritised: bool = False

    def __post_init__(self) -> None:
        self.critic_gradients = self.optimisers.with_heads(self.losses)
        self.actor_gradients = self.optimisers.apart(self.actor_losses)

    def draw(self, batch: Batch, generator: Generator) -> Tensor:
        """Draw an update's `Noise`, in one tensor."""
        return torch.randn((2, *batch.action.shape), generator=generator, device=batch.action.device)

    def due(self, number: int) -> Due:
        """Say what update `number` does."""
        return Due(actor=number % self.actor_every == 0, targets=number % self.target_every == 0)

    def __call__(self, batch: Batch, noise: Tensor, due: Due) -> Outcome:
        """Critic and heads in one step, then actor and temperature, then the targets."""
        critic = self.critic_gradients(batch, noise)
        self.optimisers.step(critic)
        metrics = [critic.metrics]
        if due.actor:
            actor = self.actor_gradients(critic.kept, noise)
            self.optimisers.step(actor)
            metrics.append(actor.metrics)
        if due.targets:
            self.nets.target_q.update()
            self.nets.target_encoder.update()
        error = critic.kept.error
        return Outcome(metrics, None if error is None else error.clamp(min=LEAST_PRIORITY))

    def losses(self, batch: Batch, noise: Tensor) -> Losses[Encoding]:
        """Encode the batch once: the critic's loss, and every head's, on that encoding."""
        nets = self.nets
        target = td_target(nets, batch, Noise(*noise).next_action)
        features = nets.encoder.body(batch.obs)
        latent = nets.encoder.trunk(features)
        q = nets.q(latent, batch.action)
        loss, metrics = critic_loss(q, target, huber=self.prioritised)
        error = (q.detach() - target).abs().amax(0) if self.prioritised else None
        heads, health = self.heads.losses(batch, latent, Encoders(nets.encoder, nets.target_encoder))
        return Losses(loss, heads, latent, metrics | health, Encoding(features.detach(), latent.detach(), error))

    def actor_losses(self, encoding: Encoding, noise: Tensor) -> Apart[None]:
        """The actor's loss and the temperature's, on the critic's encoding."""
        drawn, entropy = Noise(*noise).action, self.target_entropy
        return policy_losses(self.nets, encoding, drawn, target_entropy=entropy, temperature_loss=self.temperature_loss)


@torch.no_grad()
def td_target(nets: Networks, batch: Batch, noise: Tensor) -> Tensor:
    """Soft Bellman target `(B,)`: r + discount (min Q'(s', a') - alpha log pi(a' | s')), a' from the online encoder
    and actor. noise: of a'."""
    mean, log_std = nets.actor(nets.encoder.body(batch.next_obs))
    action, log_prob = sample_squashed(mean, log_std, noise)
    q: Tensor = nets.target_q(nets.target_encoder(batch.next_obs), action).amin(0)
    return batch.reward + batch.discount * (q - nets.log_alpha.exp() * log_prob)


def critic_loss(q: Tensor, target: Tensor, *, huber: bool = False) -> tuple[Tensor, Metrics]:
    """Return the squared Bellman errors of both Q functions `(2, B)`, or their Huber losses, summed, and metrics."""
    each = smooth_l1_loss(q, target.expand_as(q), reduction="none") if huber else (q - target).square()
    loss = each.mean(1).sum()
    return loss, {"loss/critic": loss.detach(), "q/mean": q.detach().mean(), "q/target": target.mean()}


def policy_losses(
    nets: Networks,
    encoding: Encoding,
    noise: Tensor,
    *,
    target_entropy: float,
    temperature_loss: TemperatureLoss,
    penalty: float = 0.0,
) -> Apart[None]:
    """Return the actor's loss, alpha log pi(a | s) - min Q(s, a), and the one that moves the temperature until the
    policy's entropy is the target's (nats).

    penalty: factor of the mean squares of the policy's mean and log standard deviation.
    """
    mean, log_std = nets.actor(encoding.features)
    action, log_prob = sample_squashed(mean, log_std, noise)
    alpha = nets.log_alpha.exp()
    q = nets.q(encoding.latent, action, frozen=True).amin(0)
    actor = (alpha.detach() * log_prob - q).mean()
    if penalty:
        actor = actor + penalty * (mean.square().mean() + log_std.square().mean())
    entropy = -log_prob.detach().mean()
    temperature = (alpha if temperature_loss == "alpha" else nets.log_alpha) * (entropy - target_entropy)
    metrics = {
        "loss/actor": actor.detach(),
        "loss/alpha": temperature.detach(),
        "sac/alpha": alpha.detach(),
        "sac/entropy": entropy,
    }
    return Apart({"actor": actor, "temperature": temperature}, metrics, None)
