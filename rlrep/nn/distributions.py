"""Policy distributions, written for compiled updates: plain functions of tensors, noise passed in."""

import math

import torch
from torch import Tensor


def sample_squashed(mean: Tensor, log_std: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Sample a tanh-squashed diagonal Gaussian.

    mean, log_std, noise: `(B, A)`, noise standard normal. Returns actions `(B, A)` in (-1, 1) and log-densities `(B,)`,
    with log(1 - tanh(u)^2) in the form that does not saturate, 2 (log 2 - u - softplus(-2u)) (SAC: Haarnoja et al.
    2018, appendix C).
    """
    raw = mean + log_std.exp() * noise
    gaussian = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)
    correction = 2 * (math.log(2) - raw - torch.nn.functional.softplus(-2 * raw))
    return raw.tanh(), (gaussian - correction).sum(1)
