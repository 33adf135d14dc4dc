"""What is done to images that are to be restored: pixels are left out, or noise is put on them."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor
from torch.nn.functional import interpolate


@dataclass(frozen=True)
class Mask:
    """Cells of a grid over the image are black (masked autoencoders, He et al. 2021, arXiv 2111.06377).

    share: of the cells, at least one and not all. grid: cells along each side.
    """

    capturable: ClassVar[bool] = True

    share: float = 0.5
    grid: int = 8

    def __post_init__(self) -> None:
        if not 0.0 < self.share < 1.0 or self.grid < 2:
            raise ValueError(f"share must be in (0, 1), grid at least 2, not {self.share} and {self.grid}")

    def __call__(self, obs: Tensor, generator: Generator) -> Tensor:
        """Return uint8 images `(B, C, H, W)` of which exactly so many cells are left out, others in every row."""
        cells = self.grid**2
        left_out = min(max(round(self.share * cells), 1), cells - 1)
        order = torch.rand(len(obs), cells, generator=generator, device=obs.device).argsort(1).argsort(1)
        kept = (order >= left_out).view(-1, 1, self.grid, self.grid)
        return obs * interpolate(kept.to(obs.dtype), obs.shape[-2:])

    def fixed(self, obs: Tensor) -> Tensor:
        """Return the whole images."""
        return obs


@dataclass(frozen=True)
class PixelNoise:
    """Gaussian noise on every pixel (denoising autoencoders, Vincent et al. 2008). sigma: as a share of the range."""

    capturable: ClassVar[bool] = True

    sigma: float = 0.25

    def __post_init__(self) -> None:
        if not self.sigma > 0.0:
            raise ValueError(f"sigma must be above 0, not {self.sigma}")

    def __call__(self, obs: Tensor, generator: Generator) -> Tensor:
        """Return noisy uint8 images `(B, C, H, W)`."""
        noise = torch.randn(obs.shape, generator=generator, device=obs.device)
        return (obs + 255.0 * self.sigma * noise).round_().clamp_(0.0, 255.0).to(obs.dtype)

    def fixed(self, obs: Tensor) -> Tensor:
        """Return the images without noise."""
        return obs
