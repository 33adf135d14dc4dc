"""Meters of a representation: scalars that tell collapse from health."""

import math

import torch
from torch import Tensor

from .family import NOTHING
from .pairs import check_embeddings, dot, self_pairs, squared_distance, unit, wide


def align(z1: Tensor, z2: Tensor, alpha: float = 2) -> Tensor:
    """Return the mean of ||z1 - z2||^alpha of pairs on the sphere (Wang & Isola 2020); z1, z2: `(N, D)`.

    From 0 to 2^alpha. It carries gradient. Raises ValueError on shapes that do not fit.
    """
    check_embeddings("z1, z2", z1, z2)
    square = (unit(z1) - unit(z2)).square().sum(1)
    if alpha == 2:
        return square.mean()
    apart = square > 0
    return (square.where(apart, 1.0).pow(alpha / 2) * apart).mean()  # pow has no gradient at 0


def uniform(z: Tensor, t: float = 2) -> Tensor:
    """Return log mean exp(-t ||a - b||^2) over pairs of rows of z `(N, D)` on the sphere (Wang & Isola 2020).

    From -4t to 0, where all rows are equal; 0 for a single row. It carries gradient. Raises ValueError on bad shapes.
    """
    check_embeddings("z", z)
    z = unit(z)
    pairs = len(z) * (len(z) - 1)
    if pairs == 0:
        return z.sum() * 0.0
    exponents = (-t * squared_distance(z, z)).masked_fill(self_pairs(len(z), z), NOTHING)
    return exponents.flatten().logsumexp(0) - math.log(pairs)


@torch.no_grad()
def effective_rank(z: Tensor) -> Tensor:
    """Return exp of the entropy of the normalised singular values of z `(N, D)`, as it is: from 1 to min(N, D).

    RankMe (Garrido et al. 2023, equation 1). 1 for a zero matrix. Raises ValueError unless z is a matrix.
    """
    check_embeddings("z", z)
    with torch.autocast(z.device.type, enabled=False):
        values = torch.linalg.svdvals(*wide(z))
    share: Tensor = values / values.sum().clamp_min(torch.finfo(values.dtype).tiny)
    entropy: Tensor = torch.special.entr(share).sum()
    return entropy.exp()


@torch.no_grad()
def feature_std(z: Tensor) -> Tensor:
    """Return the standard deviation over the batch (divided by N), averaged over the features of z `(N, D)`, as it is.

    0 where all rows are equal. Raises ValueError unless z is a matrix.
    """
    check_embeddings("z", z)
    (z,) = wide(z)
    return z.std(0, correction=0).mean()


@torch.no_grad()
def feature_correlation(z: Tensor) -> Tensor:
    """Return the mean absolute correlation of two different features over the batch of z `(N, D)`, as it is.

    From 0 (decorrelated) to 1 (dimensional collapse: Hua et al. 2021); constant features correlate with nothing.
    Raises ValueError unless z is a matrix.
    """
    check_embeddings("z", z)
    (z,) = wide(z)
    centred = z - z.mean(0)
    rounding = 10.0 * torch.finfo(z.dtype).eps * torch.linalg.vector_norm(z, dim=0)
    columns = unit(centred.masked_fill(torch.linalg.vector_norm(centred, dim=0) <= rounding, 0.0).T)
    correlation = dot(columns, columns).abs()
    dim = len(correlation)
    return (correlation.sum() - correlation.diagonal().sum()) / max(dim * (dim - 1), 1)
