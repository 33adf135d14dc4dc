"""What is compared with what: similarities of embeddings, who is whose negative, and the checks of their shapes."""

from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

Similarity = Literal["cosine", "dot", "neg_sq_dist"]


def wide(*tensors: Tensor) -> list[Tensor]:
    """Return the tensors in one precision: float64 if one of them has it, float32 otherwise."""
    double = any(tensor.dtype == torch.float64 for tensor in tensors)
    return [tensor.to(torch.float64 if double else torch.float32) for tensor in tensors]


def unit(z: Tensor) -> Tensor:
    """Return z with rows of length 1, in float32 at least; a row shorter than 1e-12 becomes 0, without gradient."""
    (z,) = wide(z)
    norm = torch.linalg.vector_norm(z, dim=-1, keepdim=True)
    rows: Tensor = (z / norm.clamp_min(1e-12)).masked_fill(norm <= 1e-12, 0.0)
    return rows


def dot(query: Tensor, candidates: Tensor) -> Tensor:
    """Return query @ candidates.T `(N, K)` in float32 at least, also under autocast.

    query: `(N, D)`. candidates: `(K, D)`, or `(N, K, D)` where every query has its own.
    """
    query, candidates = wide(query, candidates)
    with torch.autocast(query.device.type, enabled=False):
        if candidates.ndim == 2:
            return query @ candidates.mT
        return (candidates @ query.unsqueeze(-1)).squeeze(-1)


def squared_distance(query: Tensor, candidates: Tensor) -> Tensor:
    """Return ||a - b||^2 `(N, K)`, never negative; shapes as in `dot`.

    Both are moved to the mean of the candidates first: the expanded square would lose distances that are small
    beside the norms.
    """
    query, candidates = wide(query, candidates)
    centre = candidates.detach().flatten(0, -2).mean(0) if candidates.numel() else 0.0
    query, candidates = query - centre, candidates - centre
    norms = query.square().sum(-1, keepdim=True) + candidates.square().sum(-1)
    return (norms - 2.0 * dot(query, candidates)).clamp_min(0.0)


def compare(query: Tensor, candidates: Tensor, kind: Similarity) -> Tensor:
    """Return the similarities `(N, K)`; shapes as in `dot`. Raises ValueError on an unknown kind."""
    if kind == "cosine":
        return dot(unit(query), unit(candidates))
    if kind == "dot":
        return dot(query, candidates)
    if kind == "neg_sq_dist":
        return -squared_distance(query, candidates)
    raise ValueError(f"similarity must be one of {', '.join(get_args(Similarity))}, not {kind!r}.")


class Pairs(NamedTuple):
    """Anchors `A` against candidates `C`: logits `(A, C)`, and which of them attract and repel, bool `(A, C)`.

    Neither holds for an anchor itself, nor for a negative that is not valid.
    """

    logits: Tensor
    positive: Tensor
    negative: Tensor


class TwoViews(NamedTuple):
    """2N anchors with one positive each: its logit `(2N,)`, the logits of all rows and who is a negative `(2N, 2N)`."""

    positive: Tensor
    logits: Tensor
    negative: Tensor


def self_pairs(count: int, like: Tensor) -> Tensor:
    """Return the identity `(count, count)` as bool, where `like` is."""
    return torch.eye(count, dtype=torch.bool, device=like.device)


def two_views(z1: Tensor, z2: Tensor, temperature: float, valid: Tensor | None) -> TwoViews:
    """Pair the rows of two views, each `(N, D)`: the positive is the other view, negatives are all other samples."""
    check_embeddings("z1, z2", z1, z2)
    count = len(z1)
    check_valid(valid, count, count)
    z = unit(torch.cat(wide(z1, z2)))
    logits = dot(z / above_zero(temperature), z)
    other = ~self_pairs(count, z) if valid is None else valid & ~self_pairs(count, z)
    return TwoViews(torch.cat([logits.diagonal(count), logits.diagonal(-count)]), logits, other.repeat(2, 2))


def label_pairs(
    features: Tensor,
    labels: Tensor | None,
    temperature: float,
    valid: Tensor | None,
    anchor_views: int | None = None,
    attract: Tensor | None = None,
) -> Pairs:
    """Pair the rows of V views `(N, V, D)`, view after view: positives share the label (None: the sample).

    anchor_views: how many of the views are anchors (None = all); candidates are always all. attract: `(N, N)` bool,
    which pairs that share a label are positives; the others are neither.
    """
    if features.ndim != 3 or features.numel() == 0:
        raise ValueError(f"features must be (N, V, D) with N, V, D > 0, got {tuple(features.shape)}.")
    count, views, _ = features.shape
    check_valid(valid, count, count)
    check_valid(attract, count, count, "attract")
    z = unit(features).transpose(0, 1).flatten(0, 1)
    anchors = views if anchor_views is None else anchor_views
    same = self_pairs(count, z) if labels is None else same_label(labels, count)
    other = ~same if valid is None else valid & ~same
    itself = self_pairs(count * views, z)[: count * anchors]
    logits = dot(z[: count * anchors] / above_zero(temperature), z)
    positive = same if attract is None else same & attract
    return Pairs(logits, positive.repeat(anchors, views) & ~itself, other.repeat(anchors, views))


def same_label(labels: Tensor, count: int) -> Tensor:
    """Return bool `(count, count)`: who shares a label. Raises ValueError unless labels is `(count,)`."""
    if labels.shape != (count,):
        raise ValueError(f"labels must be ({count},), one per sample, got {tuple(labels.shape)}.")
    return labels[:, None] == labels[None, :]


def check_embeddings(names: str, *tensors: Tensor) -> None:
    """Raise ValueError unless all are `(N, D)` of one shape with N, D > 0. names: for the message, `z1, z2`."""
    if any(z.ndim != 2 or z.shape != tensors[0].shape or z.numel() == 0 for z in tensors):
        shapes = ", ".join(str(tuple(z.shape)) for z in tensors)
        raise ValueError(f"Expected {names} to be (N, D) of one shape with N, D > 0, got {shapes}.")


def check_valid(valid: Tensor | None, rows: int, columns: int, name: str = "valid") -> None:
    """Raise ValueError unless valid is None or bool `(rows, columns)`. name: of the argument, for the message."""
    if valid is not None and (valid.shape != (rows, columns) or valid.dtype != torch.bool):
        raise ValueError(f"{name} must be bool {(rows, columns)}, got {valid.dtype} {tuple(valid.shape)}.")


def above_zero(value: float, name: str = "temperature") -> float:
    """Return the value. Raises ValueError unless it is above 0."""
    if not value > 0:
        raise ValueError(f"{name} must be positive, not {value}.")
    return value
