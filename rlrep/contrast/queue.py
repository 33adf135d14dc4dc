"""Negatives from memory (MoCo), and harder ones mixed from them (MoCHi)."""

from typing import Any

import torch
from torch import Generator, Tensor, nn

from .pairs import check_embeddings, unit, wide

UNLABELLED = -1


class MemoryQueue(nn.Module):
    """First-in-first-out memory of keys (MoCo, He et al. 2020): detached, of length 1, with their ages and labels.

    `keys`, `ages` and `labels` are copies in one order, oldest first, of what has been pushed and not yet pushed out.
    Read before you push: a batch is then never its own negative. The state is plain buffers.
    It holds float32, or float64 if its first keys have that. Raises ValueError on a size or dim below 1.
    payload: width of what is kept beside each key as it is, read by `values`; 0 = nothing.
    """

    bank: Tensor
    beside: Tensor
    tags: Tensor
    born: Tensor
    pushes: Tensor

    def __init__(self, size: int, dim: int, *, payload: int = 0) -> None:
        super().__init__()
        if size < 1 or dim < 1:
            raise ValueError(f"size and dim must be at least 1, not {size} and {dim}.")
        self.size, self.payload = size, payload
        self.register_buffer("bank", torch.zeros(size, dim))
        if payload:
            self.register_buffer("beside", torch.zeros(size, payload))
        self.register_buffer("tags", torch.full((size,), UNLABELLED))
        self.register_buffer("born", torch.zeros(size, dtype=torch.int64))  # which push brought the row, from 1
        self.register_buffer("pushes", torch.zeros(2, dtype=torch.int64))  # rows and batches pushed so far
        self._counts: tuple[int, int] | None = (0, 0)  # the same on the host, so that reading waits for no device
        self.register_load_state_dict_post_hook(_forget_counts)  # type: ignore[no-untyped-call]

    def __len__(self) -> int:
        """Return how many keys there are."""
        return min(self._counted()[0], self.size)

    @torch.no_grad()
    def push(self, keys: Tensor, labels: Tensor | None = None, *, values: Tensor | None = None) -> None:
        """Add keys `(B, dim)` with integer labels `(B,)` (None = -1); the oldest make room, also where B > size.

        values: `(B, payload)`, where there is one.
        Raises ValueError on other shapes.
        """
        dim = self.bank.shape[1]
        if keys.ndim != 2 or keys.shape[1] != dim or (labels is not None and labels.shape != keys.shape[:1]):
            got = f"{tuple(keys.shape)}" + ("" if labels is None else f" and {tuple(labels.shape)}")
            raise ValueError(f"Expected keys (B, {dim}) and labels (B,) or None, got {got}.")
        wanted = (len(keys), self.payload) if self.payload else None
        if (None if values is None else tuple(values.shape)) != wanted:
            raise ValueError(f"Expected values {wanted}, got {None if values is None else tuple(values.shape)}.")
        if keys.dtype == torch.float64 and len(self) == 0:
            self.bank = self.bank.double()
        start, batches = self._counted()
        self._counts = (start + len(keys), batches + 1)
        self.pushes[0] += len(keys)
        self.pushes[1] += 1
        index = torch.arange(start, start + len(keys), device=self.bank.device)[-self.size :] % self.size
        self.bank[index] = unit(keys[-self.size :]).to(self.bank)
        if values is not None:
            self.beside[index] = values[-self.size :].to(self.beside)
        self.tags[index] = UNLABELLED if labels is None else labels[-self.size :].to(self.tags)
        self.born[index] = batches + 1

    def keys(self) -> Tensor:
        """Return the keys `(K, dim)`, K <= size."""
        return self._in_order(self.bank)

    def values(self) -> Tensor:
        """Return what is kept beside the keys, `(K, payload)`."""
        return self._in_order(self.beside)

    def ages(self) -> Tensor:
        """Return how many pushes ago each key came, `(K,)` int64: 1 for the last push (VideoMoCo, Pan et al. 2021)."""
        return self._counted()[1] + 1 - self._in_order(self.born)

    def stored_ages(self) -> Tensor:
        """Return the ages as `bank` stores the keys, `(size,)`, of no meaning where no key is. Waits for no device."""
        return self.pushes[1] + 1 - self.born

    def labels(self) -> Tensor:
        """Return the labels `(K,)` int64, -1 where none was given."""
        return self._in_order(self.tags)

    def _in_order(self, rows: Tensor) -> Tensor:
        if len(self) < self.size:
            return rows[: len(self)].clone()
        return rows.roll(-(self._counted()[0] % self.size), 0)

    def _counted(self) -> tuple[int, int]:
        if self._counts is None:
            self._counts = (int(self.pushes[0]), int(self.pushes[1]))
        return self._counts


