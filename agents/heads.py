"""Auxiliary heads beside an agent's RL loss: how their gradients meet it."""

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from rlrep.heads import Encoded, Encoders, Head, HeadConfig, Metrics, Pull, Rollout
from rlrep.replay import Batch, Needs

from .meeting import Balance, Gradients, Meeting, Owned, added, scaled, summed, total_norm, trained, watched

Kept = TypeVar("Kept")
AT_LATENT, AT_ENCODER = "rl at the latent", "rl at the encoder"


@dataclass(frozen=True)
class HeadLoss:
    """A head's unweighted loss.

    apart: it meets the RL loss at the encoder's parameters only, because it encoded something by itself or the RL loss
    does not read the latent; else both read the same latent.
    """

    value: Tensor
    apart: bool


@dataclass(frozen=True)
class Losses(Generic[Kept]):
    """What trains an encoder in one update: the RL loss, and each head's on the same encoding.

    rl: scalar, of everything that the joint optimiser owns. heads: by name.
    latent: the encoding `(B, D)` that heads read. meet_at_latent: whether the RL loss reaches the encoder by it.
    kept: what the update goes on with, detached. runs_at: see `Meeting`.
    """

    rl: Tensor
    heads: Mapping[str, HeadLoss]
    latent: Tensor
    metrics: Metrics
    kept: Kept
    meet_at_latent: bool = True
    runs_at: int = 0

    def meeting(self, encoder: list[Tensor]) -> Meeting:
        """Return where the losses meet on their way into the encoder."""
        return Meeting(self.latent if self.meet_at_latent else None, encoder, self.runs_at)


@dataclass(frozen=True)
class Met:
    """Gradients of one update.

    joint: in the order of `Heads.joint(owned)`. own: of heads with `pull=own`, by name, each in the order of
    `Heads.own(owned)`. factors: of heads that are balanced, as metrics.
    """

    joint: Gradients
    own: dict[str, Gradients]
    factors: Metrics


