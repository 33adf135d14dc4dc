"""The bins of the RL batch's returns."""

from dataclasses import dataclass

from torch import Tensor

from ..labels import ReturnLabels
from ..pairs import Anchors, Request, Sampler
from ..reader import Steps
from ..returns import ReturnBins


@dataclass(frozen=True)
class ReturnBin(Request[Tensor]):
    """Asks for the return bins of the RL batch's rows, `(B,)` int64.

    They are `UNKNOWN` until the episode has ended, and for good where a time limit cut off what the return is made of.

    labels: whose bins, binning, discount and horizon count.
    """

    labels: ReturnLabels


class ReturnBinSampler(Sampler[ReturnBin, Tensor], serves=ReturnBin):
    """Keeps the returns of all stored transitions."""

    capturable = True

    def __init__(self, request: ReturnBin, rows: Steps) -> None:
        super().__init__(request, rows)
        self._bins = ReturnBins(request.labels, rows.window, rows.flat["reward"], grouped=False)
        self.keeps = [self._bins]

    def draw(self, anchors: Anchors) -> Tensor:
        bins: Tensor = self.rows.send(self._bins.of(anchors.rows))
        return bins
