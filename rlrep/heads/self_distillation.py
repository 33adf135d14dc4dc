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

from .base import Encoded, Encoders, Head
from .branches import Branches, EmbeddingConfig, make_projector


@dataclass(frozen=True)
class SelfDistillation(EmbeddingConfig):
    """Settings of `aux=byol` and `aux=directpred`.

    predictor: `mlp` (BYOL), `direct` (set from the projections' correlation: DirectPred, or DirectCopy with power=1),
        `none` (collapses; for studies).
    target: `ema` (BYOL) or `online` (SimSiam); it never receives gradient.
    batch_norm: on the hidden layers of projector and predictor.
    rho, eps, every, power: of the direct predictor, see `DirectPredictor`.
    """

    predictor: Literal["mlp", "direct", "none"] = "mlp"
    batch_norm: bool = True
    rho: float = 0.9
    eps: float = 0.1
    every: int = 1
    power: float = 0.5

    def make(self, name: str, latent_dim: int, action_space: spaces.Space[Any]) -> "SelfDistillationHead":
        return SelfDistillationHead(self, latent_dim)


class SelfDistillationHead(Head):
    """2 - 2 cos between the prediction from the online latent and the other view's embedding, in one direction."""

    def __init__(self, config: SelfDistillation, latent_dim: int) -> None:
        super().__init__()
        self.view = SecondView()
        self.needs = Needs((self.view,), config.view)
        hidden, dim, batch_norm = config.hidden_dim, config.embedding_dim, config.batch_norm
        project = make_projector(latent_dim, hidden, dim, batch_norm=batch_norm)
        self.branches = Branches(config, project)
        self.predictor: nn.Module = nn.Identity()
        if config.predictor == "mlp":
            self.predictor = make_projector(dim, hidden, dim, batch_norm=batch_norm)
        elif config.predictor == "direct":
            self.predictor = DirectPredictor(
                dim, rho=config.rho, eps=config.eps, every=config.every, power=config.power
            )

    def loss(self, batch: Batch, pairs: Pairs, encoded: Encoded, encoders: Encoders) -> tuple[Tensor, Metrics]:
        embedded = self.branches.project(encoded.latent)
        with torch.no_grad():
            target = self.branches.other(pairs[self.view], encoders)
        if isinstance(self.predictor, DirectPredictor) and self.training:
            self.predictor.observe(embedded)
        loss = negative_cosine(self.predictor(embedded), target)
        return loss, {"positive_similarity": 1 - loss.detach() / 2, "target_std": feature_std(normalize(target, dim=1))}

    def after_update(self) -> None:
        if isinstance(self.predictor, DirectPredictor):
            self.predictor.refresh()
        self.branches.update()
