"""Diagonal Gaussians as plain tensors, without distribution objects."""

from typing import NamedTuple

from torch import Tensor

LEAST_VARIANCE = 1e-7


class Gaussians(NamedTuple):
    """Diagonal Gaussians: mean and variance, both `(..., D)`."""

    mean: Tensor
    var: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """Return mean + sqrt(var) * noise, for standard normal noise `(..., D)`."""
        return self.mean + self.var.sqrt() * noise

    def kl(self) -> Tensor:
        """Return KL(q || N(0, I)) in nats `(...)`, summed over the dimensions."""
        return 0.5 * (self.mean.square() + self.var - 1 - self.var.log()).sum(-1)


def product(factors: Gaussians) -> Gaussians:
    """Return the normalised product of Gaussians `(..., W, D)` over W: `(..., D)`.

    Precisions add up, means weigh by them; the order of the factors does not matter (PEARL: Rakelly et al. 2019, arXiv
    1903.08254, eq. 2). Variances below 1e-7 count as 1e-7.
    """
    precision = factors.var.clamp(min=LEAST_VARIANCE).reciprocal()
    var = precision.sum(-2).reciprocal()
    return Gaussians(var * (precision * factors.mean).sum(-2), var)
