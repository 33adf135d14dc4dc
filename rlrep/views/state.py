"""Views of state vectors."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor


@dataclass(frozen=True)
class NoChange:
    """The state itself (the un-augmented arm)."""

    capturable: ClassVar[bool] = True

    def __call__(self, obs: Tensor, generator: Generator) -> Tensor:
        """Return `obs`; draws nothing."""
        return obs

    def fixed(self, obs: Tensor) -> Tensor:
        """Return `obs`."""
        return obs


@dataclass(frozen=True)
class AmplitudeScale:
    """RAD's random amplitude scaling (Laskin et al. 2020, section 4.3): one factor from U[low, high] per row."""

    capturable: ClassVar[bool] = True

    low: float = 0.6
    high: float = 1.2

    def __call__(self, obs: Tensor, generator: Generator) -> Tensor:
        """Return scaled states `(B, ...)`."""
        each = (len(obs), *(1 for _ in obs.shape[1:]))
        factor = torch.rand(each, generator=generator, device=obs.device)
        return obs * (self.low + (self.high - self.low) * factor)

    def fixed(self, obs: Tensor) -> Tensor:
        """Return `obs`."""
        return obs
