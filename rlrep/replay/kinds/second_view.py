"""The RL batch's observations once more, to be seen in another way."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..pairs import Anchors, Request, Sampler, Viewing
from ..reader import Rows


@dataclass(frozen=True)
class SecondView(Request[Tensor]):
    """Asks for the RL batch's observations `count` times, `(count * B, ...)`, copy after copy, each viewed on its own.

    Raises ValueError on a count below 1.
    """

    count: int = 1

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"a batch is seen again at least once, not {self.count} times")

    def viewed(self, found: Tensor, view: Viewing) -> Tensor:
        return view(found)


class SecondViewSampler(Sampler[SecondView, Tensor], serves=SecondView, reads=Rows):
    """Draws nothing: views differ because they are random."""

    capturable = True

    def draw(self, anchors: Anchors) -> Tensor:
        count = self.request.count
        return anchors.obs if count == 1 else torch.cat([anchors.obs] * count)
