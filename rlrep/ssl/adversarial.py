"""Contrast with an adversarial view: one gradient step on the pixels against the contrastive loss (CLAE)."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from rlrep.contrast import pgd
from rlrep.contrast.parts import Metrics, Objective, Projection, pair_health
from rlrep.nn import Encoder
from rlrep.views import View

from .base import Method
from .batch import DataShape, ImageBatch
from .joint import JointEmbedding, JointEmbeddingMethod


@dataclass(frozen=True)
class AdversarialContrast:
    """two views and an adversarial one x one network, its batch norms doubled x in-batch negatives x objective.

    epsilon: length of the step on every pixel, as a share of the pixels' range. weight: of the adversarial term.
    momentum: of the adversarial batch norms' running statistics, which nothing is evaluated with.
    """

    views: tuple[View, ...]
    projector: Projection
    objective: Objective
    epsilon: float = 0.015
    weight: float = 1.0
    momentum: float = 0.01

    def make(self, encoder: Encoder, about: DataShape) -> Method:
        """Build the method."""
        return AdversarialContrastMethod(self, encoder)


class AdversarialContrastMethod(JointEmbeddingMethod):
    """Objective of the two views, plus that of the first view and its adversarial version."""

    def __init__(self, config: AdversarialContrast, encoder: Encoder) -> None:
        super().__init__(JointEmbedding(config.views, config.projector, config.objective), encoder)
        self.settings = config
        twins = {name.replace(".", "/"): copy.deepcopy(norm) for name, norm in self._norms().items()}
        for twin in twins.values():
            twin.momentum = config.momentum
        self.adversarial_norms = nn.ModuleDict(twins)

    def loss(self, batch: ImageBatch) -> tuple[Tensor, Metrics]:
        """Return both terms; the pixels' step gets no gradient."""
        z = self.embed_views(batch.views)
        clean = self.objective(z, batch.labels)
        with self.adversarial():
            adversary = self.embed(self.attack(batch.views[0], batch.labels))
        against = self.objective(torch.stack([z[0], adversary]), batch.labels)
        health = {**pair_health(z[0], z[1]), "clean": clean.detach(), "adversarial": against.detach()}
        return clean + self.settings.weight * against, health

    def attack(self, view: Tensor, labels: Tensor | None) -> Tensor:
        """Return the view moved by epsilon against the loss of the view with itself, float in and beyond [0, 255].

        Call it under `adversarial()`. At the start of the step both are equal, so the batch's negatives drive it.
        """
        with torch.no_grad():
            anchor = self.embed(view)
        length = 255.0 * self.settings.epsilon

        def loss(pixels: Tensor) -> Tensor:
            return self.objective(torch.stack([anchor, self.embed(pixels)]), labels)

        return pgd(loss, view.float(), epsilon=length, step=length, steps=1, start="clean")

    @contextmanager
    def adversarial(self) -> Iterator[None]:
        """Put the adversarial batch norms in the place of the clean ones, in the encoder and the projector."""
        clean = self._norms()
        try:
            for name in clean:
                self._put(name, self.adversarial_norms[name.replace(".", "/")])
            yield
        finally:
            for name, norm in clean.items():
                self._put(name, norm)

    def _norms(self) -> dict[str, _BatchNorm]:
        return {name: module for name, module in self.online.named_modules() if isinstance(module, _BatchNorm)}

    def _put(self, name: str, module: nn.Module) -> None:
        parent, _, leaf = name.rpartition(".")
        setattr(self.online.get_submodule(parent), leaf, module)
