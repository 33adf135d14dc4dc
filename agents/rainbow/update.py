"""Rainbow's losses as functions of tensors (Hessel et al. 2018, arXiv 1710.02298), with auxiliary heads on the online
network's encoding.

Gradient sources, in one place: the RL loss, weighted by importance, trains the encoder and the Q head; the heads'
losses, not weighted by it, train the encoder, by their pull, and the heads. Priorities come from the RL loss alone.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from rlrep.heads import Encoders, Metrics
from rlrep.nn.optim import norm_excess
from rlrep.replay.batch import Batch

from .. import meeting
from ..heads import Heads, Scalars, spread
from ..meeting import Owned
from .networks import Layers, Networks


@dataclass(frozen=True)
class Gradients:
    """Gradients of the RL loss and the heads that join it, what to divide them by, those of each head with an optimiser
    of its `own` (see `Found`), and each row's priority `(B,)`."""

    gradients: meeting.Gradients
    own: dict[str, meeting.Gradients]
    divisor: Tensor
    priorities: Tensor
    metrics: Scalars


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
    evaluates (van Hasselt et al. 2016, arXiv 1509.06461).
    """
    next_obs = nets.encoder.prepare(batch.next_obs)  # once for both networks
    logits = nets.target_logits(next_obs, noise)
    chooser = nets.head(nets.encoder(next_obs), layers) if double else logits
    taken = of_action(logits, expected(chooser, nets.support).argmax(1))
    if len(nets.support) == 1:
        return batch.reward[:, None] + batch.discount[:, None] * taken
    position = batch.reward[:, None] + batch.discount[:, None] * nets.support
    return project(taken.softmax(1), position, nets.support)


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


def gradients(
    nets: Networks,
    heads: Heads,
    owned: Owned,
    batch: Batch,
    noise: Tensor,
    *,
    double: bool,
    max_norm: float,
) -> Gradients:
    """Encode the batch once and differentiate the RL loss and the heads. noise `(2, noise_dim)`: of the online and of
    the target network."""
    layers = nets.head.perturbed(noise[0])
    goal = target(nets, layers, batch, noise[1], double=double)
    latent = nets.encoder(batch.obs)
    logits = of_action(nets.head(latent, layers), batch.action)
    losses, priorities = rl_losses(logits, goal)
    loss = (losses if batch.weight is None else losses * batch.weight).mean()
    metrics = {
        "loss/rl": losses.detach().mean(),
        "q/mean": expected(logits.detach(), nets.support).mean(),
        "q/target": (goal * nets.support).sum(1).mean(),
    }
    found = heads.differentiate(loss, batch, latent, encoders(nets), owned)
    norm, divisor = norm_excess(found.joint, max_norm)
    metrics |= {"loss/gradient_norm": norm} | found.metrics
    return Gradients(found.joint, found.own, divisor, priorities, Scalars.stack(metrics))


def diagnose(nets: Networks, heads: Heads, owned: Owned, batch: Batch, noise: Tensor, *, double: bool) -> Metrics:
    """Meters of one batch's encoding, with the heads' pull on it relative to the RL loss's."""
    layers = nets.head.perturbed(noise[0])
    goal = target(nets, layers, batch, noise[1], double=double)
    latent = nets.encoder(batch.obs)
    losses, _ = rl_losses(of_action(nets.head(latent, layers), batch.action), goal)
    loss = (losses if batch.weight is None else losses * batch.weight).mean()
    return spread(latent) | heads.ratios(loss, batch, latent, encoders(nets), owned)


def encoders(nets: Networks) -> Encoders:
    """What heads may encode with: their target is the slow copy (without heads nobody asks)."""
    return Encoders(nets.encoder, nets.key_encoder or nets.target_encoder)
