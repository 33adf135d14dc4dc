"""Adversarial training of a classifier (PGD-AT, TRADES), with a contrast of images and adversarial ones (ASCL)."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlrep.contrast import sup_con
from rlrep.contrast.parts import Attack, Metrics, Projection, spread
from rlrep.nn import Encoder
from rlrep.views import View

from .base import Method
from .batch import DataShape, ImageBatch, Needs
from .classifier import check_classes

Selection = Literal["all", "soft", "hard", "leaked", "none"]
"""Which rows are contrasted (Bui et al. 2021, section 3.3): y is a row's label, p what it is classified as.

all: positives share y, negatives do not. hard: negatives whose p is the anchor's y. soft: negatives of the anchor's p.
leaked: soft, and positives of the anchor's p only. none: no contrast, adversarial training alone.
"""


@dataclass(frozen=True)
class RobustClassifier:
    """one view and its adversarial version x projector x supervised contrast, + a linear head on the latent.

    selection, temperature, contrast: of the contrast, its weight the last.
    adversarial, natural: weights of the cross entropies of the adversarial image and of the image.
    divergence: weight of the KL divergence of the adversarial image's prediction from the image's.
    against: what the attack raises: the cross entropy with the `labels`, or as TRADES does the divergence from the
    image's `prediction`, which is then also KL(image || adversarial) in the loss.
    """

    views: tuple[View, ...]
    projector: Projection
    attack: Attack
    selection: Selection = "leaked"
    temperature: float = 0.2
    contrast: float = 1.0
    divergence: float = 2.0
    natural: float = 0.0
    adversarial: float = 1.0
    against: Literal["labels", "prediction"] = "labels"

    def __post_init__(self) -> None:
        weights = (self.contrast, self.divergence, self.natural, self.adversarial)
        if min(weights) < 0 or not any(weights) or not self.temperature > 0:
            raise ValueError(f"weights must be 0 or more, one of them and the temperature above, in {self}")

    def make(self, encoder: Encoder, about: DataShape) -> Method:
        """Build the method. Raises ValueError on other than one view, and on images without classes."""
        return RobustClassifierMethod(self, encoder, about)


class RobustClassifierMethod(Method):
    """The attack runs in training mode, as the authors', on what the classifier is at this update."""

    def __init__(self, config: RobustClassifier, encoder: Encoder, about: DataShape) -> None:
        if len(config.views) != 1:
            raise ValueError(f"method.views needs one view to classify, not {len(config.views)}")
        check_classes(about)
        super().__init__(encoder, config.projector.make(encoder.latent_dim))
        self.config, self.needs = config, Needs(views=1, labels=True)
        self.head = nn.Linear(encoder.latent_dim, about.classes)

    def logits(self, images: Tensor) -> Tensor:
        """Return what the head says."""
        found: Tensor = self.head(self.encoder(images))
        return found

    def loss(self, batch: ImageBatch) -> tuple[Tensor, Metrics]:
        """Return the weighted sum, with both accuracies and how many pairs the selection keeps."""
        (view,), labels, config = batch.views, batch.labels, self.config
        assert labels is not None
        moved = self._moved(view, labels)
        latent = [self.encoder(view), self.encoder(moved)]
        plain, attacked = (self.head(each) for each in latent)
        total = config.adversarial * F.cross_entropy(attacked, labels)
        if config.natural:
            total = total + config.natural * F.cross_entropy(plain, labels)
        if config.divergence:
            total = total + config.divergence * self._divergence(attacked, plain).mean()
        predicted = torch.cat([plain, attacked]).detach().argmax(1)
        right = (predicted == labels.repeat(2)).float().chunk(2)
        metrics = {
            "accuracy": right[0].mean(),
            "robust_accuracy": right[1].mean(),
            "spread": spread(latent[0].detach()),
        }
        if config.selection == "none" or not config.contrast:
            return total, metrics
        contrast, kept = self._contrast(torch.cat(latent), labels.repeat(2), predicted)
        return total + config.contrast * contrast, {**metrics, **kept, "contrast": contrast.detach()}

    def _moved(self, view: Tensor, labels: Tensor) -> Tensor:
        if self.config.against == "labels":
            return self.config.attack(lambda x: F.cross_entropy(self.logits(x), labels), view)
        with torch.no_grad():
            plain = self.logits(view)
        return self.config.attack(lambda x: self._divergence(self.logits(x), plain).mean(), view)

    def _divergence(self, attacked: Tensor, plain: Tensor) -> Tensor:
        """Return the KL divergence `(N,)` of two predictions, by their logits."""
        first, second = (attacked, plain) if self.config.against == "labels" else (plain, attacked)
        logs = first.log_softmax(1)
        divergence: Tensor = (logs.exp() * (logs - second.log_softmax(1))).sum(1)
        return divergence

    def _contrast(self, latent: Tensor, labels: Tensor, predicted: Tensor) -> tuple[Tensor, Metrics]:
        """Return the contrast of images and adversarial ones `(2N, D)`, and the shares of pairs that it keeps."""
        same, alike = (each[:, None] == each[None, :] for each in (labels, predicted))
        as_anchor = labels[:, None] == predicted[None, :]  # who passes for the anchor's class
        everyone = torch.ones_like(same)
        valid = {"soft": alike, "leaked": alike, "hard": as_anchor}.get(self.config.selection, everyone)
        attract = alike if self.config.selection == "leaked" else everyone
        z = self.online.get_submodule("projector")(latent)
        loss = sup_con(z[:, None], labels, temperature=self.config.temperature, attract=attract, valid=valid)
        others = same & ~torch.eye(len(same), dtype=torch.bool, device=same.device)
        kept = {
            "kept_positives": (others & attract).sum() / others.sum().clamp_min(1),
            "kept_negatives": (~same & valid).sum() / (~same).sum().clamp_min(1),
        }
        return loss, kept
