"""One update of Rainbow (Hessel et al. 2018, arXiv 1710.02298), with auxiliary heads on the online
network's encoding.

Gradient sources, in one place: the RL loss, weighted by importance, trains the encoder and the Q head, a policy's
part of it the encoder and the policy; the heads' losses, not weighted by it, train the encoder, by their pull, and the
heads. Priorities come from the values' part of the RL loss alone.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from rlrep.heads import Encoders
from rlrep.replay.batch import Batch

from ..heads import Heads, Losses
from ..learner import Outcome
from ..optimisers import Optimisers
from .networks import Layers, Networks


class Noise(NamedTuple):
    """Standard normal numbers `(noise_dim,)` of an update: of the online and of the target network's layers."""

    online: Tensor
    target: Tensor


class Due(NamedTuple):
    """What an update does after its step: copy the target."""

    target: bool


@dataclass(eq=False)
class Update:
    """One update: everything in one loss and one step.

    target_every: updates between copies of the target. double: see `target`.
    max_norm: gradients of a larger global norm are scaled down to it.
    """

    nets: Networks
    heads: Heads
    optimisers: Optimisers
    target_every: int
    double: bool
    max_norm: float

    def __post_init__(self) -> None:
        self.gradients = self.optimisers.with_heads(self.losses, max_norm=self.max_norm)

    def draw(self, batch: Batch, generator: Generator) -> Tensor:
        """Draw an update's `Noise`, in one tensor."""
        return torch.randn((2, self.nets.head.noise_dim), generator=generator, device=generator.device)

    def widened(self, noise: Tensor, own: "Update") -> Tensor:
        """Return what the update of a run of fewer actions drew as this one takes it."""
        return self.nets.head.widened(noise, own.nets.head)

    def due(self, number: int) -> Due:
        """Say what update `number` does."""
        return Due(target=number % self.target_every == 0)

    def __call__(self, batch: Batch, noise: Tensor, due: Due) -> Outcome:
        """One step for everything, then the heads' key encoder, then the target."""
        nets, found = self.nets, self.gradients(batch, noise)
        self.optimisers.step(found)
        if nets.key_encoder is not None:
            nets.key_encoder.update()
        if due.target:
            nets.target_encoder.update()
            nets.target_head.update()
        return Outcome([found.metrics], priorities=found.kept)

    def losses(self, batch: Batch, noise: Tensor) -> Losses[Tensor]:
        """Encode the batch once: the RL loss, and every head's, on that encoding; each row's priority is kept."""
        nets, drawn = self.nets, Noise(*noise)
        layers = nets.head.perturbed(drawn.online)
        goal = target(nets, layers, batch, drawn.target, double=self.double)
        latent = nets.encoder(batch.obs)
        every = nets.head(latent, layers)
        logits = of_action(every, batch.action)
        each, priorities = rl_losses(logits, goal)
        metrics = {
            "loss/rl": each.detach().mean(),
            "q/mean": expected(logits.detach(), nets.support).mean(),
            "q/target": (goal * nets.support).sum(1).mean(),
        }
        if nets.head.policy is not None:
            own, found = nets.head.policy.losses(latent, expected(every.detach(), nets.support))
            each, metrics = each + own, metrics | found
        loss = (each if batch.weight is None else each * batch.weight).mean()
        heads, health = self.heads.losses(batch, latent, encoders(nets))
        return Losses(loss, heads, latent, metrics | health, priorities)


def expected(logits: Tensor, support: Tensor) -> Tensor:
    """Return values `(...)` of logits `(..., atoms)`: the mean of the distribution, or the logit of a single atom."""
    if logits.shape[-1] == 1:
        return logits.squeeze(-1)
    return (logits.softmax(-1) * support).sum(-1)


def project(probability: Tensor, position: Tensor, support: Tensor) -> Tensor:
    """Project mass `(B, atoms)` at returns `(B, atoms)` onto an evenly spaced support: each is shared by its two
    neighbours (Bellemare et al. 2017, arXiv 1707.06887, equation 7), all beyond an end goes to that end."""
    low, high, step = support[0], support[-1], support[1] - support[0]
    distance = (position.clamp(low, high)[:, None, :] - support[:, None]).abs() / step
    return ((1 - distance).clamp(min=0) * probability[:, None, :]).sum(2)


def of_action(logits: Tensor, action: Tensor) -> Tensor:
    """Return the logits `(B, atoms)` of actions `(B,)`."""
    index = action[:, None, None].expand(-1, 1, logits.shape[2])
    return logits.gather(1, index).squeeze(1)


@torch.no_grad()
def target(nets: Networks, layers: Layers, batch: Batch, noise: Tensor, *, double: bool) -> Tensor:
    """Return the n-step target `(B, atoms)`: a distribution, or a value where there is one atom.

    double: the online network, under the loss's own noise `layers`, chooses the action that the target network
    evaluates (van Hasselt et al. 2016, arXiv 1509.06461). Where there is a policy, the mean over its actions is taken.
    """
    next_obs = nets.encoder.prepare(batch.next_obs)  # once for both networks
    logits = nets.target_logits(next_obs, noise)
    single, reward = len(nets.support) == 1, batch.reward
    if nets.head.policy is not None:
        each = logits if single else logits.softmax(2)
        later, bonus = nets.head.policy.expected(nets.encoder(next_obs), each)
        reward = reward + batch.discount * bonus
    else:
        chooser = nets.head(nets.encoder(next_obs), layers) if double else logits
        taken = of_action(logits, nets.head.best(expected(chooser, nets.support)))
        later = taken if single else taken.softmax(1)
    if single:
        return reward[:, None] + batch.discount[:, None] * later
    position = reward[:, None] + batch.discount[:, None] * nets.support
    return project(later, position, nets.support)


def rl_losses(logits: Tensor, goal: Tensor) -> tuple[Tensor, Tensor]:
    """Return each row's loss and priority `(B,)` of the taken actions' logits `(B, atoms)` against the target.

    Distributions: cross entropy, twice. It is the KL divergence of Rainbow's priorities plus the target's entropy, so
    that rows the network fits are not starved (Kaixhin's and Dopamine's choice too). Values: Huber loss and absolute
    TD error (Schaul et al. 2016, arXiv 1511.05952).
    """
    if logits.shape[1] == 1:
        error = (logits - goal).squeeze(1)
        return torch.nn.functional.huber_loss(error, torch.zeros_like(error), reduction="none"), error.detach().abs()
    loss = -(goal * logits.log_softmax(1)).sum(1)
    return loss, loss.detach()


def encoders(nets: Networks) -> Encoders:
    """What heads may encode with: their target is the slow copy (without heads nobody asks)."""
    return Encoders(nets.encoder, nets.key_encoder or nets.target_encoder)
