"""Negatives from earlier batches, inside a compiled update."""

import torch
from torch import Tensor, nn

from rlrep.contrast import MemoryQueue
from rlrep.replay import UNKNOWN

from .negatives import same_known


class KeyQueue(nn.Module):
    """A `MemoryQueue` that is read at its full size, so that shapes stay the same while it fills, and pushed to later.

    `stage` within the loss, `push` after the update: a batch is never its own negative.
    Raises ValueError on sizes below 1.
    """

    staged: Tensor
    staged_bins: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.memory = MemoryQueue(size, dim)
        self.register_buffer("staged", torch.zeros(size, dim), persistent=False)
        self.register_buffer("staged_bins", torch.full((size,), UNKNOWN), persistent=False)
        self._rows = 0

    @property
    def keys(self) -> Tensor:
        """Keys `(size, D)` of length 1; rows never pushed are zero."""
        return self.memory.bank

    @property
    def filled(self) -> Tensor:
        """Which of them there are, bool `(size,)`."""
        return self.memory.born > 0

    def valid(self, bins: Tensor | None, rows: int) -> Tensor:
        """Return `(rows, size)` bool: there is a key, and not one known to share the return bin in `bins` `(rows,)`."""
        filled = self.filled.expand(rows, -1)
        return filled if bins is None else filled & ~same_known(bins, self.memory.tags)

    @torch.no_grad()
    def stage(self, keys: Tensor, bins: Tensor | None) -> None:
        """Keep keys `(B, D)` and their return bins for `push`. Raises ValueError if there are more than fit."""
        rows = len(keys)
        if rows > len(self.staged):
            raise ValueError(f"queue_size={len(self.staged)} is below the {rows} keys of a batch: raise it")
        self._rows = rows
        self.staged[:rows] = keys
        if bins is not None:
            self.staged_bins[:rows] = bins

    def push(self) -> None:
        """Add what was staged."""
        if self._rows:
            self.memory.push(self.staged[: self._rows], self.staged_bins[: self._rows])


def mix_with_noise(
    query: Tensor, negatives: Tensor, valid: Tensor, noise: Tensor, *, hardest: int, mixed: int, query_mixed: int
) -> tuple[Tensor, Tensor]:
    """Mix hard negatives as `rlrep.contrast.mix_hard_negatives` does, from given numbers and valid negatives only.

    query: `(N, D)`. negatives: `(K, D)`. valid: `(N, K)` bool. noise: `(N, 3 mixed + 2 query_mixed)` from U[0, 1).
    Returns `(N, mixed + query_mixed, D)`, rows of length 1, detached, and whether they count, `(N, mixed +
    query_mixed)` bool: not while a query has fewer than `hardest` valid negatives.
    """
    count = mixed + query_mixed
    with torch.no_grad(), torch.autocast(query.device.type, enabled=False):
        query, negatives = (nn.functional.normalize(z.float(), dim=1) for z in (query, negatives))
        hardest = min(hardest, len(negatives))
        top = (query @ negatives.T).masked_fill(~valid, -2.0).topk(hardest, sorted=False).indices
        other, first, share = noise.split([count, mixed, count], 1)

        def pick(numbers: Tensor) -> Tensor:
            return negatives[top.gather(1, (numbers * hardest).long().clamp_max(hardest - 1))]

        share = torch.cat([share[:, :mixed], 0.5 * share[:, mixed:]], 1)[..., None]
        one = torch.cat([pick(first), query[:, None].expand(-1, query_mixed, -1)], 1)
        made = nn.functional.normalize(share * one + (1.0 - share) * pick(other), dim=2)
    return made, (valid.sum(1) >= hardest)[:, None].expand(-1, count)
