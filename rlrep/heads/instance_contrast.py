"""Instance contrast: views of one observation attract, other observations repel (CURL, Laskin et al. 2020, arXiv
2004.04136)."""

from dataclasses import dataclass
from typing import Any

from gymnasium import spaces
from torch import Tensor

from rlrep.contrast.parts import Metrics
from rlrep.replay import Batch, Pairs, SecondView

from .base import Encoded, Encoders
from .objective import ContrastConfig, ContrastHead


@dataclass(frozen=True)
class InstanceContrast(ContrastConfig):
    """Settings of `aux=curl`. views: of one observation, all in all; more than two with `objective=cacr` only."""

    views: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.views < 2 or (self.views > 2 and not self.chosen.several):
            raise ValueError(f"views must be 2, or more with objective=cacr, not {self.views} with {self.objective}")

    def make(self, name: str, latent_dim: int, action_space: spaces.Space[Any]) -> "InstanceContrastHead":
        return InstanceContrastHead(self, latent_dim)


class InstanceContrastHead(ContrastHead):
    """Contrast of the online latent with the momentum encoder's latents of other views.

    The key encoder is the agent's EMA target, as in CURL, so with `objective=bilinear` the head owns nothing but the
    bilinear form.
    """

    def __init__(self, config: InstanceContrast, latent_dim: int) -> None:
        views = SecondView(config.views - 1)
        super().__init__(config, latent_dim, views)
        self.views = views

    def loss(self, batch: Batch, pairs: Pairs, encoded: Encoded, encoders: Encoders) -> tuple[Tensor, Metrics]:
        query = self.query(encoded.latent)
        keys = self.branches.other(pairs[self.views], encoders).unflatten(0, (-1, len(query)))
        loss, health = self.contrast(query, keys, pairs)
        return loss, health
