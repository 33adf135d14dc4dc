"""The InfoNCE family on one screen. The loss of an anchor is (log mass of its candidates) - (pull of its positives).

    objective            pull                       mass                            s = similarity / temperature
    InfoNCE, NT-Xent     s_p                        sum over P and N of e^s         P  positives of the anchor
    SupCon, form "out"   mean over P of s           sum over P and N of e^s         N  negatives; `valid` removes some
    SupCon, form "in"    log mean over P of e^s     sum over P and N of e^s         K  = |N|
    SuNCEt               log sum over P of e^s      sum over P and N of e^s
    debiased             s_p                        e^s_p + max((sum over N of e^s - tau K e^s_p) / (1 - tau), K e^-1/t)
    hard negatives       s_p                        the same, its sum over N weighted by e^(beta s) / mean of e^(beta s)

Everything stays in log space. The log of an empty mass is `NOTHING`: finite, so that no gradient is NaN.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .pairs import check_valid, self_pairs

NOTHING = -1e30


def log_sum(logits: Tensor, members: Tensor | None = None) -> Tensor:
    """Return log sum exp over the members (bool, shaped like logits; None = all) of the last dimension."""
    if logits.shape[-1] == 0:
        return logits.new_full(logits.shape[:-1], NOTHING)
    return (logits if members is None else logits.where(members, NOTHING)).logsumexp(-1)


def one_positive(positive: Tensor, negative_mass: Tensor) -> Tensor:
    """Losses `(A,)` of anchors with one positive, given its logit and the log mass of the negatives."""
    return torch.logaddexp(torch.zeros_like(positive), negative_mass - positive)


def corrected_log_mass(
    negatives: Tensor, count: Tensor, positive: Tensor, *, tau_plus: float, beta: float, floor: float
) -> Tensor:
    """Return the log mass of negatives of which a share tau_plus are false, the harder ones weighing more.

    log max((R - tau_plus K e^positive) / (1 - tau_plus), K e^floor), R the sum of e^negatives with the weights
    e^(beta negatives) / mean of e^(beta negatives): Chuang et al. 2020, eq. 8; Robinson et al. 2021. Where the
    floor holds there is no gradient; the weights have theirs.

    negatives: logits `(A, C)`, `NOTHING` where there is none. count: K `(A,)`. positive: `(A,)`.
    floor: the least logit there can be, -1/temperature for cosines.
    """
    log_count = count.clamp_min(1).log().masked_fill(count == 0, NOTHING)
    if beta > 0.0:
        mass = log_sum(negatives * (beta + 1.0)) - log_sum(negatives * beta) + log_count
    else:
        mass = log_sum(negatives)
    if tau_plus > 0.0:
        gap = positive + log_count + math.log(tau_plus) - mass  # log of the share taken off
        possible = (gap < -torch.finfo(gap.dtype).eps) & (count > 0)
        gap = gap.where(possible, -1.0)  # before the logarithm, whose gradient must be finite where it is not used
        mass = (mass + torch.log(-torch.expm1(gap)) - math.log1p(-tau_plus)).where(possible, NOTHING)
    least = log_count + floor
    return mass.where(mass >= least, least)


def log_sum_by_class(logits: Tensor, members: Tensor, column: Tensor) -> Tensor:
    """Return log sum exp over the members of every class, `(A, C)`: class column[j] in its column, `NOTHING` elsewhere.

    logits, members: `(A, C)`. column: `(C,)`, the index of the class of every candidate.
    """
    logits, index = logits.where(members, NOTHING), column.expand_as(logits)
    peak = torch.full_like(logits, NOTHING).scatter_reduce(1, index, logits.detach(), "amax")
    total = torch.zeros_like(logits).scatter_add(1, index, (logits - peak.gather(1, index)).exp())
    return (total.clamp_min(torch.finfo(total.dtype).tiny).log() + peak).masked_fill(peak <= NOTHING, NOTHING)


def diagonal_cross_entropy(logits: Tensor, *, valid: Tensor | None = None, row_weight: Tensor | None = None) -> Tensor:
    """Return the mean cross entropy of the rows of logits `(N, N)` with their diagonal.

    valid: `(N, N)` bool; False at (i, j) = j is not a negative for i. The positive is never masked.
    row_weight: `(N,)`, not negative; the mean over anchors is weighted by it (0 if all weights are 0).
    Raises ValueError on shapes that do not fit.
    """
    count = len(logits)
    if logits.shape != (count, count) or count == 0:
        raise ValueError(f"Contrast with the diagonal needs logits (N, N) with N > 0, got {tuple(logits.shape)}.")
    check_valid(valid, count, count)
    if valid is not None:
        logits = logits.where(valid | self_pairs(count, logits), NOTHING)
    losses = F.cross_entropy(logits, torch.arange(count, device=logits.device), reduction="none")
    return anchor_mean(losses, row_weight)  # log_sum(logits) - logits.diagonal(), in one pass


def anchor_mean(losses: Tensor, row_weight: Tensor | None, views: int = 1) -> Tensor:
    """Return the mean over anchors `(views * N,)`, view after view, weighted by the samples' row_weight `(N,)`."""
    return losses.mean() if row_weight is None else weighted_mean(losses.view(views, -1).mean(0), row_weight)


def weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    """Return sum(weight * values) / sum(weight), 0 where the weights sum to 0. Raises ValueError if shapes differ."""
    if values.shape != weight.shape:
        raise ValueError(f"row_weight must be {tuple(values.shape)}, got {tuple(weight.shape)}.")
    weight = weight.to(values.dtype)
    return (weight * values).sum() / weight.sum().clamp_min(torch.finfo(values.dtype).tiny)
