"""Contrast by conditional transport: far positives attract, near negatives repel."""

import torch
from torch import Tensor

from .family import NOTHING, anchor_mean
from .pairs import check_valid, self_pairs, unit


def cacr(
    views: Tensor,
    *,
    t_pos: float,
    t_neg: float,
    attract: float = 1.0,
    repel: float = 1.0,
    valid: Tensor | None = None,
    row_weight: Tensor | None = None,
) -> Tensor:
    """Contrastive attraction and contrastive repulsion (CACR, Zheng et al. 2023): attract x L_CA + repel x L_CR.

    Cost c = ||a - b||^2 on the sphere. L_CA: mean over anchors of the cost of their other views, weighted by
    softmax(t_pos c). L_CR: minus the mean over anchors and pairs of views x < y of the cost of the other samples in
    view y, weighted by softmax(-t_neg c). The weights carry gradient.

    views: `(V, N, D)`, V > 1 views. valid: `(N, N)` bool over samples; False at (n, m) = m does not repel n. Anchors
    that nothing repels count with 0. row_weight: `(N,)`, weights of the mean over samples.
    Raises ValueError on shapes that do not fit.
    """
    if views.ndim != 3 or len(views) < 2 or views.numel() == 0:
        raise ValueError(f"views must be (V, N, D) with V > 1 and N, D > 0, got {tuple(views.shape)}.")
    count = views.shape[1]
    check_valid(valid, count, count)
    z = unit(views)
    other = ~self_pairs(count, z) if valid is None else valid & ~self_pairs(count, z)
    first, second = torch.triu_indices(len(z), len(z), 1, device=z.device)
    by_sample = z.transpose(0, 1)
    far = _conditional_cost(_cost(by_sample, by_sample), ~self_pairs(len(z), z), t_pos).mean(1)
    near = _conditional_cost(_cost(z[first], z[second]), other, -t_neg).mean(0)
    return anchor_mean(attract * far - repel * near, row_weight)


def _cost(anchors: Tensor, candidates: Tensor) -> Tensor:
    with torch.autocast(anchors.device.type, enabled=False):
        return 2.0 - 2.0 * anchors @ candidates.mT


def _conditional_cost(cost: Tensor, members: Tensor, sharpness: float) -> Tensor:
    """Return the cost `(..., A)` over the members of the last dimension, weighted by softmax(sharpness x cost)."""
    weight = (sharpness * cost).where(members, NOTHING).softmax(-1)
    return (weight * cost).where(members, 0.0).sum(-1)
