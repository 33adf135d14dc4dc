"""Negatives beyond the batch, with their settings: a queue of earlier keys, and what is mixed from its hardest ones."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..queue import UNLABELLED, MemoryQueue, mix_hard_negatives, mixtures


@dataclass(frozen=True)
class HardMixing:
    """Synthetic negatives from the hardest ones (MoCHi), once a share `after` of training is over."""

    hardest: int = 1024
    mixed: int = 1024
    query_mixed: int = 128
    after: float = 0.0

    @property
    def numbers(self) -> int:
        """How many random numbers a row takes."""
        return 3 * self.mixed + 2 * self.query_mixed

    def __call__(self, query: Tensor, negatives: Tensor) -> Tensor:
        """Return negatives `(N, mixed + query_mixed, D)` for each query `(N, D)`."""
        return mix_hard_negatives(
            query, negatives, hardest=self.hardest, mixed=self.mixed, query_mixed=self.query_mixed
        )

    def given(self, query: Tensor, negatives: Tensor, valid: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Mix with given numbers `(N, numbers)` from U[0, 1), from what is `valid` `(N, K)`.

        Returns the mixtures, and whether they count, `(N, mixed + query_mixed)` bool: not while a query has fewer than
        `hardest` valid negatives.
        """
        count = self.mixed + self.query_mixed
        other, first, share = noise.split([count, self.mixed, count], 1)
        made = mixtures(query, negatives, first, share, other, hardest=self.hardest, valid=valid)
        enough = valid.sum(1) >= min(self.hardest, len(negatives))
        return made, enough[:, None].expand(-1, count)


@dataclass(frozen=True)
class Queue:
    """Negatives from the keys of earlier batches. size: keys. mixing: what is made of them besides.

    decay: what a key's length, and so its similarity, is multiplied by at every push after its own (VideoMoCo, Pan et
    al. 2021, arXiv 2103.05905, equation 4). Raises ValueError on a decay outside (0, 1], or with mixing.
    """

    size: int = 65536
    mixing: HardMixing | None = None
    decay: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 < self.decay <= 1.0:
            raise ValueError(f"decay must be in (0, 1], not {self.decay}")
        if self.fades and self.mixing is not None:
            raise ValueError(f"decay={self.decay} is of keys as they are: give mixing=null, or decay=1")

    @property
    def fades(self) -> bool:
        """Whether keys have lengths that count, see `Among`."""
        return self.decay < 1.0

    def make(self, dim: int) -> MemoryQueue:
        """Build the memory for keys `(N, dim)`."""
        return MemoryQueue(self.size, dim)

    def negatives(self, queue: MemoryQueue, query: Tensor, progress: float) -> list[Tensor]:
        """Return what the queries `(N, D)` are contrasted with: the queue and, from `mixing.after` on, its mixtures."""
        keys = queue.keys() * self.decay ** queue.ages()[:, None] if self.fades else queue.keys()
        if self.mixing is None or len(keys) == 0 or progress < self.mixing.after:
            return [keys]
        with torch.no_grad():
            return [keys, self.mixing(query.detach(), keys)]


class KeyQueue(nn.Module):
    """A `MemoryQueue` for compiled losses: read at its full size, so that shapes stay the same while it fills.

    `stage` within the loss, `push` after the update: a batch is never its own negative.
    Raises ValueError on sizes below 1.
    """

    staged: Tensor
    staged_labels: Tensor

    def __init__(self, config: Queue, dim: int) -> None:
        super().__init__()
        self.config, self.memory = config, config.make(dim)
        self.register_buffer("staged", torch.zeros(config.size, dim), persistent=False)
        self.register_buffer("staged_labels", torch.full((config.size,), UNLABELLED), persistent=False)
        self._rows = 0

    @property
    def filled(self) -> Tensor:
        """Which keys there are, bool `(size,)`."""
        return self.memory.born > 0

    def negatives(self, query: Tensor, labels: Tensor | None, noise: Tensor | None) -> tuple[list[Tensor], Tensor]:
        """Return keys and, with noise `(N, mixing.numbers)`, mixtures; and which count for each query, `(N, K)` bool.

        labels: `(N,)` int64 of the queries; keys known to share it do not count.
        """
        keys, valid = self.memory.bank, self.filled.expand(len(query), -1)
        if labels is not None:
            valid = valid & ~same_known(labels, self.memory.tags)
        if self.config.fades:
            keys = keys * self.config.decay ** self.memory.stored_ages()[:, None]
        if self.config.mixing is None or noise is None:
            return [keys], valid
        mixed, counts = self.config.mixing.given(query, keys, valid, noise)
        return [keys, mixed], torch.cat([valid, counts], 1)

    @torch.no_grad()
    def stage(self, keys: Tensor, labels: Tensor | None) -> None:
        """Keep keys `(B, D)` and their labels for `push`. Raises ValueError if there are more than fit."""
        rows = len(keys)
        if rows > len(self.staged):
            raise ValueError(f"queue_size={len(self.staged)} is below the {rows} keys of a batch: raise it")
        self._rows = rows
        self.staged[:rows] = keys
        if labels is not None:
            self.staged_labels[:rows] = labels

    def push(self) -> None:
        """Add what was staged."""
        if self._rows:
            self.memory.push(self.staged[: self._rows], self.staged_labels[: self._rows])


def same_known(first: Tensor, second: Tensor) -> Tensor:
    """Return `(A, B)` bool: labels `(A,)` and `(B,)` are both known (not -1) and equal."""
    return (first[:, None] == second[None, :]) & (first[:, None] != UNLABELLED)
