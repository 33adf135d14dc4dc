"""How much reward closes a segment, where that follows what episodes earn."""

from collections import deque
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .labels import ReturnLabels

RECENT = 20
"""Finished episodes that a threshold follows; one of every environment if there are more of these."""


class Threshold:
    """The labels' own number or, without one, the mean absolute reward of recent episodes by `ReturnLabels.segments`.

    Episodes without any reward say nothing of its scale, and those of lost workers are not whole: neither counts.
    """

    def __init__(self, labels: ReturnLabels, num_envs: int) -> None:
        self._labels = labels
        self._earned = np.zeros(num_envs, np.float64)  # absolute reward of the running episodes
        self._recent: deque[float] = deque(maxlen=max(RECENT, num_envs))  # of the last finished ones

    @property
    def value(self) -> float:
        """Absolute reward, in task units; infinite while there is nothing to follow."""
        if self._labels.threshold is not None:
            return self._labels.threshold
        return sum(self._recent) / len(self._recent) / self._labels.segments if self._recent else inf

    @property
    def least_length(self) -> int:
        """Agent steps below which reward closes no segment: 2, a partner for every row, unless a number was asked for
        (short episodes have no room for as many segments)."""
        return 2 if self._labels.threshold is None else 1

    def add(self, reward: NDArray[Any], ended: NDArray[np.bool_], died: NDArray[np.bool_]) -> None:
        """Take a step `(N,)` of every environment."""
        self._earned += np.abs(reward)
        if ended.any():
            whole = self._earned[ended & ~died]
            self._recent.extend(whole[whole > 0].tolist())
            self._earned[ended] = 0.0

    def cut(self) -> None:
        """Forget the running episodes."""
        self._earned[:] = 0.0

    def state(self) -> dict[str, Any]:
        return {"earned": self._earned.copy(), "recent": list(self._recent)}

    def load_state(self, tree: dict[str, Any]) -> None:
        self._earned = np.array(tree["earned"], np.float64)
        self._recent.clear()
        self._recent.extend(float(value) for value in tree["recent"])