class Heads:
    """An agent's heads: their losses, and how each one's gradient meets the RL loss's (see `rlrep.heads.Pull`).

    configs: by head name. default: the pull of those that name none. balance: running norms, for `pull=balanced`.
    stateless: names of those that move nothing but averages of parameters, which a CUDA graph can do.
    """

    def __init__(self, tasks: Mapping[str, Head], configs: Mapping[str, HeadConfig], default: Pull) -> None:
        self.tasks = tasks
        self.modules = nn.ModuleDict(tasks)
        self.weights = {name: config.weight for name, config in configs.items()}
        self.pulls: dict[str, Pull] = {name: config.pull or default for name, config in configs.items()}
        self.stateless = {name for name, task in tasks.items() if task.stacks and not list(task.buffers())}
        self.balance = Balance((AT_LATENT, AT_ENCODER, *self.pulling("balanced")))

    def owned(self, encoder: list[Tensor], rl: list[Tensor]) -> Owned:
        """Say who trains what, beside the heads' own parameters: the RL loss and heads, or the RL loss alone."""
        return Owned(encoder, rl, {name: trained(head) for name, head in self.modules.items()})

    @property
    def needs(self) -> dict[str, Needs]:
        """What each head asks the replay for."""
        return {name: task.needs for name, task in self.tasks.items()}

    def over(self, tasks: dict[str, Head], weights: dict[str, Any], balance: Balance) -> "Heads":
        """Return these heads on other modules, weights and norms: those of a fleet's runs, stacked."""
        heads = copy(self)
        heads.tasks, heads.modules = tasks, nn.ModuleDict(tasks)
        heads.weights, heads.balance = weights, balance
        return heads

    def to(self, device: torch.device) -> "Heads":
        """Move the heads, and what is known of their gradients."""
        self.modules.to(device)
        self.balance.to(device)
        return self

    def pulling(self, *pulls: Pull) -> list[str]:
        """Return the names of the heads that pull in one of these ways."""
        return [name for name, pull in self.pulls.items() if pull in pulls]

    def after_update(self, batch: Batch, *, stateless: bool | None = None) -> None:
        """Move what the heads, whose pairs were drawn, move after the step; see `rlrep.heads.Head`.

        stateless: of the `stateless` heads alone, or of the others; None = of all.
        """
        for name, task in self.tasks.items():
            if name in batch.pairs and stateless in (None, name in self.stateless):
                task.after_update()

    # Who steps what

    def joint(self, owned: Owned) -> list[Tensor]:
        """Return the parameters of the optimiser of the RL loss and of the heads that join it."""
        heads = [parameter for name in self.pulling("sum", "balanced") for parameter in owned.heads[name]]
        return [*owned.encoder, *owned.rl, *heads]

    def own(self, owned: Owned) -> dict[str, list[Tensor]]:
        """Return the parameters of each head's own optimiser, by head with `pull=own`."""
        return {name: [*owned.encoder, *owned.heads[name]] for name in self.pulling("own")}

    # Gradients

    def differentiate(self, losses: Losses[Any], owned: Owned) -> Met:
        """Differentiate the RL loss and every head's on the batch's encoding.

        One pass leads back through the encoder: gradients are scaled and added at the latent. Only `own` takes a pass
        more, and heads that encode by themselves.
        """
        if not self.pulling("own", "balanced"):
            total = losses.rl
            for name, loss in losses.heads.items():
                total = total + self.weights[name] * loss.value
            return Met(torch.autograd.grad(summed(total), self.joint(owned)), {}, {})
        meeting = losses.meeting(owned.encoder)
        own = {name: _alone(losses.heads[name], meeting, owned.heads[name]) for name in self.pulling("own")}
        joint, factors = self._together(losses.rl, losses.heads, meeting, owned)
        return Met(joint, own, {f"aux/{name}/factor": factor for name, factor in factors.items()})

    def losses(
        self,
        batch: Batch,
        latent: Tensor,
        encoders: Encoders,
        *,
        meet_at_latent: bool = True,
        rollout: Rollout | None = None,
    ) -> tuple[dict[str, HeadLoss], Metrics]:
        """Return every head's loss on a batch's encoding `(B, D)`, and their metrics. rollout: of the agent's model."""
        losses: dict[str, HeadLoss] = {}
        metrics: Metrics = {}
        for name, task in self.tasks.items():
            calls: list[None] = []
            value, health = task.loss(batch, batch.pairs[name], Encoded(latent, rollout), watched(encoders, calls))
            losses[name] = HeadLoss(value, apart=bool(calls) or not meet_at_latent)
            metrics[f"aux/{name}/loss"] = value.detach()
            metrics |= {f"aux/{name}/{key}": number for key, number in health.items()}
        return losses, metrics

    def _together(
        self, rl_loss: Tensor, losses: Mapping[str, HeadLoss], meeting: Meeting, owned: Owned
    ) -> tuple[Gradients, Metrics]:
        """Return the gradient of the RL loss and the heads that join it, and the factors of those that are balanced."""
        at_latent, at_encoder, others = self._of_rl(rl_loss, losses, meeting, owned.rl)
        factors: Metrics = {}
        for name in self.pulling("sum", "balanced"):
            loss = losses[name]
            at, by_own = meeting.split(loss.value, owned.heads[name], apart=loss.apart)
            factor: Tensor | float = self.weights[name]
            if self.pulls[name] == "balanced":
                factor = factors[name] = self.factor(name, at, apart=loss.apart)
            pull = tuple(scaled(factor, gradient) for gradient in at)
            at_latent, at_encoder = (
                (at_latent, added(at_encoder, pull)) if loss.apart else (added(at_latent, pull), at_encoder)
            )
            others += tuple(scaled(factor, gradient) for gradient in by_own)
        by_encoder = added(at_encoder, meeting.carry(at_latent) if at_latent else ())
        return (*by_encoder, *others), factors

    def _of_rl(
        self, rl_loss: Tensor, losses: Mapping[str, HeadLoss], meeting: Meeting, others: list[Tensor]
    ) -> tuple[Gradients, Gradients, Gradients]:
        """Return the RL loss's gradient at the latent or (in its place) by the encoder, and by `others`; watch its
        norm wherever a head is balanced against it."""
        apart = {losses[name].apart for name in self.pulling("balanced")}
        at, by_others = meeting.split(rl_loss, others, apart=meeting.latent is None)
        if meeting.latent is not None and False in apart:
            self.balance.observe(AT_LATENT, at)
        if meeting.latent is not None and True not in apart:
            return at, (), by_others
        by_encoder = at if meeting.latent is None else meeting.carry(at)
        if True in apart:
            self.balance.observe(AT_ENCODER, by_encoder)
        return (), by_encoder, by_others

    def factor(self, name: str, gradient: Gradients, *, apart: bool) -> Tensor:
        """Return what a balanced head's gradient is multiplied by, and take note of its norm."""
        return self._factor(name, self.balance.observe(name, gradient), apart=apart)

    def _factor(self, name: str, norm: Tensor, *, apart: bool) -> Tensor:
        return self.weights[name] * self.balance.ratio(AT_ENCODER if apart else AT_LATENT, name, norm)

    def factor_now(self, name: str, gradient: Gradients, *, apart: bool) -> Tensor | float:
        """Return what a head's gradient is multiplied by as it is now, and take no note of it."""
        if self.pulls[name] != "balanced":
            return self.weights[name] if self.pulls[name] == "sum" else 1.0
        return self._factor(name, total_norm(gradient), apart=apart)


def _alone(loss: HeadLoss, meeting: Meeting, others: list[Tensor]) -> Gradients:
    """Return one head's gradient, by the encoder's parameters and its own."""
    at, by_others = meeting.split(loss.value, others, apart=loss.apart)
    return (*(at if loss.apart else meeting.carry(at)), *by_others)
