"""Contrast of diagonal Gaussians, given by mean and variance `(N, D)` as they are, and of what stands for a group."""

import torch
from torch import Tensor

from .family import diagonal_cross_entropy, weighted_mean
from .pairs import above_zero, check_embeddings, same_label, squared_distance, wide

LEAST_VARIANCE = 1e-7


def mahalanobis_info_nce(
    mean_q: Tensor,
    var_q: Tensor,
    mean_k: Tensor,
    var_k: Tensor,
    *,
    temperature: float,
    valid: Tensor | None = None,
    row_weight: Tensor | None = None,
) -> Tensor:
    """Cross entropy of `mahalanobis_logits` / temperature with the diagonal; `valid`, `row_weight` as in `info_nce`.

    Raises ValueError on shapes that do not fit.
    """
    logits = mahalanobis_logits(mean_q, var_q, mean_k, var_k) / above_zero(temperature)
    return diagonal_cross_entropy(logits, valid=valid, row_weight=row_weight)


def mahalanobis_logits(mean_q: Tensor, var_q: Tensor, mean_k: Tensor, var_k: Tensor) -> Tensor:
    """Return -sum_l (mean_q - mean_k)_l^2 / (1e-3 + (var_q + var_k)_l / 2), `(N, N)`. Memory: `(N, N, D)`.

    Raises ValueError on shapes that do not fit.
    """
    check_embeddings("mean_q, var_q, mean_k, var_k", mean_q, var_q, mean_k, var_k)
    mean_q, var_q, mean_k, var_k = wide(mean_q, var_q, mean_k, var_k)
    spread = 1e-3 + (var_q[:, None] + var_k[None, :]) / 2.0
    return -((mean_q[:, None] - mean_k[None, :]).square() / spread).sum(-1)


def wasserstein_info_nce(
    mean_q: Tensor,
    var_q: Tensor,
    mean_k: Tensor,
    var_k: Tensor,
    *,
    temperature: float,
    valid: Tensor | None = None,
    row_weight: Tensor | None = None,
) -> Tensor:
    """Cross entropy of `wasserstein_logits` / temperature with the diagonal; `valid`, `row_weight` as in `info_nce`.

    Raises ValueError on shapes that do not fit.
    """
    logits = wasserstein_logits(mean_q, var_q, mean_k, var_k) / above_zero(temperature)
    return diagonal_cross_entropy(logits, valid=valid, row_weight=row_weight)


def wasserstein_logits(mean_q: Tensor, var_q: Tensor, mean_k: Tensor, var_k: Tensor) -> Tensor:
    """Return minus the squared 2-Wasserstein distances `(N, N)`: ||mean_q - mean_k||^2 + ||std_q - std_k||^2.

    Variances below 1e-7 count as 1e-7. Raises ValueError on shapes that do not fit.
    """
    check_embeddings("mean_q, var_q, mean_k, var_k", mean_q, var_q, mean_k, var_k)
    mean_q, var_q, mean_k, var_k = wide(mean_q, var_q, mean_k, var_k)
    query = torch.cat([mean_q, var_q.clamp_min(LEAST_VARIANCE).sqrt()], 1)
    key = torch.cat([mean_k, var_k.clamp_min(LEAST_VARIANCE).sqrt()], 1)
    return -squared_distance(query, key)


def distance_metric(features: Tensor, labels: Tensor, *, row_weight: Tensor | None = None) -> Tensor:
    """Distance metric loss over all pairs of rows (FOCAL, Li et al. 2021, arXiv 2010.01112, as its code has it).

    d^2 = mean over the dimensions of (a - b)^2. Mean of sqrt(d^2 + 1e-3) over pairs that share a label, plus mean of
    1 / (d^2 + 0.1) over pairs that do not; a mean over no pairs is 0.
    features: `(N, D)` as they are. labels: `(N,)`. row_weight: `(N,)`, not negative; a pair weighs the product of its
    rows'. Raises ValueError on shapes that do not fit.
    """
    check_embeddings("features", features)
    (features,) = wide(features)
    count = len(features)
    square = squared_distance(features, features) / features.shape[1]
    pairs = torch.ones_like(square).triu(1)
    if row_weight is not None:
        pairs = pairs * row_weight.to(square.dtype)[:, None] * row_weight.to(square.dtype)[None, :]
    same = same_label(labels, count)
    near = weighted_mean((square + 1e-3).sqrt(), pairs * same)
    return near + weighted_mean((square + 0.1).reciprocal(), pairs * ~same)
