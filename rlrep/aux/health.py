"""Health metrics that every contrastive head logs."""

import torch
from torch import Tensor

from rlrep.replay.batch import UNKNOWN, Pairs

from .base import Metrics


@torch.no_grad()
def in_batch_health(query: Tensor, key: Tensor, weight: Tensor) -> Metrics:
    """Accuracy of picking the diagonal of `query @ weight @ key.T`, and mean cosine of `query @ weight` with
    positives and negatives.

    query, key: `(B, D)`. With one row there are no negatives and their cosine reads 0.
    """
    rows = query.shape[0]
    projected = query @ weight
    hits = (projected @ key.T).argmax(1) == torch.arange(rows, device=query.device)
    unit_query, unit_key = torch.nn.functional.normalize(projected, dim=1), torch.nn.functional.normalize(key, dim=1)
    positive = (unit_query * unit_key).sum(1)
    everything = unit_query.sum(0) @ unit_key.sum(0)
    negative = (everything - positive.sum()) / max(rows * (rows - 1), 1)
    return {"accuracy": hits.float().mean(), "positive_similarity": positive.mean(), "negative_similarity": negative}


def same_bin(pairs: Pairs) -> Tensor:
    """`(B, B)` bool: anchor i and partner j are both known to lie in one return bin."""
    return (pairs.anchor_bin[:, None] == pairs.positive_bin[None, :]) & (pairs.anchor_bin[:, None] != UNKNOWN)


@torch.no_grad()
def label_quality(pairs: Pairs) -> Metrics:
    """How good the return labels are.

    same_return_rate: positives whose known return bin is the anchor's.
    false_negative_rate: negatives (before any masking) known to share it.
    Both are over pairs with both bins known, 0 while there are none. segment_length: agent steps.
    """
    known = (pairs.anchor_bin[:, None] != UNKNOWN) & (pairs.positive_bin[None, :] != UNKNOWN)
    same = same_bin(pairs)
    off = ~torch.eye(len(known), dtype=torch.bool, device=known.device)
    return {
        "same_return_rate": same.diagonal().sum() / known.diagonal().sum().clamp(min=1),
        "false_negative_rate": (same & off).sum() / (known & off).sum().clamp(min=1),
        "labelled": pairs.labelled.float().mean(),
        "segment_length": pairs.length.float().mean(),
    }
