"""One update of MR.Q (Fujimoto et al. 2025, arXiv 2501.16142), with auxiliary heads on its encoding.

Gradient sources, in one place: the unroll's loss trains encoder and model; the heads, by their pull, the encoder and
themselves; the critic's loss, on the detached joint encoding, the Q functions alone; the actor's the actor alone.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Generator, Tensor
from torch.nn.functional import smooth_l1_loss

from rlrep.heads import Encoders, Metrics, Rollout
from rlrep.replay.batch import Batch
from rlrep.replay.kinds.later import Unroll, Unrolled

from ..heads import Heads, Losses
from ..learner import Outcome
from ..optimisers import Apart, Optimisers
from .networks import Networks, Predicted
from .two_hot import cross_entropy, mean

UNROLL = "the agent's unroll"
"""Under this name, which no head can have, the encoder's batches hold what followed them."""


@dataclass(frozen=True)
class Weights:
    """Of the unroll's losses: of the next latent, the reward, and termination."""

    latent: float
    reward: float
    terminated: float


@dataclass(frozen=True)
class Smoothing:
    """Noise of the target's action (TD3, Fujimoto et al. 2018, arXiv 1802.09477): its deviation, and its bound."""

    noise: float
    bound: float


class Due(NamedTuple):
    """What a step does: train encoder and model, or else critic and actor."""

    encoder: bool


class Judged(NamedTuple):
    """The batch's latents `(B, D)`, and its absolute TD errors `(B,)`, the larger of both Q functions'."""

    latent: Tensor
    error: Tensor


@dataclass(eq=False)
class Update:
    """Steps of two kinds, see `Due`.

    target_every: updates between copies of the targets; before each comes a phase of as many steps of the encoder.
    max_norm: of the critic's gradient. penalty: factor of the mean square of the actor's output before tanh.
    least_priority: of a transition, in units of the TD error.
    """

    nets: Networks
    heads: Heads
    optimisers: Optimisers
    unroll: Unroll
    weights: Weights
    smoothing: Smoothing
    target_every: int
    max_norm: float
    penalty: float
    least_priority: float

    def __post_init__(self) -> None:
        self.encoder_gradients = self.optimisers.with_heads(self.losses)
        self.critic_gradients = self.optimisers.apart(self.critic_losses, max_norm=self.max_norm)
        self.actor_gradients = self.optimisers.apart(self.actor_losses)

    def draw(self, batch: Batch, generator: Generator) -> Tensor:
        """Draw the noise of the target's actions, `(B, A)`."""
        return torch.randn(batch.action.shape, generator=generator, device=batch.action.device)

    def due(self, number: int) -> Due:
        """Say what an update does after the encoder's phase, if it has one."""
        return Due(encoder=False)

    def __call__(self, batch: Batch, noise: Tensor, due: Due) -> Outcome:
        """A step of encoder, model and heads; or one of the critic, then one of the actor."""
        if due.encoder:
            found = self.encoder_gradients(batch, noise)
            self.optimisers.step(found)
            return Outcome([found.metrics])
        critic = self.critic_gradients(batch, noise)
        self.optimisers.step(critic)
        actor = self.actor_gradients(critic.kept.latent, noise)
        self.optimisers.step(actor)
        return Outcome([critic.metrics, actor.metrics], critic.kept.error.clamp(min=self.least_priority))

    def losses(self, batch: Batch, noise: Tensor) -> Losses[None]:
        """Encode the batch once: the unroll's loss, and every head's, on that encoding."""
        nets, followed = self.nets, batch.pairs[UNROLL][self.unroll]
        latent = nets.encoder(batch.obs)
        target = nets.target_encoder(followed.obs.flatten(0, 1)).unflatten(0, followed.valid.shape)
        steps = unrolled(nets, latent, followed.action)
        loss, metrics = unroll_loss(nets, steps, target, followed, self.weights)
        rollout = Rollout(torch.stack([step.latent for step in steps]), target, followed.valid)
        encoders = Encoders(nets.encoder, nets.target_encoder)
        heads, health = self.heads.losses(batch, latent, encoders, rollout=rollout)
        return Losses(loss, heads, latent, metrics | health, None)

    def critic_losses(self, batch: Batch, noise: Tensor) -> Apart[Judged]:
        """Huber loss of both Q functions on the detached joint encoding."""
        nets, target = self.nets, td_target(self.nets, batch, noise, self.smoothing)
        with torch.no_grad():
            latent = nets.encoder(batch.obs)
            joint = nets.model(latent, batch.action)
        q = nets.value(joint)
        error = (q.detach() - target).abs().amax(0)
        loss = smooth_l1_loss(q, target.expand_as(q))
        metrics = {"loss/critic": loss.detach(), "q/mean": q.detach().mean(), "q/target": target.mean()}
        return Apart({"value": loss}, metrics, Judged(latent, error))

    def actor_losses(self, latent: Tensor, noise: Tensor) -> Apart[None]:
        """The actor's loss, -Q of its action, on the latents."""
        nets, raw = self.nets, self.nets.actor(latent)
        q = nets.value(nets.model(latent, raw.tanh()), frozen=True).mean()
        loss = self.penalty * raw.square().mean() - q
        return Apart({"actor": loss}, {"loss/actor": loss.detach(), "actor/raw": raw.detach().abs().mean()}, None)


def unrolled(nets: Networks, latent: Tensor, actions: Tensor) -> list[Predicted]:
    """Return what the model predicts of each of the actions `(T, B, A)`, one after another, from latents `(B, D)`."""
    steps = []
    for action in actions.unbind(0):
        steps.append(nets.model.predict(nets.model(latent, action)))
        latent = steps[-1].latent
    return steps


def unroll_loss(
    nets: Networks, steps: list[Predicted], target: Tensor, followed: Unrolled, weights: Weights
) -> tuple[Tensor, Metrics]:
    """Return the model's loss, summed over steps, of the batch's mean where a step took place, and metrics.

    target: latents `(T, B, D)` of what was seen.
    """
    valid, terminated = followed.valid.float(), followed.terminated.float()
    latent = torch.stack([(step.latent - goal).square().mean(1) for step, goal in zip(steps, target, strict=True)])
    reward = cross_entropy(torch.stack([step.reward for step in steps]), followed.reward, nets.bins)
    ended = (torch.stack([step.terminated for step in steps]) - terminated).square() * nets.terminates
    parts = [(part * valid).mean(1).sum() for part in (latent, reward, ended)]
    loss = weights.latent * parts[0] + weights.reward * parts[1] + weights.terminated * parts[2]
    names = ("loss/latent", "loss/reward", "loss/terminated")
    first = mean(steps[0].reward.detach(), nets.bins)
    metrics = {name: part.detach() for name, part in zip(names, parts, strict=True)}
    return loss, {"loss/rl": loss.detach(), **metrics, "model/reward_error": (first - followed.reward[0]).abs().mean()}


@torch.no_grad()
def td_target(nets: Networks, batch: Batch, noise: Tensor, smoothing: Smoothing) -> Tensor:
    """Target `(B,)` of both Q functions, in their unit: (r + discount min Q'(s', a') scale') / scale, n steps on.

    a' is the target actor's action under clipped noise; r is the n-step return.
    """
    latent = nets.target_encoder(batch.next_obs)
    blur = (noise * smoothing.noise).clamp(-smoothing.bound, smoothing.bound)
    action = (nets.target_actor(latent).tanh() + blur).clamp(-1, 1)
    q: Tensor = nets.target_value(nets.target_model(latent, action)).amin(0)
    return (batch.reward + batch.discount * q * nets.target_scale) / nets.reward_scale
