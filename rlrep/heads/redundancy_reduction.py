"""Redundancy reduction: two views agree while features stay decorrelated (Barlow Twins, Zbontar et al. 2021, arXiv
2103.03230; VICReg, Bardes et al. 2022, arXiv 2105.04906)."""

from dataclasses import dataclass
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor, nn

from rlrep.contrast import feature_correlation, feature_std
from rlrep.contrast.parts import Among, Metrics, Objective
from rlrep.replay import Batch, Needs, Pairs, SecondView

from .base import Encoded, Encoders, Head
from .branches import Branches, EmbeddingConfig, Target, make_projector
from .objective import chosen_objective


@dataclass(frozen=True)
class RedundancyReduction(EmbeddingConfig):
    """Settings of `aux=barlow_twins` and `aux=vicreg`, both of whose views have gradient, as in the papers.

    objective: `barlow_twins`, `vicreg`, or a `rlrep.contrast.parts.Objective` of one's own over features.
    off_diagonal: weight of the redundancy (`barlow_twins`). invariance, variance, covariance: weights (`vicreg`).
    layers: of the projector, which has batch norm.
    """

    objective: str | Objective = "barlow_twins"
    off_diagonal: float = 0.0051
    invariance: float = 25.0
    variance: float = 25.0
    covariance: float = 1.0
    target: Target = "online"
    embedding_dim: int = 256
    layers: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.chosen  # which refuses others

    @property
    def chosen(self) -> Objective:
        """The objective with its settings."""
        return chosen_objective(self, self.objective, rows=False)

    def make(self, name: str, latent_dim: int, action_space: spaces.Space[Any]) -> "RedundancyReductionHead":
        return RedundancyReductionHead(self, latent_dim)


class RedundancyReductionHead(Head):
    """Agreement of the online latent's embedding with another view's, feature by feature."""

    def __init__(self, config: RedundancyReduction, latent_dim: int) -> None:
        super().__init__()
        self.objective = config.chosen
        self.view = SecondView()
        self.needs = Needs((self.view,), config.view)
        hidden, dim = config.hidden_dim, config.embedding_dim
        project = make_projector(latent_dim, hidden, dim, layers=config.layers, batch_norm=True)
        self.branches = Branches(config, project)

    def loss(self, batch: Batch, pairs: Pairs, encoded: Encoded, encoders: Encoders) -> tuple[Tensor, Metrics]:
        first, second = self.branches.project(encoded.latent), self.branches.other(pairs[self.view], encoders)
        return self.objective([first, second], Among()), _health(first.detach(), second.detach())

    def after_update(self) -> None:
        self.branches.update()


@torch.no_grad()
def _health(first: Tensor, second: Tensor) -> Metrics:
    return {
        "positive_similarity": nn.functional.cosine_similarity(first, second).mean(),
        "feature_std": feature_std(first),
        "feature_correlation": feature_correlation(first),
    }
