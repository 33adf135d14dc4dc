"""Self-prediction: a latent transition model predicts the momentum encoder's embeddings of what follows (SPR, Schwarzer
et al. 2021, arXiv 2007.05929)."""

from dataclasses import dataclass
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor, nn

from rlrep.contrast import feature_std, negative_cosine, weighted_mean
from rlrep.contrast.parts import Metrics
from rlrep.replay import Batch, LaterSteps, Needs, Pairs
from rlrep.settings import ranges

from .actions import action_dim
from .base import Encoded, Encoders, Head
from .branches import Branches, EmbeddingConfig, make_projector
from .transition import make_transition, roll_out


@dataclass(frozen=True)
class SelfPrediction(EmbeddingConfig):
    """Settings of `aux=self_prediction`.

    steps: agent steps predicted. transition_dim: hidden width of the transition model.
    target: `ema`, or `online` (SPR with augmentation, tau = 1); it never receives gradient.
    as_replayed: the loss is the mean over all predictions, those beyond an episode's end counting 0 and the others by
        their transition's importance weight (SPR's code), instead of the mean over those that count.
    """

    steps: int = 5
    transition_dim: int = 256
    as_replayed: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        ranges.at_least(self, 1, ("steps",))

    def make(self, name: str, latent_dim: int, action_space: spaces.Space[Any]) -> "SelfPredictionHead":
        return SelfPredictionHead(self, latent_dim, action_dim(action_space))


class SelfPredictionHead(Head):
    """2 - 2 cos between predictions rolled out in latent space and what was seen, while the episode lasts."""

    like_encoder = ("transition",)
    stacks = True

    def __init__(self, config: SelfPrediction, latent_dim: int, action_dim: int) -> None:
        super().__init__()
        self.steps, self.action_dim, self.as_replayed = config.steps, action_dim, config.as_replayed
        self.later = LaterSteps(tuple(range(1, config.steps + 1)))
        self.needs = Needs((self.later,), config.view)
        hidden, dim = config.hidden_dim, config.embedding_dim
        self.transition = make_transition(latent_dim, action_dim, config.transition_dim)
        self.branches = Branches(config, make_projector(latent_dim, hidden, dim))
        self.predictor = make_projector(dim, hidden, dim)

    def loss(self, batch: Batch, pairs: Pairs, encoded: Encoded, encoders: Encoders) -> tuple[Tensor, Metrics]:
        later = pairs[self.later]
        latents = roll_out(self.transition, encoded.latent, later.action, self.action_dim)
        predicted = self.predictor(self.branches.project(latents.flatten(0, 1)))
        with torch.no_grad():
            target = self.branches.other(later.obs.flatten(0, 1), encoders)
        valid = later.valid.flatten().float()
        weight = valid
        if self.as_replayed and batch.weight is not None:
            weight = valid * batch.weight.repeat(self.steps)
        loss = negative_cosine(predicted, target, row_weight=weight)
        return loss * weight.mean() if self.as_replayed else loss, self._health(predicted, target, valid)

    def after_update(self) -> None:
        self.branches.update()

    @torch.no_grad()
    def _health(self, predicted: Tensor, target: Tensor, valid: Tensor) -> Metrics:
        """Similarity at the first and at the last step, how many predictions count, and the spread of the targets."""
        cosine = nn.functional.cosine_similarity(predicted, target).view(self.steps, -1)
        counts = valid.view(self.steps, -1)
        return {
            "first_similarity": weighted_mean(cosine[0], counts[0]),
            "last_similarity": weighted_mean(cosine[-1], counts[-1]),
            "with_later": valid.mean(),
            "target_std": feature_std(nn.functional.normalize(target, dim=1)),
        }
