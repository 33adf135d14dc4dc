"""Objectives on what a classifier believes: a graph of pseudo-labels, and an average of earlier predictions."""

import torch
from torch import Tensor

from .pairs import above_zero, check_embeddings, compare, dot, self_pairs, wide

_FLOOR = 1e-7
"""The authors' constant inside CoMatch's logarithm."""


def graph_contrast(z0: Tensor, z1: Tensor, probabilities: Tensor, *, temperature: float, threshold: float) -> Tensor:
    """CoMatch's graph loss (Li et al. 2021, arXiv 2011.11183, eq. 5 to 8): embeddings are as alike as pseudo-labels.

    -mean over rows of sum over columns Q log(S + 1e-7); Q = p p', 1 on the diagonal, 0 off it where below the
    threshold, rows to sum 1; S = softmax of the cosines of z0 with z1 over the temperature.

    z0, z1: `(N, D)`, two views. probabilities: `(N, C)`, p. threshold: above 1 no two samples attract each other.
    Raises ValueError on shapes that do not fit.
    """
    check_embeddings("z0, z1", z0, z1)
    if probabilities.ndim != 2 or len(probabilities) != len(z0):
        raise ValueError(f"probabilities must be ({len(z0)}, C), got {tuple(probabilities.shape)}.")
    alike = dot(probabilities, probabilities)
    edges = alike.where(alike >= threshold, 0.0).where(~self_pairs(len(z0), z0), 1.0)
    edges = edges / edges.sum(1, keepdim=True)
    similarity = (compare(z0, z1, "cosine") / above_zero(temperature)).softmax(1)
    return -(edges * (similarity + _FLOOR).log()).sum(1).mean()


def early_learning(probability: Tensor, target: Tensor) -> Tensor:
    """ELR's regulariser (Liu et al. 2020, arXiv 2007.00151, eq. 6): mean of log(1 - <target, probability>).

    It is lowest where a prediction agrees with the average of those before. probability, target: `(N, C)`, of a sum
    at most 1, their product below 1; target is detached. Raises ValueError on other shapes.
    """
    if probability.ndim != 2 or probability.shape != target.shape or probability.numel() == 0:
        got = f"{tuple(probability.shape)} and {tuple(target.shape)}"
        raise ValueError(f"probability and target must be (N, C) of one shape with N, C > 0, got {got}.")
    probability, target = wide(probability, target)
    return torch.log1p(-(target.detach() * probability).sum(1)).mean()
