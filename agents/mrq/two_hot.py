"""Numbers as distributions over two neighbouring bins, spaced by symexp (Hafner et al. 2023, arXiv 2301.04104)."""

import torch
from torch import Tensor


def make_bins(count: int, bound: float) -> Tensor:
    """Return `count` bins from -symexp(bound) to symexp(bound), where symexp(x) = sign(x) (exp |x| - 1)."""
    even = torch.linspace(-bound, bound, count)
    return even.sign() * even.abs().expm1()


def place(value: Tensor, bins: Tensor) -> tuple[Tensor, Tensor]:
    """Return the lower of the two bins `(...)` int64 that share each value, and the share of the upper one.

    Values beyond an end count as that end.
    """
    value = value.clamp(bins[0], bins[-1])
    lower = (torch.searchsorted(bins, value, right=True) - 1).clamp(0, len(bins) - 2)
    return lower, (value - bins[lower]) / (bins[lower + 1] - bins[lower])


def cross_entropy(logits: Tensor, value: Tensor, bins: Tensor) -> Tensor:
    """Return the cross entropy `(...)` of logits `(..., K)` with values `(...)`, nats."""
    lower, share = place(value, bins)
    log_prob = logits.log_softmax(-1)
    either = torch.stack([lower, lower + 1], -1)
    return -(log_prob.gather(-1, either) * torch.stack([1 - share, share], -1)).sum(-1)


def mean(logits: Tensor, bins: Tensor) -> Tensor:
    """Return the value `(...)` that logits `(..., K)` stand for."""
    return (logits.softmax(-1) * bins).sum(-1)
