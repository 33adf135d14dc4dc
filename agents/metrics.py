"""An agent's metrics: added up on the device, and read from it when they are logged."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rlrep.heads import Metrics

Named = tuple[str, ...]


@dataclass(frozen=True)
class Scalars:
    """Named metrics in one tensor `(len(names),)`, so that an update hands over and adds up one tensor instead of
    twenty."""

    names: Named
    values: Tensor

    @staticmethod
    def stack(metrics: Metrics) -> "Scalars":
        """Join scalar tensors."""
        return Scalars(tuple(metrics), torch.stack([value.float() for value in metrics.values()]))

    def read(self) -> dict[str, float]:
        """Return the values by name (reads from the device)."""
        return dict(zip(self.names, self.values.tolist(), strict=True))


class Means:
    """Means of metrics since they were last read, and the metrics of the last update."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._sums: dict[Named, tuple[Tensor, int]] = {}
        self._last: Sequence[Scalars] = ()

    def add(self, metrics: Sequence[Scalars]) -> None:
        """Take an update's metrics."""
        self._last = metrics
        for scalars in metrics:
            total, count = self._sums.get(scalars.names, (0, 0))
            self._sums[scalars.names] = (total + scalars.values, count + 1)

    def read(self) -> dict[str, float]:
        """Return means since the last call (reads from the device)."""
        means = [Scalars(names, total / count) for names, (total, count) in self._sums.items()]
        self._sums = {}
        return {name: value for scalars in means for name, value in scalars.read().items()}

    def nonfinite(self) -> list[str]:
        """Name the metrics of the last update that are NaN or infinite (reads from the device)."""
        bad = [scalars for scalars in self._last if not scalars.values.isfinite().all()]
        return [name for scalars in bad for name, value in scalars.read().items() if not math.isfinite(value)]

    def state(self) -> list[Any]:
        """Return the sums."""
        return [[list(names), total, count] for names, (total, count) in self._sums.items()]

    def load_state(self, sums: Sequence[Any]) -> None:
        """Restore `state()`."""
        self._sums = {tuple(names): (total.to(self._device), count) for names, total, count in sums}
