"""Uniform draws from a union of integer ranges, one or more per environment."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from .sending import sent

Span = tuple[int, int, int]
"""Environment, first, stop."""


def carve(low: NDArray[np.int64], stop: NDArray[np.int64], holes: Sequence[Span]) -> list[Span]:
    """Return the non-empty ranges low[e]..stop[e]-1 of each environment e less the holes (ordered within e)."""
    spans = []
    for env, (cursor, end) in enumerate(zip(low.tolist(), stop.tolist(), strict=True)):
        for _, hole, resume in (h for h in holes if h[0] == env):
            spans.append((env, cursor, min(hole, end)))
            cursor = max(cursor, resume)
        spans.append((env, cursor, end))
    return [span for span in spans if span[1] < span[2]]


def tabulated(spans: Sequence[Span]) -> NDArray[np.int64]:
    """Return `(3, K)`: how many pairs there are up to the end of each span, what added to a pair's number is its
    position, and the environment."""
    env, first, stop = np.asarray(spans, dtype=np.int64).reshape(-1, 3).T
    ends = np.cumsum(stop - first)
    return np.stack([ends, stop - ends, env])


def looked_up(table: Tensor, pick: Tensor) -> tuple[Tensor, Tensor]:
    """Return positions and environments `(B,)` of the pairs of these numbers `(B,)`, see `tabulated`."""
    ends, shift, env_of = table
    span = torch.searchsorted(ends, pick, right=True)
    return pick + shift[span], env_of[span]


class Spans:
    """A set of (position, environment) pairs given as ranges of positions. `total`: how many pairs."""

    def __init__(self, spans: Sequence[Span], device: torch.device) -> None:
        self.spans = spans
        self._device = device
        self.total = sum(stop - first for _, first, stop in spans)
        self._table: Tensor | None = None

    @property
    def first(self) -> tuple[int, int]:
        """One of the pairs. Raises IndexError if there is none."""
        env, position, _ = self.spans[0]
        return position, env

    def draw(self, count: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """Return positions and environments `(count,)` int64, independent and uniform over the set."""
        if len(self.spans) == 1:  # the common case, one environment, needs no look-up
            env, first, stop = self.spans[0]
            position = torch.randint(first, stop, (count,), generator=generator, device=self._device)
            return position, torch.full_like(position, env)
        if self._table is None:
            self._table = sent(tabulated(self.spans), self._device)
        return looked_up(self._table, torch.randint(self.total, (count,), generator=generator, device=self._device))


def draw_below(bound: Tensor, generator: Generator) -> Tensor:
    """Return one uniform integer in 0..bound-1 for each element of bound `(B,)` int64, all positive."""
    # The remainder favours small numbers by at most bound / 2**62.
    wide = torch.randint(2**62, bound.shape, generator=generator, device=bound.device)
    return wide.remainder_(bound)
