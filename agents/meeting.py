"""Where the gradients of an RL loss and of heads meet on their way into the encoder, whose parameters are whose, and
the running norms by which heads pull as hard as the RL loss does."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from rlrep.heads import Encoders
from rlrep.nn import Gaussians
from rlrep.replay import Transitions

SHARE = 0.01
"""Weight of the newest norm in a running one, which so remembers about a hundred updates."""
LEAST = 1e-12
OUTLIER = 3.0
"""How many times its running norm a gradient may be and still enter in full."""

Gradients = tuple[Tensor, ...]
Read = TypeVar("Read", Tensor, Transitions)
Made = TypeVar("Made", Tensor, Gaussians)


@dataclass(frozen=True)
class Owned:
    """Parameters by who trains them.

    encoder: the RL loss and the heads. rl: the RL loss alone. heads: each head alone, by name.
    """

    encoder: list[Tensor]
    rl: list[Tensor]
    heads: Mapping[str, list[Tensor]]


def trained(*modules: nn.Module) -> list[Tensor]:
    """Return the parameters that an optimiser owns: a frozen body's have none."""
    return [p for module in modules for p in module.parameters() if p.requires_grad]


@dataclass(frozen=True)
class Meeting:
    """The latent that the RL loss and heads read, None where they read nothing alike; and the encoder's parameters.

    runs_at: the axis of the latent that counts the runs, where those of a fleet are computed as one (their losses then
    have an axis too, and gradients at the latent begin with it).
    """

    latent: Tensor | None
    encoder: list[Tensor]
    runs_at: int = 0

    def split(self, loss: Tensor, others: list[Tensor], *, apart: bool) -> tuple[Gradients, Gradients]:
        """Differentiate a loss at the latent (apart: by the encoder's parameters), and by `others`."""
        at = self.encoder if apart or self.latent is None else [self.latent]
        found = _gradients(loss, [*at, *others])
        if at is not self.encoder and self.runs_at:
            found = (found[0].movedim(self.runs_at, 0), *found[1:])
        return found[: len(at)], found[len(at) :]

    def carry(self, at_latent: Gradients) -> Gradients:
        """Send a gradient at the latent through the encoder, to its parameters."""
        assert self.latent is not None
        if self.runs_at:
            at_latent = tuple(gradient.movedim(0, self.runs_at) for gradient in at_latent)
        return torch.autograd.grad(self.latent, self.encoder, at_latent, retain_graph=True)


def _gradients(loss: Tensor, wanted: list[Tensor]) -> Gradients:
    """Differentiate a loss by tensors that it may not read; the graph stays."""
    if not loss.requires_grad:
        return tuple(torch.zeros_like(tensor) for tensor in wanted)
    found = torch.autograd.grad(summed(loss), wanted, retain_graph=True, allow_unused=True)
    return tuple(torch.zeros_like(w) if g is None else g for g, w in zip(found, wanted, strict=True))


def summed(loss: Tensor) -> Tensor:
    """Return a loss, or the sum of those `(R,)` of a fleet's runs, whose gradient holds each run's own."""
    return loss.sum() if loss.dim() else loss


def scaled(factor: Tensor | float, gradient: Tensor) -> Tensor:
    """Multiply a gradient by a factor, or those `(R, ...)` of a fleet's runs by each one's own `(R,)`."""
    if isinstance(factor, Tensor) and factor.dim():
        factor = factor.view(-1, *[1] * (gradient.dim() - 1))
    return factor * gradient


def added(first: Gradients, second: Gradients) -> Gradients:
    """Return the sum of two gradients, of which either may be empty."""
    if not (first and second):
        return first or second
    return tuple(a + b for a, b in zip(first, second, strict=True))


def watched(encoders: Encoders, calls: list[None]) -> Encoders:
    """Return encoders that add to `calls` whenever an online one runs with gradient."""

    def noting(encode: Callable[[Read], Made]) -> Callable[[Read], Made]:
        def encoding(read: Read) -> Made:
            if torch.is_grad_enabled():
                calls.append(None)
            return encode(read)

        return encoding

    context = encoders.online_context
    return Encoders(
        noting(encoders.online), encoders.target, None if context is None else noting(context), encoders.target_context
    )


class Balance(nn.Module):
    """Running norms of named gradients, corrected for their start at 0 as Adam's moments are.

    norms, mass: `(names,)`, or `(names, R)` for the runs of a fleet.
    """

    norms: Tensor
    mass: Tensor

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self._place = {name: place for place, name in enumerate(names)}
        self.register_buffer("norms", torch.zeros(len(names)))
        self.register_buffer("mass", torch.zeros(len(names)))

    @torch.no_grad()
    def observe(self, name: str, gradient: Sequence[Tensor]) -> Tensor:
        """Take a gradient's norm into its running one. Returns the norm, no axes."""
        place, norm = self._place[name], (each_norm if self.norms.dim() > 1 else total_norm)(gradient)
        self.norms[place].lerp_(norm.to(self.norms.dtype), SHARE)
        self.mass[place].lerp_(torch.ones_like(self.mass[place]), SHARE)
        return norm

    def running(self, name: str) -> Tensor:
        """Return a running norm, no axes; 0 while nothing was observed."""
        place = self._place[name]
        norm: Tensor = self.norms[place] / self.mass[place].clamp(min=LEAST)
        return norm

    def ratio(self, reference: str, name: str, now: Tensor) -> Tensor:
        """Return what makes the gradient `name` as long as the reference, by the running norms.

        now: its norm at this moment. An outlier enters with `OUTLIER` times the reference's length at most, so that a
        head whose first samples come late does not lead the update. 0 where either is flat: where the reference is, the
        head rests too.
        """
        length = torch.maximum(self.running(name), now / OUTLIER)
        ratio = self.running(reference) / length.clamp(min=LEAST)
        return ratio * (length > LEAST)


def total_norm(gradient: Sequence[Tensor]) -> Tensor:
    """Return the Euclidean norm of all numbers in some tensors, in single precision or better, no axes."""
    norms = [torch.linalg.vector_norm(part if part.dtype == torch.float64 else part.float()) for part in gradient]
    norm: Tensor = torch.linalg.vector_norm(torch.stack(norms))
    return norm


def each_norm(gradient: Sequence[Tensor]) -> Tensor:
    """Return `total_norm` of each of a fleet's R runs `(R,)`."""
    norms: Tensor = torch.func.vmap(total_norm)(list(gradient))
    return norms
