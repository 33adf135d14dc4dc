"""Self-distillation: predict the momentum encoder's embedding of another view, without negatives (BYOL, Grill et al.
2020, arXiv 2006.07733; DirectPred, Tian et al. 2021, arXiv 2102.06810; SimSiam, Chen & He 2021, arXiv 2011.10566)."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn.functional import normalize

from rlrep.contrast import DirectPredictor, feature_std, negative_cosine
from rlrep.contrast.parts import Metrics
from rlrep.replay import Batch, Needs, Pairs, SecondView
from rlrep.views.base import View

from .base import Encoded, Encoders, HeadConfig
from .branches import Branches, Target, make_projector


@dataclass(frozen=True)
class SelfDistillation(HeadConfig):
    """Settings of `aux=byol` and `aux=directpred`.

    predictor: `mlp` (BYOL), `direct` (set from the projections' correlation: DirectPred, or DirectCopy with power=1),
        `none` (collapses; for studies).
    target: `ema` (BYOL) or `online` (SimSiam); it never receives gradient. tau: EMA rate of the projector's copy.
    hidden_dim, embedding_dim: of projector and predictor. batch_norm: on their hidden layers.
    rho, eps, every, power: of the direct predictor, see `DirectPredictor`.
    view: augmentation of the other view (None = the agent's own).
    """

    predictor: Literal["mlp", "direct", "none"] = "mlp"
    target: Target = "ema"
    tau: float = 0.05
    hidden_dim: int = 256
    embedding_dim: int = 128
    batch_norm: bool = True
    rho: float = 0.9
    eps: float = 0.1
    every: int = 1
    power: float = 0.5
    view: View | None = None

    def make(self, name: str, latent_dim: int, action_space: spaces.Space[Any]) -> "SelfDistillationHead":
        """Build the head; actions play no part in it."""
        return SelfDistillationHead(self, latent_dim)


class SelfDistillationHead(nn.Module):
    """2 - 2 cos between the prediction from the online latent and the other view's embedding, in one direction."""

    def __init__(self, config: SelfDistillation, latent_dim: int) -> None:
        super().__init__()
        self.view = SecondView()
        self.needs = Needs((self.view,), config.view)
        hidden, dim, batch_norm = config.hidden_dim, config.embedding_dim, config.batch_norm
        project = make_projector(latent_dim, hidden, dim, batch_norm=batch_norm)
        self.branches = Branches(project, target=config.target, tau=config.tau)
        self.predictor: nn.Module = nn.Identity()
        if config.predictor == "mlp":
            self.predictor = make_projector(dim, hidden, dim, batch_norm=batch_norm)
        elif config.predictor == "direct":
            self.predictor = DirectPredictor(
                dim, rho=config.rho, eps=config.eps, every=config.every, power=config.power
            )

    def loss(self, batch: Batch, pairs: Pairs, encoded: Encoded, encoders: Encoders) -> tuple[Tensor, Metrics]:
        """Return the mean of 2 - 2 cos(prediction, target)."""
        embedded = self.branches.project(encoded.latent)
        with torch.no_grad():
            target = self.branches.other(pairs[self.view], encoders)
        if isinstance(self.predictor, DirectPredictor) and self.training:
            self.predictor.observe(embedded)
        loss = negative_cosine(self.predictor(embedded), target)
        return loss, {"positive_similarity": 1 - loss.detach() / 2, "target_std": feature_std(normalize(target, dim=1))}

    def after_update(self) -> None:
        """Set a direct predictor, then move the projector's copy; the agent moves its own EMA encoder."""
        if isinstance(self.predictor, DirectPredictor):
            self.predictor.refresh()
        self.branches.update()
