"""Numbers that a draw reads: plain ones, or tensors where a captured draw finds them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from .spans import Spans, draw_below, looked_up, tabulated

Whole = NDArray[np.int64]


class Shared:
    """What changes in a draw from one to the next, besides stored rows.

    A CUDA graph repeats the numbers that it was captured with, so what it captures must hold none that change. Whoever
    knows some adds them as a part. In `reading()` they are read as a tensor, which `refresh` fills by one copy.
    """

    def __init__(self) -> None:
        self._parts: list[Callable[[], Whole]] = []
        self._tensor = torch.zeros(0, dtype=torch.int64)
        self._views: Sequence[Tensor] = ()
        self.read = False

    def add(self, part: Callable[[], Whole]) -> int:
        """Take in numbers `(K,)` int64, of which there may come to be more, never fewer; return their place.

        A refresh asks for parts in the order in which they were added.
        """
        self._parts.append(part)
        return len(self._parts) - 1

    def __getitem__(self, place: int) -> Tensor:
        """Return the numbers at a place, as they were at the last refresh."""
        return self._views[place]

    def refresh(self, device: torch.device) -> bool:
        """Bring the tensor up to date; return whether it lies elsewhere than before, since there are more numbers."""
        parts = [part() for part in self._parts]
        fresh = torch.from_numpy(np.concatenate(parts))
        moved = len(fresh) != len(self._tensor)
        if moved:
            self._tensor = torch.empty_like(fresh, device=device)
            self._views = self._tensor.split([len(part) for part in parts])
        self._tensor.copy_(fresh.pin_memory() if device.type == "cuda" else fresh, non_blocking=True)
        return moved

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Let draws in this block read the tensor."""
        self.read = True
        try:
            yield
        finally:
            self.read = False


class SharedSpans:
    """`Spans` in a tensor.

    spans: gives those of the moment. room: for how many there is room at first.
    """

    def __init__(self, shared: Shared, spans: Callable[[], Spans], room: int) -> None:
        self._shared, self._spans, self._room = shared, spans, room
        self._place = shared.add(self._numbers)

    def _numbers(self) -> Whole:
        """Tabulate them, and after them empty ones, which no draw finds."""
        table = tabulated(self._spans().spans)
        count = table.shape[1]
        while count > self._room:
            self._room *= 2
        padded = np.zeros((3, self._room), np.int64)
        padded[:, :count] = table
        padded[0, count:] = table[0, -1] if count else 0
        return padded.reshape(-1)

    @property
    def _table(self) -> Tensor:
        return self._shared[self._place].view(3, -1)

    @property
    def first(self) -> tuple[Tensor, Tensor]:
        """One of the pairs, no axes."""
        _, shift, env = self._table[:, 0].unbind()
        return shift, env

    def draw(self, count: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """Return positions and environments `(count,)` int64, independent and uniform over the set."""
        table = self._table
        return looked_up(table, draw_below(table[0, -1].expand(count), generator))