def _forget_counts(queue: nn.Module, _: Any) -> None:
    assert isinstance(queue, MemoryQueue)
    queue._counts = None


@torch.no_grad()
def mix_hard_negatives(
    query: Tensor,
    negatives: Tensor,
    *,
    hardest: int,
    mixed: int,
    query_mixed: int,
    generator: Generator | None = None,
) -> Tensor:
    """Mix new negatives from the hardest of each query (MoCHi, Kalantidis et al. 2020).

    The first `mixed` are a n_i + (1 - a) n_j, a in (0, 1); the other `query_mixed` are b query + (1 - b) n_j,
    b in (0, 0.5); n_i and n_j are drawn with replacement from the `hardest` negatives most similar to the query (all,
    where there are fewer).

    query: `(N, D)`. negatives: `(K, D)`, K > 0. generator: of the draws, on the device of query.
    Returns `(N, mixed + query_mixed, D)`, rows of length 1, detached: append them to the negatives.
    Raises ValueError on shapes that do not fit and on counts below 0 (`hardest`: below 1).
    """
    check_embeddings("query", query)
    if negatives.ndim != 2 or negatives.shape[1] != query.shape[1] or len(negatives) == 0:
        raise ValueError(f"negatives must be (K, {query.shape[1]}) with K > 0, got {tuple(negatives.shape)}.")
    if hardest < 1 or mixed < 0 or query_mixed < 0:
        counts = f"hardest {hardest}, mixed {mixed}, query_mixed {query_mixed}"
        raise ValueError(f"hardest must be above 0, mixed and query_mixed not below, got {counts}.")
    dtype = wide(query, negatives)[0].dtype

    def rand(count: int) -> Tensor:
        return torch.rand((len(query), count), generator=generator, device=query.device, dtype=dtype)

    first, share = rand(mixed), torch.cat([rand(mixed), rand(query_mixed)], 1)
    return mixtures(query, negatives, first, share, rand(mixed + query_mixed), hardest=hardest)


@torch.no_grad()
def mixtures(
    query: Tensor,
    negatives: Tensor,
    first: Tensor,
    share: Tensor,
    other: Tensor,
    *,
    hardest: int,
    valid: Tensor | None = None,
) -> Tensor:
    """Mix as `mix_hard_negatives` does, from given numbers in U[0, 1), and from valid negatives only.

    first `(N, mixed)` and other `(N, mixed + query_mixed)` pick the negatives, share `(N, mixed + query_mixed)` says
    how much of the first (or half as much of the query) enters. valid: `(N, K)` bool; None = all.
    """
    mixed, hardest = first.shape[1], min(hardest, len(negatives))
    query, negatives = (unit(z) for z in wide(query, negatives))
    with torch.autocast(query.device.type, enabled=False):
        similarity = query @ negatives.T
    if valid is not None:
        similarity = similarity.masked_fill(~valid, -2.0)
    top = similarity.topk(hardest, sorted=False).indices

    def picked(numbers: Tensor) -> Tensor:
        return negatives[top.gather(1, (numbers * hardest).long().clamp_max(hardest - 1))]

    one = torch.cat([picked(first), query[:, None].expand(-1, share.shape[1] - mixed, -1)], 1)
    weight = torch.cat([share[:, :mixed], 0.5 * share[:, mixed:]], 1)[..., None]
    return unit(weight * one + (1.0 - weight) * picked(other))
