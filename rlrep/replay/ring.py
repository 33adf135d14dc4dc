"""Fixed-size columns that are only ever appended to, and the window of logical steps they hold."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from .shared import Shared, Whole

Layout = Mapping[str, tuple[tuple[int, ...], torch.dtype]]
"""Shape of one row and type, by column name."""

NUMPY = {
    torch.uint8: np.dtype(np.uint8),
    torch.bool: np.dtype(np.bool_),
    torch.int32: np.dtype(np.int32),
    torch.int64: np.dtype(np.int64),
    torch.float32: np.dtype(np.float32),
}


class Ring:
    """Columns of equal length on one device. Row r (counted from the first ever appended) lives in slot r % capacity.

    columns: by name, each `(capacity, *shape)`. written: rows ever appended.
    Main memory is taken as it is first written to, so a large ring costs nothing until it fills (pinned: at once).
    """

    def __init__(self, capacity: int, layout: Layout, *, device: torch.device, pinned: bool = False) -> None:
        if capacity < 1:
            raise ValueError(f"A ring needs room for at least one row, not {capacity}.")
        self.capacity = capacity
        self.written = 0
        self._packs = device.type == "cuda"  # a copy of each column would be a call, and a wait, each
        self.columns = {
            name: _zeros((capacity, *shape), dtype, device, pinned) for name, (shape, dtype) in layout.items()
        }

    @property
    def oldest(self) -> int:
        """First row still stored."""
        return max(0, self.written - self.capacity)

    @property
    def nbytes(self) -> int:
        return sum(column.nbytes for column in self.columns.values())

    def append(self, rows: Mapping[str, Tensor]) -> None:
        """Add k rows to every column; each tensor is `(k, *shape)`. Raises ValueError if k exceeds the capacity."""
        count = self._count(rows)
        if count > self.capacity:
            raise ValueError(f"Cannot append {count} rows to a ring of {self.capacity}.")
        (self._send if self._packs else self._write)(self.written, rows, count)
        self.written += count

    def read(self, start: int, stop: int) -> dict[str, Tensor]:
        """Return copies of rows start..stop-1. Raises ValueError unless all of them are stored."""
        if not self.oldest <= start <= stop <= self.written:
            raise ValueError(f"Rows {start}..{stop} are not stored; the ring holds {self.oldest}..{self.written}.")
        parts = self._parts(start, stop - start)
        return {
            name: torch.cat([column[slot : slot + size] for slot, size in parts])
            for name, column in self.columns.items()
        }

    def restore(self, start: int, rows: Mapping[str, Tensor]) -> None:
        """Put rows back at start, in the order in which they were appended; the last of them becomes the newest row."""
        count = self._count(rows)
        skip = max(0, count - self.capacity)
        self._write(start + skip, {name: tensor[skip:] for name, tensor in rows.items()}, count - skip)
        self.written = start + count

    def _count(self, rows: Mapping[str, Tensor]) -> int:
        if rows.keys() != self.columns.keys():
            raise ValueError(f"Rows have columns {sorted(rows)}; the ring has {sorted(self.columns)}.")
        counts = {len(tensor) for tensor in rows.values()}
        if len(counts) != 1:
            raise ValueError(f"Columns of unequal length: { {name: len(tensor) for name, tensor in rows.items()} }.")
        return counts.pop()

    def _write(self, start: int, rows: Mapping[str, Tensor], count: int) -> None:
        done = 0
        for slot, size in self._parts(start, count):
            for name, tensor in rows.items():
                self.columns[name].narrow(0, slot, size).copy_(tensor.narrow(0, done, size))
            done += size

    def _send(self, start: int, rows: Mapping[str, Tensor], count: int) -> None:
        """Write rows by one copy from pinned memory, which nobody waits for, and one launch that puts them in place."""
        columns = [self.columns[name] for name in rows]
        tensors = [tensor.to(column.dtype) for tensor, column in zip(rows.values(), columns, strict=True)]
        sizes = [-(-tensor.nbytes // 8) * 8 for tensor in tensors]
        packed = torch.empty(sum(sizes), dtype=torch.uint8, pin_memory=torch.cuda.is_available())
        for part, tensor in zip(packed.split(sizes), tensors, strict=True):
            part[: tensor.nbytes].copy_(_bytes(tensor))
        there, done = packed.to(columns[0].device, non_blocking=True).split(sizes), 0
        for slot, size in self._parts(start, count):
            into = [_bytes(column.narrow(0, slot, size)) for column in columns]
            first = [done * column[0].nbytes for column in columns]
            source = [part[at : at + len(own)] for part, at, own in zip(there, first, into, strict=True)]
            torch._foreach_copy_(into, source)
            done += size

    def _parts(self, start: int, count: int) -> list[tuple[int, int]]:
        """Slot and size of the one or two stretches that rows start..start+count-1 occupy."""
        slot = start % self.capacity
        head = min(count, self.capacity - slot)
        return [(slot, head)] if head == count else [(slot, head), (0, count - head)]


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.flatten().view(torch.uint8)


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device, pinned: bool) -> Tensor:
    if device.type == "cpu" and not pinned:
        return torch.from_numpy(np.zeros(shape, NUMPY[dtype]))  # untouched pages stay unallocated, unlike torch.zeros
    return torch.zeros(shape, dtype=dtype, device=device, pin_memory=pinned)


@dataclass
class Window:
    """Logical steps low..head-1 of `num_envs` environments, kept in a ring of `steps` rows.

    Step t of environment e is flat row `(t % steps) * num_envs + e` of every column.
    shared: what draws know of it and of what is kept beside it.
    """

    steps: int
    num_envs: int
    low: int = 0
    head: int = 0
    shared: Shared = field(default_factory=Shared)

    def __post_init__(self) -> None:
        self._place = self.shared.add(self._ends)

    def _ends(self) -> Whole:
        return np.array([self.low, self.head])

    @property
    def ends(self) -> tuple[int | Tensor, int | Tensor]:
        """Low and head as a draw reads them: plain numbers, or tensors without axes (see `Shared`)."""
        if not self.shared.read:
            return self.low, self.head
        low, head = self.shared[self._place].unbind()
        return low, head

    def rows(self, step: Tensor, env: Tensor | int) -> Tensor:
        """Flat rows of steps `(...)` int64 of environments `(...)` int64."""
        return step.remainder(self.steps).mul_(self.num_envs) + env

    def steps_of(self, rows: Tensor) -> Tensor:
        """Steps of stored flat rows `(...)` int64."""
        newest = self.ends[1] - 1
        back = newest % self.steps - rows.div(self.num_envs, rounding_mode="floor")
        return newest - back.remainder_(self.steps)

    @property
    def newest_slot(self) -> int:
        return (self.head - 1) % self.steps
