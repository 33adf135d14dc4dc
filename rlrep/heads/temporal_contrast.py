"""Temporal contrast: an observation attracts a later one of its episode (ATC, Stooke et al. 2021, arXiv 2009.08319)."""

from dataclasses import dataclass
from typing import Any

from gymnasium import spaces
from torch import Tensor

from rlrep.contrast.parts import Metrics
from rlrep.replay import Batch, LaterSteps, Pairs
from rlrep.settings import ranges

from .base import Encoded, Encoders
from .objective import ContrastConfig, ContrastHead


@dataclass(frozen=True)
class TemporalContrast(ContrastConfig):
    """Settings of `aux=temporal`.

    offset: agent steps to the positive.
    predictor_dim: hidden width of the residual predictor, None = no predictor.
    """

    offset: int = 1
    predictor_dim: int | None = 512

    def __post_init__(self) -> None:
        super().__post_init__()
        ranges.at_least(self, 1, ["offset"])

    def make(self, name: str, latent_dim: int, action_space: spaces.Space[Any]) -> "TemporalContrastHead":
        return TemporalContrastHead(self, latent_dim)


class TemporalContrastHead(ContrastHead):
    """Contrast of a prediction from the online latent with the momentum encoder's latent of a later observation.

    Rows whose episode ends before the offset (or has not come so far) are no anchors; their last observation still
    repels others.
    """

    def __init__(self, config: TemporalContrast, latent_dim: int) -> None:
        later = LaterSteps((config.offset,))
        super().__init__(config, latent_dim, later, predictor_dim=config.predictor_dim, init="identity")
        self.later = later

    def loss(self, batch: Batch, pairs: Pairs, encoded: Encoded, encoders: Encoders) -> tuple[Tensor, Metrics]:
        later, query = pairs[self.later], self.query(encoded.latent)
        keys, valid = self.branches.other(later.obs[0], encoders)[None], later.valid[0].float()
        loss, health = self.contrast(query, keys, pairs, row_weight=valid)
        return loss, health | {"with_later": valid.mean()}
