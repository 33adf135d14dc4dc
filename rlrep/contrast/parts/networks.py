"""What stands between an encoder and an objective, with settings: projector, whitening, predictor, target network."""

import math
from dataclasses import dataclass
from typing import Literal, Protocol

from torch import nn

from ..directpred import DirectPredictor
from ..projectors import Norm, Predictor, Projector
from ..whitening import GroupWhitening
from ..whitening import Method as WhiteningMethod


@dataclass(frozen=True)
class Projection:
    """MLP from the encoder's latent to the space of the objective (`rlrep.contrast.Projector`)."""

    hidden_dim: int = 2048
    out_dim: int = 128
    layers: int = 2
    norm: Norm = "affine"
    last_norm: Norm = "none"

    def make(self, in_dim: int, splits: int = 1) -> nn.Module:
        """Build it. splits: parts of a batch that batch norm treats apart."""
        return Projector(
            in_dim,
            self.hidden_dim,
            self.out_dim,
            layers=self.layers,
            norm=self.norm,
            last_norm=self.last_norm,
            splits=splits,
        )


@dataclass(frozen=True)
class Whitening:
    """Whitening of the projections over the batch (`rlrep.contrast.GroupWhitening`)."""

    groups: int | None = None
    shuffle: bool = True
    algorithm: WhiteningMethod = "eigh"

    def make(self, dim: int) -> nn.Module:
        """Build it for projections `(N, dim)`."""
        return GroupWhitening(dim, groups=self.groups, shuffle=self.shuffle, method=self.algorithm)


class PredictorConfig(Protocol):
    """A map of the online projections, which the target does not have."""

    def make(self, dim: int) -> nn.Module:
        """Build it for projections `(N, dim)`."""
        ...


@dataclass(frozen=True)
class LearnedPredictor:
    """MLP that is trained with the encoder. layers 1, norm `none`: a linear one."""

    hidden_dim: int = 512
    layers: int = 2
    norm: Norm = "affine"
    last_norm: Norm = "none"

    def make(self, dim: int) -> nn.Module:
        """Build it."""
        return Predictor(dim, self.hidden_dim, layers=self.layers, norm=self.norm, last_norm=self.last_norm)


@dataclass(frozen=True)
class SetPredictor:
    """Linear map set from the correlation of its input: DirectPred (power 1/2), DirectCopy (power 1)."""

    rho: float = 0.3
    eps: float = 0.1
    every: int = 1
    power: float = 0.5

    def make(self, dim: int) -> nn.Module:
        """Build it."""
        return DirectPredictor(dim, rho=self.rho, eps=self.eps, every=self.every, power=self.power)


@dataclass(frozen=True)
class Momentum:
    """EMA target network. tau: weight of the new value at the start, constant or falling to 0 by half a cosine."""

    tau: float = 0.004
    schedule: Literal["constant", "cosine"] = "constant"

    def __post_init__(self) -> None:
        if not 0.0 < self.tau <= 1.0:
            raise ValueError(f"tau is the weight of the new value, in (0, 1], not {self.tau}")

    def at(self, progress: float) -> float:
        """Return tau after this share of training, in [0, 1] (BYOL, Grill et al. 2020, section 3.2)."""
        return self.tau if self.schedule == "constant" else self.tau * 0.5 * (1.0 + math.cos(math.pi * progress))
