"""Pseudo return bins for what belongs to unfinished episodes (after CoMatch, Li et al. 2021, arXiv 2011.11183)."""

from dataclasses import dataclass
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize, one_hot

from rlrep.contrast import graph_contrast, weighted_mean
from rlrep.contrast.parts import Metrics, pair_health
from rlrep.replay import UNKNOWN, Batch, Numbered, Pairs
from rlrep.settings import ranges
from rlrep.views.base import View

from .actions import action_dim
from .base import Encoded, Encoders
from .negatives import Binned
from .return_classifier import Judged, ReturnClassifierHead, supervised

_SLOW = 0.01
"""Rate of the running means of how good pseudo-bins turned out to be."""


@dataclass(frozen=True)
class CoMatchReturn(Binned):
    """Settings of `aux=comatch_return`, beside how returns are binned.

    threshold: a pseudo-bin at least this sure is trained on. smoothing: weight of the prediction beside that of the
    batch's finished rows that are near in embedding (1 = none). edge: (pseudo-)bins with at least this product
    attract each other. temperature: of cosines. unlabelled, contrast: weights of the two losses without labels.
    memory: pseudo-bins that are remembered until their episode has ended.
    hidden_dim, embedding_dim: of the state-action projector. tau: EMA rate of its copy.
    view: augmentation of the second view (None = the agent's own).
    """

    threshold: float = 0.9
    smoothing: float = 0.9
    edge: float = 0.8
    temperature: float = 0.2
    unlabelled: float = 1.0
    contrast: float = 1.0
    memory: int = 100_000
    hidden_dim: int = 256
    embedding_dim: int = 128
    tau: float = 0.05
    view: View | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        ranges.share(self, ["smoothing"])
        ranges.at_least(self, 0, ["unlabelled", "contrast"])
        ranges.at_least(self, 1, ["memory", "hidden_dim", "embedding_dim"])
        ranges.part(self, ["tau"])
        ranges.positive(self, ["temperature"])

    def make(self, name: str, latent_dim: int, action_space: spaces.Space[Any]) -> "CoMatchReturnHead":
        return CoMatchReturnHead(self, latent_dim, action_dim(action_space))


class CoMatchReturnHead(ReturnClassifierHead):
    """Cross entropy with known bins and with sure pseudo-bins, and a graph of both that two views learn.

    The EMA networks on a second view give the pseudo-bins. Each is remembered by its transition's number, and counted
    as right or wrong whenever that is drawn again once its bin is known.
    """

    numbers: Tensor
    guesses: Tensor
    scored: Tensor
    seen: Tensor

    def __init__(self, config: CoMatchReturn, latent_dim: int, action_dim: int) -> None:
        number = Numbered()
        super().__init__(config, latent_dim, action_dim, more=(number,))
        self.config, self.number = config, number
        self.register_buffer("numbers", torch.full((config.memory,), -1))
        self.register_buffer("guesses", torch.zeros(config.memory, dtype=torch.int64))
        self.register_buffer("scored", torch.zeros(2))  # running means of rows that were guessed right, and guessed
        self.register_buffer("seen", torch.zeros(2), persistent=False)

    def loss(self, batch: Batch, pairs: Pairs, encoded: Encoded, encoders: Encoders) -> tuple[Tensor, Metrics]:
        config, bins = self.config, pairs[self.bins]
        judged = self.judge(encoded.latent, batch.action)
        other = self.judge_target(encoders.target(pairs[self.view]), batch.action)
        pseudo, open_rows = self.pseudo_bins(other, bins), (bins == UNKNOWN).float()
        self._remember(pseudo, bins, pairs[self.number])
        sure = (pseudo.amax(1) >= config.threshold).float() * open_rows
        loss, health = supervised(judged.logits, bins)
        errors = sure * cross_entropy(judged.logits, pseudo, reduction="none")
        loss = loss + config.unlabelled * weighted_mean(errors, open_rows)
        if config.contrast:
            t, edge = config.temperature, config.edge
            loss = loss + config.contrast * graph_contrast(judged.z, other.z, pseudo, temperature=t, threshold=edge)
        right, counted = self.scored
        health |= {"sure": weighted_mean(sure, open_rows), "pseudo_accuracy": right / counted.clamp_min(1e-12)}
        return loss, health | pair_health(judged.z, other.z)

    @torch.no_grad()
    def pseudo_bins(self, other: Judged, bins: Tensor) -> Tensor:
        """Return `(B, C)`: known bins as they are, and what the others are taken for."""
        known, share = bins != UNKNOWN, self.config.smoothing
        certain = one_hot(bins.clamp_min(0), other.logits.shape[1]).to(other.logits)
        taken, z = other.logits.softmax(1), normalize(other.z, dim=1)
        near = (z @ z.T / self.config.temperature).masked_fill(~known, -torch.inf).softmax(1) @ certain
        smoothed = torch.where(known.any(), share * taken + (1.0 - share) * near, taken)
        return torch.where(known[:, None], certain, smoothed)

    @torch.no_grad()
    def _remember(self, pseudo: Tensor, bins: Tensor, number: Tensor) -> None:
        """Write down the pseudo-bins, and count those of earlier batches whose bin is known now."""
        if not self.training:
            return
        known, slot = bins != UNKNOWN, number % self.config.memory
        guessed = known & (self.numbers[slot] == number)
        self.seen[0], self.seen[1] = (guessed & (self.guesses[slot] == bins)).sum(), guessed.sum()
        self.guesses[slot] = torch.where(known, self.guesses[slot], pseudo.argmax(1))
        self.numbers[slot] = torch.where(known, self.numbers[slot], number)

    def after_update(self) -> None:
        """Move the EMA copy and the running means."""
        super().after_update()
        self.scored.lerp_(self.seen, _SLOW)
