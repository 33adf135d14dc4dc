"""One update of PEARL (Rakelly et al. 2019, arXiv 1903.08254, algorithm 1).

Gradient sources, in one place: the critic's loss, the KL to the prior and the heads train the context encoder (the
first only if `critic_to_context`); actor, temperature and value function see the latent detached.
"""

from dataclasses import dataclass, replace
from math import prod
from typing import Literal, NamedTuple

import torch
from torch import Generator, Tensor

from rlrep.heads import Metrics
from rlrep.nn import Gaussians
from rlrep.nn.distributions import sample_squashed
from rlrep.replay import Batch, Transitions

from ..heads import Heads, Losses
from ..learner import Outcome
from ..optimisers import Apart, Optimisers
from ..sac.update import Encoding, TemperatureLoss, critic_loss, policy_losses, td_target
from .networks import Networks

Reduction = Literal["mean", "sum"]


@dataclass(frozen=True)
class Weights:
    """What enters the encoder's loss. kl: factor of the KL, its `reduction` over the meta-batch."""

    kl: float
    reduction: Reduction
    critic_to_context: bool


class Noise(NamedTuple):
    """Standard normal numbers of an update: `(T * B, A)` of the target's action, the actor's, and (with a value
    function) the value's; `(T, D)` of the latents."""

    next_action: Tensor
    action: Tensor
    value: Tensor
    latent: Tensor


@dataclass(eq=False)
class Update:
    """One update on a meta-batch of T tasks.

    vectors: each task's latent `(tasks, D)` where it is given (an oracle's, or none of width 0); None = inferred.
    latent_dim: D. target_entropy: nats. penalty: see `policy_losses`.
    """

    nets: Networks
    heads: Heads
    optimisers: Optimisers
    weights: Weights
    vectors: Tensor | None
    latent_dim: int
    target_entropy: float
    temperature_loss: TemperatureLoss
    penalty: float

    def __post_init__(self) -> None:
        self.critic_gradients = self.optimisers.with_heads(self.losses)
        self.value_gradients = self.optimisers.apart(self.value_loss, precision="float32")
        self.actor_gradients = self.optimisers.apart(self.actor_losses)

    def draw(self, batch: Batch, generator: Generator) -> Tensor:
        """Draw an update's `Noise`, in one flat tensor."""
        actions, latents = self._shapes(batch)
        return torch.randn(prod(actions) + prod(latents), generator=generator, device=generator.device)

    def named(self, batch: Batch, flat: Tensor) -> Noise:
        """Return the parts of what `draw` drew `(..., numbers)`, with as many axes more as the batch has."""
        actions, latents = self._shapes(batch)
        first, last = flat.split([prod(actions), prod(latents)], -1)
        each = first.unflatten(-1, actions).unbind(-3)
        return Noise(each[0], each[1], each[-1], last.unflatten(-1, latents))

    def _shapes(self, batch: Batch) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return those of all noise of actions, and of latents."""
        assert batch.tasks is not None
        drawn = 2 if self.nets.v is None else 3
        return (drawn, *batch.action.shape[-2:]), (batch.tasks.shape[-1], self.latent_dim)

    def due(self, number: int) -> None:
        """Every update does the same."""

    def __call__(self, batch: Batch, noise: Tensor, due: None) -> Outcome:
        """Critic, context encoder and heads in one step, then value function, actor and temperature, then targets."""
        nets, drawn = self.nets, self.named(batch, noise)
        critic = self.critic_gradients(batch, noise)
        self.optimisers.step(critic)
        metrics = [critic.metrics]
        if nets.v is not None:
            value = self.value_gradients(critic.kept, drawn.value)
            self.optimisers.step(value)
            metrics.append(value.metrics)
        actor = self.actor_gradients(critic.kept, drawn.action)
        self.optimisers.step(actor)
        for target in (nets.target_q if nets.v is None else nets.target_v, nets.target_context):
            if target is not None:
                target.update()
        return Outcome([*metrics, actor.metrics])

    def losses(self, batch: Batch, noise: Tensor) -> Losses[Encoding]:
        """Infer the latents once: the critic's loss and the KL, and every head's loss on the beliefs."""
        drawn = self.named(batch, noise)
        loss, joined, belief, metrics = encoder_loss(
            self.nets, batch, self.given(batch), drawn.next_action, drawn.latent, self.weights
        )
        read = joined if belief is None else belief.mean
        heads, health = self.heads.losses(batch, read, self.nets.encoders(), meet_at_latent=False)
        kept = Encoding(joined.detach(), joined.detach())
        return Losses(loss, heads, read, metrics | health, kept, meet_at_latent=False)

    def given(self, batch: Batch) -> Tensor | None:
        """Return the latents `(T, D)` of a batch where they need not be inferred."""
        return None if self.vectors is None else self.vectors[batch.tasks][:, : self.latent_dim]

    def value_loss(self, encoding: Encoding, noise: Tensor) -> Apart[None]:
        """Return the value function's squared error to min Q(s, a, z) - alpha log pi(a | s, z)."""
        nets = self.nets
        assert nets.v is not None
        with torch.no_grad():
            mean, log_std = nets.actor(encoding.latent)
            action, log_prob = sample_squashed(mean, log_std, noise)
            target = nets.q(encoding.latent, action).amin(0) - nets.log_alpha.exp() * log_prob
        loss = (nets.v(encoding.latent) - target).square().mean()
        return Apart({"value": loss}, {"loss/value": loss.detach()}, None)

    def actor_losses(self, encoding: Encoding, noise: Tensor) -> Apart[None]:
        """The actor's loss and the temperature's."""
        return policy_losses(
            self.nets,
            encoding,
            noise,
            target_entropy=self.target_entropy,
            temperature_loss=self.temperature_loss,
            penalty=self.penalty,
        )


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
    loss, joined, more = bellman_loss(nets, batch, latent if weights.critic_to_context else latent.detach(), noise)
    if belief is not None and weights.kl:
        kl = belief.kl()
        loss = loss + weights.kl * (kl.mean() if weights.reduction == "mean" else kl.sum())
    return loss, joined, belief, more | metrics


def bellman_loss(nets: Networks, batch: Batch, latent: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Metrics]:
    """Return the squared Bellman errors of both Q functions, summed, what they read `(T * B, F)`, and metrics."""
    joined = join(batch.obs, latent)
    seen = replace(batch, obs=joined, next_obs=join(batch.next_obs, latent.detach()))
    target = td_target(nets, seen, noise) if nets.target_v is None else value_target(nets, seen)
    loss, metrics = critic_loss(nets.q(joined, batch.action), target)
    return loss, joined, metrics


@torch.no_grad()
def value_target(nets: Networks, batch: Batch) -> Tensor:
    """Bellman target `(B,)` of the original: r + discount V'(s', z)."""
    assert nets.target_v is not None
    value: Tensor = nets.target_v(batch.next_obs)
    return batch.reward + batch.discount * value


def join(obs: Tensor, latent: Tensor) -> Tensor:
    """Append each task's latent `(T, D)` to its rows of obs `(T * B, S)`."""
    rows = latent[:, None].expand(-1, len(obs) // len(latent), -1).flatten(0, 1)
    return torch.cat([obs, rows], 1)


def _context(batch: Batch) -> Transitions:
    assert batch.context is not None
    return batch.context
