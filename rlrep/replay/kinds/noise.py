"""Random numbers, for heads whose loss is random (a compiled loss draws none itself)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..pairs import Anchors, Request, Sampler
from ..reader import Rows


@dataclass(frozen=True)
class Noise(Request[Tensor]):
    """Asks for numbers from U[0, 1), `(B, count)`. Raises ValueError on a count below 1."""

    count: int

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"noise needs at least one number per row, not {self.count}")


class NoiseSampler(Sampler[Noise, Tensor], serves=Noise, reads=Rows):
    """Draws numbers of its own for every head."""

    capturable = True
    rows: Rows

    def draw(self, anchors: Anchors) -> Tensor:
        size = (len(anchors.rows), self.request.count)
        return self.rows.send(torch.rand(size, generator=anchors.generator, device=self.rows.home))
