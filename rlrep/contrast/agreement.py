"""Objectives without negatives: regression on a target, on redundancy, on the label of a pair."""

import torch.nn.functional as F
from torch import Tensor

from .family import anchor_mean
from .pairs import check_embeddings, dot, self_pairs, unit, wide


def negative_cosine(prediction: Tensor, target: Tensor, *, row_weight: Tensor | None = None) -> Tensor:
    """Mean of 2 - 2 cos(prediction, target) (BYOL, Grill et al. 2020, eq. 2). The target gets no gradient.

    prediction, target: `(N, D)`. row_weight: `(N,)`, weights of the mean. Raises ValueError if shapes do not fit.
    """
    check_embeddings("prediction, target", prediction, target)
    cosine = (unit(prediction) * unit(target.detach())).sum(1)
    return anchor_mean(2.0 - 2.0 * cosine, row_weight)


def barlow_twins(z1: Tensor, z2: Tensor, *, off_diagonal: float) -> Tensor:
    """Redundancy reduction (Zbontar et al. 2021, eq. 1): sum_i (C_ii - 1)^2 + off_diagonal sum_{i != j} C_ij^2.

    C is the correlation over the batch of the features of z1 and z2 `(N, D)`, each standardised as batch norm does
    (variance over N, eps 1e-5). off_diagonal: 0.0051 in the paper. Raises ValueError if shapes do not fit.
    """
    check_embeddings("z1, z2", z1, z2)
    first, second = (F.batch_norm(z, None, None, training=True) if len(z) > 1 else z - z for z in wide(z1, z2))
    correlation = dot(first.T, second.T) / len(z1)
    return (correlation.diagonal() - 1.0).square().sum() + off_diagonal * _off_diagonal(correlation).square().sum()


def vicreg(
    z1: Tensor, z2: Tensor, *, invariance: float = 25.0, variance: float = 25.0, covariance: float = 1.0
) -> Tensor:
    """Variance, invariance and covariance (Bardes et al. 2022, eq. 6), as their code scales them; z1, z2: `(N, D)`.

    invariance x mean (z1 - z2)^2 + variance x mean over features and views of max(0, 1 - sqrt(var + 1e-4))
    + covariance x sum over views of the squared off-diagonal covariances / D; variances divide by N - 1.
    Raises ValueError if shapes do not fit.
    """
    check_embeddings("z1, z2", z1, z2)
    z1, z2 = wide(z1, z2)
    spread, redundancy = z1.new_zeros(()), z1.new_zeros(())
    for z in (z1, z2):
        centred = z - z.mean(0)
        matrix = dot(centred.T, centred.T) / max(len(z) - 1, 1)
        spread = spread + F.relu(1.0 - (matrix.diagonal() + 1e-4).sqrt()).mean() / 2.0
        redundancy = redundancy + _off_diagonal(matrix).square().sum() / z.shape[1]
    return invariance * F.mse_loss(z1, z2) + variance * spread + covariance * redundancy


def pair_regression(score: Tensor, same: Tensor) -> Tensor:
    """Squared loss of a discriminator of pairs: mean of (score - (1 - same))**2.

    Its minimiser is the probability that the two returns fall into different bins, 1 - Z1 . Z2 (return contrast,
    Liu et al. 2021: Z1, Z2 are the bin probabilities of the two state-actions).

    score: any shape, float. same: the same shape, bool or float in [0, 1]. Raises ValueError if the shapes differ.
    """
    if score.shape != same.shape:
        raise ValueError(f"score and same must have one shape, got {tuple(score.shape)} and {tuple(same.shape)}.")
    (score,) = wide(score)
    return F.mse_loss(score, 1.0 - same.to(score.dtype))


def _off_diagonal(matrix: Tensor) -> Tensor:
    return matrix.masked_fill(self_pairs(len(matrix), matrix), 0.0)
