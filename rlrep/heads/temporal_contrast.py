"""Temporal contrast: an observation attracts a later one of its episode (ATC, Stooke et al. 2021, arXiv 2009.08319)."""

from dataclasses import dataclass
from typing import Any

from gymnasium import spaces
from torch import Tensor, nn

from rlrep.contrast.parts import Metrics
from rlrep.replay import Batch, LaterSteps, Needs, Pairs
from rlrep.settings import ranges
from rlrep.views.base import View

from .base import Encoded, Encoders
from .branches import Branches, make_projector
from .objective import Contrast, ContrastConfig


@dataclass(frozen=True)
class TemporalContrast(ContrastConfig):
    """Settings of `aux=temporal`, beside those of `ContrastConfig`.

    offset: agent steps to the positive. predictor_dim: hidden width of the residual predictor, None = no predictor.
    view: augmentation of the later observations (None = the agent's own).
    """

    offset: int = 1
    predictor_dim: int | None = 512
    view: View | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        ranges.at_least(self, 1, ["offset"])

    def make(self, name: str, latent_dim: int, action_space: spaces.Space[Any]) -> "TemporalContrastHead":
        """Build the head; actions play no part in it."""
        return TemporalContrastHead(self, latent_dim)


class TemporalContrastHead(nn.Module):
    """Contrast of a prediction from the online latent with the momentum encoder's latent of a later observation.

    Rows whose episode ends before the offset (or has not come so far) are no anchors; their last observation still
    repels others.
    """

    def __init__(self, config: TemporalContrast, latent_dim: int) -> None:
        super().__init__()
        self.config = config
        project, dim = config.project(latent_dim)
        self.branches = Branches(project, target=config.target, tau=config.tau)
        hidden = config.predictor_dim
        self.predictor = None if hidden is None else make_projector(dim, hidden, dim)
        self.contrast = Contrast(config, dim, init="identity")
        self.later = LaterSteps((config.offset,))
        self.needs = Needs((self.later, *self.contrast.requests), config.view)

    def loss(self, batch: Batch, pairs: Pairs, encoded: Encoded, encoders: Encoders) -> tuple[Tensor, Metrics]:
        """Return the objective over the anchors that have a later observation (0 while there are none)."""
        later = pairs[self.later]
        query = self.branches.project(encoded.latent)
        if self.predictor is not None:
            query = query + self.predictor(query)
        keys = self.branches.other(later.obs[0], encoders)[None]
        valid = later.valid[0].float()
        loss, health = self.contrast(query, keys, pairs, row_weight=valid)
        return loss, health | {"with_later": valid.mean()}

    def after_update(self) -> None:
        """Move the keys' projector and the queue; the agent moves its own EMA encoder."""
        self.branches.update()
        self.contrast.after_update()
