"""Sampling weights: draws in proportion to them, and cheap changes."""

import torch
from torch import Tensor

LEVELS = 3
"""Of the tree. Measured on the CPU at 100k and 1M rows: benchmarks/priority_sampling.py."""


class WeightTree:
    """Weights of rows 0..size-1, float32 and not negative, under a tree of their sums; at first all are 0.

    A node has about the cube root of size children, so that few operations lead from the root to a row. Sums are
    float64 and taken anew at every change, so that no rounding accumulates. Nothing waits for the device.
    """

    def __init__(self, size: int, device: torch.device, *, levels: int = LEVELS) -> None:
        self.size = size
        self._width = width = _root_above(size, levels)  # one spare row at least, which takes writes to no row
        shapes = [(width ** (levels - 1 - level), width) for level in range(levels)]
        self._levels = [torch.zeros(shapes[0], device=device)]  # each row holds the children of one node
        self._levels += [torch.zeros(shape, dtype=torch.float64, device=device) for shape in shapes[1:]]
        self._weights = self._levels[0].view(-1)

    @property
    def nbytes(self) -> int:
        return sum(level.nbytes for level in self._levels)

    def of(self, rows: Tensor) -> Tensor:
        """Return the weights `(B,)` float32 of rows `(B,)`."""
        return self._weights.index_select(0, rows)

    @property
    def all(self) -> Tensor:
        """The weights `(size,)` float32 of all rows."""
        return self._weights[: self.size]

    def draw(self, uniform: Tensor, fallback: int | Tensor) -> Tensor:
        """Return rows `(B,)` drawn by B numbers from U[0, 1), float64, one within each of B equal strata.

        fallback: a row of positive weight, drawn where rounding leads to a row of weight 0, as it may within about
        1e-15 of a row's end. At least one weight must be positive.
        """
        strata = torch.arange(len(uniform), device=uniform.device)
        target = ((strata + uniform) * (self._levels[-1].sum() / len(uniform)))[:, None]
        node = torch.zeros_like(strata)
        for level in reversed(self._levels):
            sums = level.index_select(0, node)
            prefix = sums.cumsum(1, dtype=torch.float64)
            child = torch.searchsorted(prefix, target, right=True).clamp_max_(self._width - 1)
            target = target - (prefix.gather(1, child) - sums.gather(1, child))
            node = child.squeeze(1).add_(node, alpha=self._width)
        return torch.where(self.of(node) > 0, node, fallback)

    def write(self, rows: Tensor, weights: Tensor, keep: Tensor) -> None:
        """Set the weights `(B,)` of rows `(B,)` where `keep`; of several for one row the largest stays."""
        rows = torch.where(keep, rows, self.size)
        weights = torch.where(keep, weights, 0.0)
        self._weights.scatter_reduce_(0, rows, weights, "amax", include_self=False)
        self._renew(rows.div(self._width, rounding_mode="floor"))

    def move(self, out: Tensor, into: Tensor, weight: Tensor) -> None:
        """Set the weights of rows `out` to 0, then those of rows `into` to one weight (no axes). Row `size` is none."""
        self._weights.index_fill_(0, out, 0.0)
        self._weights.index_copy_(0, into, torch.where(into < self.size, weight, 0.0))
        self._renew(torch.cat([out, into]).div_(self._width, rounding_mode="floor"))

    def _renew(self, nodes: Tensor) -> None:
        """Take the sums of nodes above the rows anew, and of all above these."""
        for level, above in zip(self._levels[:-1], self._levels[1:], strict=True):
            above.view(-1).index_copy_(0, nodes, level.index_select(0, nodes).sum(1, dtype=torch.float64))
            nodes = nodes.div(self._width, rounding_mode="floor")

    def state(self) -> list[Tensor]:
        return [level.clone() for level in self._levels]

    def load_state(self, levels: list[Tensor]) -> None:
        for mine, theirs in zip(self._levels, levels, strict=True):
            mine.copy_(theirs)


def _root_above(size: int, degree: int) -> int:
    """Return the smallest whole number above 1 whose power of `degree` exceeds size."""
    root = max(2, int(size ** (1 / degree)))
    while root**degree <= size:
        root += 1
    return root
