"""Running norms of gradients, kept on the device, by which heads pull on an encoder as hard as the RL loss does."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

SHARE = 0.01
"""Weight of the newest norm in a running one, which so remembers about a hundred updates."""
LEAST = 1e-12
OUTLIER = 3.0
"""How many times its running norm a gradient may be and still enter in full."""


class Balance(nn.Module):
    """Running norms of named gradients, corrected for their start at 0 as Adam's moments are."""

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
        place, norm = self._place[name], total_norm(gradient)
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
