"""What heads and image methods log of their embeddings: are the pairs told apart, and has anything collapsed?"""

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ..family import weighted_mean

Metrics = dict[str, Tensor]
"""Detached scalar tensors by name; read back only when logged."""


@torch.no_grad()
def in_batch_health(
    query: Tensor,
    key: Tensor,
    weight: Tensor | None = None,
    *,
    valid: Tensor | None = None,
    row_weight: Tensor | None = None,
) -> Metrics:
    """Accuracy of picking the diagonal of `query @ weight @ key.T`, and mean cosine of `query @ weight` with
    positives and negatives.

    query, key: `(B, D)`. weight: None = the objective compares cosines. valid `(B, B)` bool, row_weight `(B,)`: which
    negatives and rows the accuracy is over, as in the objectives; None = all. With one row there are no negatives and
    their cosine reads 0.
    """
    rows = query.shape[0]
    projected = query if weight is None else query @ weight
    unit_query, unit_key = normalize(projected, dim=1), normalize(key, dim=1)
    logits = unit_query @ unit_key.T if weight is None else projected @ key.T
    places = torch.arange(rows, device=query.device)
    if valid is not None:
        logits = logits.masked_fill(~valid & (places[:, None] != places), -torch.inf)
    hits = (logits.argmax(1) == places).float()
    accuracy = hits.mean() if row_weight is None else weighted_mean(hits, row_weight)
    positive = (unit_query * unit_key).sum(1)
    everything = unit_query.sum(0) @ unit_key.sum(0)
    negative = (everything - positive.sum()) / max(rows * (rows - 1), 1)
    return {"accuracy": accuracy, "positive_similarity": positive.mean(), "negative_similarity": negative}


@torch.no_grad()
def label_health(z: Tensor, positive: Tensor) -> Metrics:
    """How well cosines of rows of z `(M, D)` tell labels; positive: `(M, M)` bool, who shares a known label with whom.

    accuracy: rows whose most similar other row shares the label, of the rows that have such a one. The similarities
    are means over pairs. All read 0 where there is no such row or pair.
    """
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    similarity = normalize(z, dim=1) @ normalize(z, dim=1).T
    nearest = similarity.masked_fill(itself, -2.0).argmax(1, keepdim=True)
    pairs, others = positive & ~itself, ~positive & ~itself
    counted = pairs.any(1)
    hits = pairs.gather(1, nearest).squeeze(1) & counted
    return {
        "accuracy": hits.sum() / counted.sum().clamp(min=1),
        "positive_similarity": (similarity * pairs).sum() / pairs.sum().clamp(min=1),
        "negative_similarity": (similarity * others).sum() / others.sum().clamp(min=1),
    }


@torch.no_grad()
def masked_share(valid: Tensor) -> Tensor:
    """Share of the negatives that `valid` `(B, B)` leaves out."""
    rows = len(valid)
    return ((~valid).sum() - (~valid).diagonal().sum()) / max(rows * (rows - 1), 1)


@torch.no_grad()
def pair_health(first: Tensor, second: Tensor) -> Metrics:
    """Return how alike pairs are `(N, D)`, and how far the first spread: see `spread`."""
    first, second = first.detach().float(), second.detach().float()
    return {"positive_similarity": torch.cosine_similarity(first, second).mean(), "spread": spread(first)}


@torch.no_grad()
def spread(z: Tensor) -> Tensor:
    """Return the mean standard deviation of the features of z `(N, D)` at length sqrt(D): 1 = all over, 0 = collapsed.

    Chen & He 2021 (SimSiam), figure 2, times sqrt(D).
    """
    unit = normalize(z.float(), dim=1)
    deviation: Tensor = unit.std(0, correction=0).mean() * math.sqrt(z.shape[1])
    return deviation
