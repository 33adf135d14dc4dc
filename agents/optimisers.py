"""An agent's optimisers, and the one place where its losses are differentiated: compiled or not."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from operator import add
from typing import Any, Generic, Literal, TypeVar

import torch
from torch import Tensor, nn

from rlrep.contract.agent import AgentSpec
from rlrep.heads import Metrics
from rlrep.nn.graph import compiled
from rlrep.nn.optim import FusedAdam, norm_excess

from .heads import Heads, Losses
from .meeting import Gradients, summed, trained
from .meters import Scalars, pulls, spread

Precision = Literal["float32", "bf16"]
JOINT = "joint"
"""The optimiser of the encoder, of what the RL loss trains, and of the heads that join it."""

First = TypeVar("First")
Second = TypeVar("Second")
Kept = TypeVar("Kept")


@dataclass(frozen=True)
class Apart(Generic[Kept]):
    """Losses that reach no encoder and share no parameter, by the optimiser that each is for. kept: see `Losses`."""

    losses: Mapping[str, Tensor]
    metrics: Metrics
    kept: Kept


@dataclass(frozen=True)
class Found(Generic[Kept]):
    """What differentiating losses found.

    gradients: by optimiser, in the order of its parameters.
    divisor: what all gradients but the heads' own are to be divided by, None = 1.
    """

    gradients: Mapping[str, Gradients]
    metrics: Scalars
    kept: Kept
    divisor: Tensor | None = None


class Optimisers:
    """An Adam for everything the RL loss and the heads that join it train, one for each head with `pull=own`, and those
    of losses apart.

    encoder: what the RL loss and the heads train. rl: what the RL loss alone trains.
    lr, eps: of the joint Adam; a head's own has lr times the head's weight. apart: more Adams, by name.
    weight_decay, decayed: of the joint Adam and the heads' own, see `FusedAdam`.
    precision: `bf16` computes losses under autocast.
    """

    def __init__(
        self,
        spec: AgentSpec,
        heads: Heads,
        *,
        encoder: nn.Module,
        rl: nn.Module,
        lr: float,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decayed: Literal["all", "matrices"] = "matrices",
        apart: Mapping[str, FusedAdam] | None = None,
        precision: Precision = "float32",
    ) -> None:
        self._heads, self._encoder, self._spec, self._precision = heads, encoder, spec, precision
        self.owned = owned = heads.owned(encoder=trained(encoder), rl=trained(rl))
        adam = partial(FusedAdam, eps=eps, weight_decay=weight_decay, decayed=decayed)
        self._own = {
            f"aux/{name}": adam(parameters, lr * heads.weights[name]) for name, parameters in heads.own(owned).items()
        }
        self.adams = {JOINT: adam(heads.joint(owned), lr), **(apart or {}), **self._own}

    def with_heads(
        self, losses: Callable[[First, Second], Losses[Kept]], *, max_norm: float | None = None
    ) -> Callable[[First, Second], Found[Kept]]:
        """Return a function that differentiates the RL loss and the heads' where they meet.

        max_norm: joint gradients of a larger global norm are scaled down to it.
        """

        losses = self._computed(losses)

        def gradients(first: First, second: Second) -> Found[Kept]:
            found = losses(first, second)
            met = self._heads.differentiate(found, self.owned)
            by_own = {f"aux/{name}": gradient for name, gradient in met.own.items()}
            metrics, divisor = found.metrics, None
            if max_norm is not None:
                norm, divisor = self._excess(met.joint, max_norm)
                metrics = metrics | {"loss/gradient_norm": norm}
            return Found({JOINT: met.joint, **by_own}, Scalars.stack(metrics | met.factors), found.kept, divisor)

        return self._executed(gradients, self._precision)

    def apart(
        self,
        losses: Callable[[First, Second], Apart[Kept]],
        *,
        precision: Precision | None = None,
        max_norm: float | None = None,
    ) -> Callable[[First, Second], Found[Kept]]:
        """Return a function that differentiates losses each by the parameters of its own optimiser, in one pass.

        max_norm: gradients of a larger global norm are scaled down to it.
        """

        losses = self._computed(losses)

        def gradients(first: First, second: Second) -> Found[Kept]:
            found = losses(first, second)
            wanted = [self.adams[name].parameters for name in found.losses]
            each = torch.autograd.grad(summed(reduce(add, found.losses.values())), [p for own in wanted for p in own])
            divisor = None if max_norm is None else self._excess(each, max_norm)[1]
            return Found(_split(found.losses, wanted, each), Scalars.stack(found.metrics), found.kept, divisor)

        return self._executed(gradients, precision or self._precision)

    def _computed(self, losses: Callable[[First, Second], Kept]) -> Callable[[First, Second], Kept]:
        """Return how losses are computed: as they are."""
        return losses

    def _excess(self, gradients: Gradients, max_norm: float) -> tuple[Tensor, Tensor]:
        return norm_excess(gradients, max_norm)

    def _executed(
        self, gradients: Callable[[First, Second], Found[Kept]], precision: Precision
    ) -> Callable[[First, Second], Found[Kept]]:
        run = compiled(gradients, self._spec.compile)

        def autocast(first: First, second: Second) -> Found[Kept]:
            with torch.autocast(self._spec.device.type, torch.bfloat16):
                return run(first, second)

        return run if precision == "float32" else autocast

    def step(self, found: Found[Any]) -> None:
        """Step every optimiser that there are gradients for."""
        for name, gradients in found.gradients.items():
            self.adams[name].step(gradients, divisor=None if name in self._own else found.divisor)

    def meters(self, losses: Losses[Any]) -> Metrics:
        """Return what is known of a batch's encoding, and the heads' pull on it relative to the RL loss's; nothing
        where there is no encoder."""
        if not list(self._encoder.parameters()):
            return {}
        return spread(losses.latent) | pulls(self._heads, losses, self.owned)

    def forget(self, parameters: Sequence[Tensor]) -> None:
        """Start moments and step counts of these parameters again, in every optimiser that has them."""
        for adam in self.adams.values():
            adam.forget(parameters)

    def state(self) -> list[Any]:
        """Return moments and step counts."""
        return [adam.state() for adam in self.adams.values()]

    def load_state(self, saved: list[Any]) -> None:
        """Restore `state()`. Raises ValueError if it belongs to other parameters."""
        for adam, state in zip(self.adams.values(), saved, strict=True):
            adam.load_state(state)


def _split(names: Mapping[str, Tensor], wanted: list[list[Tensor]], gradients: Gradients) -> dict[str, Gradients]:
    """Return each optimiser's part of gradients that stand one after another."""
    found, start = {}, 0
    for name, parameters in zip(names, wanted, strict=True):
        found[name] = gradients[start : start + len(parameters)]
        start += len(parameters)
    return found
