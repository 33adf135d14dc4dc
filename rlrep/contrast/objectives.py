"""Contrastive objectives: pure functions of tensors that return a scalar (mean over anchors, natural logarithm)."""

import torch
import torch.nn.functional as F
from torch import Tensor


def bilinear_info_nce(
    query: Tensor,
    key: Tensor,
    weight: Tensor,
    *,
    temperature: float = 1.0,
    valid: Tensor | None = None,
    row_weight: Tensor | None = None,
) -> Tensor:
    """InfoNCE with a bilinear similarity: cross entropy of `query @ weight @ key.T / temperature` with the diagonal.

    CURL (Laskin et al. 2020, equation 4), on embeddings as they are. Stop the gradient to the key by detaching it.

    query, key: `(N, D)`. weight: `(D, D)`.
    valid: `(N, N)` bool; False at (i, j) = key j is not a negative for query i. The positive is never masked.
    row_weight: `(N,)`, not negative; the mean over anchors is weighted by it (0 if all weights are 0).
    Raises ValueError on shapes that do not fit and on a temperature that is not positive.
    """
    logits = bilinear_logits(query, key, weight) / _positive(temperature)
    return diagonal_cross_entropy(logits, valid=valid, row_weight=row_weight)


def bilinear_logits(query: Tensor, key: Tensor, weight: Tensor) -> Tensor:
    """Return `query @ weight @ key.T`, `(N, N)`, in float32 at least, also under autocast. ValueError as above."""
    if query.ndim != 2 or query.shape != key.shape or weight.shape != (query.shape[1], query.shape[1]):
        raise ValueError(
            "Bilinear similarity needs query (N, D), key (N, D) and weight (D, D), "
            f"got {tuple(query.shape)}, {tuple(key.shape)} and {tuple(weight.shape)}."
        )
    with torch.autocast(query.device.type, enabled=False):
        return _wide(query) @ _wide(weight) @ _wide(key).T


def diagonal_cross_entropy(logits: Tensor, *, valid: Tensor | None = None, row_weight: Tensor | None = None) -> Tensor:
    """Return the mean cross entropy of the rows of logits `(N, N)` with their diagonal; other arguments as above."""
    count = len(logits)
    if logits.shape != (count, count) or count == 0:
        raise ValueError(f"Contrast with the diagonal needs logits (N, N) with N > 0, got {tuple(logits.shape)}.")
    if valid is not None:
        if valid.shape != logits.shape or valid.dtype != torch.bool:
            raise ValueError(f"valid must be bool {tuple(logits.shape)}, got {valid.dtype} {tuple(valid.shape)}.")
        positive = torch.eye(count, dtype=torch.bool, device=logits.device)
        logits = logits.masked_fill(~(valid | positive), -torch.inf)
    losses = logits.logsumexp(1) - logits.diagonal()
    return losses.mean() if row_weight is None else weighted_mean(losses, row_weight)


def pair_regression(score: Tensor, same: Tensor) -> Tensor:
    """Squared loss of a discriminator of pairs: mean of (score - (1 - same))**2.

    Its minimiser is the probability that the two returns fall into different bins, 1 - Z1 . Z2 (return contrast,
    Liu et al. 2021: Z1, Z2 are the bin probabilities of the two state-actions).

    score: any shape, float. same: the same shape, bool or float in [0, 1]. Raises ValueError if the shapes differ.
    """
    if score.shape != same.shape:
        raise ValueError(f"score and same must have one shape, got {tuple(score.shape)} and {tuple(same.shape)}.")
    score = _wide(score)
    return F.mse_loss(score, 1.0 - same.to(score.dtype))


def weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    """Return sum(weight * values) / sum(weight), 0 where the weights sum to 0. Raises ValueError if shapes differ."""
    if values.shape != weight.shape:
        raise ValueError(f"row_weight must be {tuple(values.shape)}, got {tuple(weight.shape)}.")
    weight = weight.to(values.dtype)
    return (weight * values).sum() / weight.sum().clamp_min(torch.finfo(values.dtype).tiny)


def _wide(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def _positive(temperature: float) -> float:
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, not {temperature}.")
    return temperature
