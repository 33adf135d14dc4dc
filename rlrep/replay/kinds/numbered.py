"""Which transitions the RL batch's rows are."""

from dataclasses import dataclass

from torch import Tensor

from ..pairs import Anchors, Request, Sampler
from ..reader import Steps


@dataclass(frozen=True)
class Numbered(Request[Tensor]):
    """Asks for a number of each row's transition, `(B,)` int64: its own for good, and no other's of this replay."""


class NumberedSampler(Sampler[Numbered, Tensor], serves=Numbered):
    """Counts step by step, environment by environment."""

    capturable = True
    rows: Steps

    def draw(self, anchors: Anchors) -> Tensor:
        return self.rows.send(anchors.step * self.rows.window.num_envs + anchors.env)
