"""Meters of a representation: scalars without gradient that tell collapse from health."""

import torch
from torch import Tensor


@torch.no_grad()
def effective_rank(z: Tensor) -> Tensor:
    """Return exp of the entropy of the normalised singular values of z `(N, D)`, as it is: from 1 to min(N, D).

    RankMe (Garrido et al. 2023, equation 1). 1 for a zero matrix. Raises ValueError unless z is a matrix.
    """
    _check_matrix(z)
    with torch.autocast(z.device.type, enabled=False):
        values = torch.linalg.svdvals(z if z.dtype == torch.float64 else z.float())
    share: Tensor = values / values.sum().clamp_min(torch.finfo(values.dtype).tiny)
    entropy: Tensor = torch.special.entr(share).sum()
    return entropy.exp()


@torch.no_grad()
def feature_std(z: Tensor) -> Tensor:
    """Return the standard deviation over the batch (divided by N), averaged over the features of z `(N, D)`, as it is.

    0 where all rows are equal. Raises ValueError unless z is a matrix.
    """
    _check_matrix(z)
    wide = z if z.dtype == torch.float64 else z.float()
    return wide.std(0, correction=0).mean()


def _check_matrix(z: Tensor) -> None:
    if z.ndim != 2 or z.numel() == 0:
        raise ValueError(f"Expected embeddings (N, D), got {tuple(z.shape)}.")
