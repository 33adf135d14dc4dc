"""Classification of state-actions by return bin, and what it does where the bins are wrong (ELR)."""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from rlrep.contrast import MomentumTarget, early_learning, weighted_mean
from rlrep.contrast.parts import Metrics
from rlrep.replay import UNKNOWN, Batch, Needs, Pairs, Request, ReturnBin, ReturnLabels, SecondView
from rlrep.views.base import View

from .actions import join_action, state_action_projector
from .base import Encoded, Encoders, Head

_FLOOR = 1e-4
"""Least probability, as in ELR's code."""


class ReturnClassifier(Protocol):
    """What a classifier of returns reads of its settings.

    hidden_dim, embedding_dim: of the state-action projector. tau: EMA rate of its copy. view: of the second view.
    """

    @property
    def hidden_dim(self) -> int: ...
    @property
    def embedding_dim(self) -> int: ...
    @property
    def tau(self) -> float: ...
    @property
    def view(self) -> View | None: ...
    @property
    def binned(self) -> ReturnLabels: ...


class Judged(NamedTuple):
    """z `(B, E)`: embeddings of state-actions. logits `(B, bins)`: what the classifier says of them."""

    z: Tensor
    logits: Tensor


class ReturnClassifierHead(Head):
    """Which return bin is a state-action of? Cross entropy over the rows whose bin is known.

    early: weight of early-learning regularisation (ELR, Liu et al. 2020, arXiv 2007.00151, eq. 6), which holds a
    prediction to what was believed of the sample before. Deviation: that is the prediction of the averaged weights
    (the EMA encoder, classifier and projector on a second view), as in its ELR+, without an average per sample.
    more: what a subclass asks for beside.
    """

    def __init__(
        self,
        config: ReturnClassifier,
        latent_dim: int,
        action_dim: int,
        *,
        early: float = 0.0,
        more: tuple[Request[Tensor], ...] = (),
    ) -> None:
        super().__init__()
        self.early, self.action_dim = early, action_dim
        self.bins, self.view = ReturnBin(config.binned), SecondView()
        self.needs = Needs((self.bins, self.view, *more), config.view)
        project = state_action_projector(latent_dim + action_dim, config.hidden_dim, config.embedding_dim)
        self.classifier = nn.Sequential(project, nn.Linear(config.embedding_dim, config.binned.bins))
        self.target_classifier = MomentumTarget(self.classifier, config.tau)

    def loss(self, batch: Batch, pairs: Pairs, encoded: Encoded, encoders: Encoders) -> tuple[Tensor, Metrics]:
        judged, bins = self.judge(encoded.latent, batch.action), pairs[self.bins]
        loss, health = supervised(judged.logits, bins)
        if self.early:
            believed = self.judge_target(encoders.target(pairs[self.view]), batch.action)
            against = early_regulariser(judged.logits, believed.logits, bins != UNKNOWN)
            loss, health = loss + self.early * against, {**health, "regulariser": against.detach()}
        return loss, health

    def after_update(self) -> None:
        self.target_classifier.update()

    def judge(self, latent: Tensor, action: Tensor) -> Judged:
        """Return what the classifier says of latents `(B, D)` and actions."""
        return _judged(self.classifier, join_action(latent, action, self.action_dim))

    @torch.no_grad()
    def judge_target(self, latent: Tensor, action: Tensor) -> Judged:
        """Return what its EMA copy says of the EMA encoder's latents `(B, D)`, without gradient."""
        return _judged(self.target_classifier.module, join_action(latent, action, self.action_dim))


def _judged(classifier: nn.Module, joined: Tensor) -> Judged:
    z: Tensor = classifier.get_submodule("0")(joined)
    return Judged(z, classifier.get_submodule("1")(z))


def supervised(logits: Tensor, bins: Tensor) -> tuple[Tensor, Metrics]:
    """Return the mean cross entropy over rows of known bins `(B,)`, 0 without any, and the share classified so."""
    known = (bins != UNKNOWN).float()
    errors = cross_entropy(logits, bins.clamp_min(0), reduction="none")
    hits = (logits.detach().argmax(1) == bins).float()
    loss = weighted_mean(errors, known)
    return loss, {"accuracy": weighted_mean(hits, known), "labelled": known.mean(), "cross_entropy": loss.detach()}


def early_regulariser(logits: Tensor, believed: Tensor, known: Tensor) -> Tensor:
    """Return `early_learning` of logits `(B, bins)` over the known rows `(B,)`, 0 without any."""
    probability = logits.softmax(1).clamp(_FLOOR, 1.0 - _FLOOR)
    target = believed.softmax(1).clamp(_FLOOR, 1.0 - _FLOOR)
    target = target / target.sum(1, keepdim=True) * known[:, None]  # of a row without target the term is log 1
    return early_learning(probability, target) * (len(known) / known.sum().clamp(min=1))
