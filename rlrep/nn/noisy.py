"""Noisy networks: linear layers whose weights are perturbed by learned amounts (Fortunato et al. 2018, arXiv
1706.10295)."""

import torch
from torch import Tensor, nn

Affine = tuple[Tensor, Tensor]
"""Weight `(out, in)` and bias `(out,)`, as `torch.nn.functional.linear` takes them."""


class NoisyLinear(nn.Module):
    """`streams` linear layers on one input, side by side, each with factorised Gaussian noise of its own (equations 10,
    11).

    sigma0: noise scale at the start, over the square root of `in_dim` (section 3.2); None = no noise, `nn.Linear`'s
        own initialisation either way. out_dim: of each stream; the output is `(B, streams * out_dim)`.
    noise_dim: standard normal numbers that one perturbation takes.
    """

    def __init__(self, in_dim: int, out_dim: int, *, sigma0: float | None, streams: int = 1) -> None:
        super().__init__()
        self.shape, rows, bound = (streams, out_dim, in_dim), streams * out_dim, in_dim**-0.5
        self.weight = nn.Parameter(torch.empty(rows, in_dim).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(rows).uniform_(-bound, bound))
        self.noise_dim = 0 if sigma0 is None else streams * (in_dim + out_dim)
        if sigma0 is not None:
            self.weight_sigma = nn.Parameter(torch.full((rows, in_dim), sigma0 * bound))
            self.bias_sigma = nn.Parameter(torch.full((rows,), sigma0 * bound))

    def perturbed(self, noise: Tensor | None) -> Affine:
        """Return the layer under standard normal noise `(noise_dim,)`, or its mean (None)."""
        if noise is None or not self.noise_dim:
            return self.weight, self.bias
        streams, out_dim, in_dim = self.shape
        scaled = noise.sign() * noise.abs().sqrt()
        rows, columns = scaled[: streams * out_dim], scaled[streams * out_dim :].view(streams, 1, in_dim)
        epsilon = (rows.view(streams, out_dim, 1) * columns).view_as(self.weight)
        weight = torch.addcmul(self.weight, self.weight_sigma, epsilon)
        return weight, torch.addcmul(self.bias, self.bias_sigma, rows)
