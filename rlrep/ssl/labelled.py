"""A contrast of unlabelled views with a classification of a few labelled images beside it (SuNCEt)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from rlrep.contrast.parts import Metrics, Objective, Projection, Suncet, pair_health
from rlrep.nn import Encoder
from rlrep.views import View

from .base import Method, gather_rows
from .batch import DataShape, ImageBatch, LabelledSubset, Needs
from .joint import JointEmbedding, JointEmbeddingMethod


@dataclass(frozen=True)
class LabelledContrast:
    """two views of unlabelled images x objective, + one view of labelled images x supervised objective.

    labelled: how many there are and what their batches hold. weight: of the supervised part; it ends after the share
    `until` of training.
    """

    views: tuple[View, ...]
    projector: Projection
    objective: Objective
    supervised: Suncet
    labelled: LabelledSubset
    weight: float = 1.0
    until: float = 1.0

    def make(self, encoder: Encoder, about: DataShape) -> Method:
        """Build the method."""
        return LabelledContrastMethod(self, encoder)


class LabelledContrastMethod(JointEmbeddingMethod):
    """One forward of both views and the labelled images."""

    def __init__(self, config: LabelledContrast, encoder: Encoder) -> None:
        if config.labelled.per_class < 2:
            raise ValueError("method.labelled.per_class must be at least 2: images are classified by their partners")
        super().__init__(JointEmbedding(config.views, config.projector, config.objective, forward="together"), encoder)
        self.settings = config
        self.needs = Needs(views=2, labels=config.objective.labels, labelled=config.labelled)

    def loss(self, batch: ImageBatch) -> tuple[Tensor, Metrics]:
        """Return the unsupervised loss plus the weighted supervised one."""
        assert batch.labelled is not None and batch.labelled_classes is not None
        parts = [*batch.views, batch.labelled]
        *views, known = self.embed(torch.cat(parts)).split([len(part) for part in parts])
        contrast = self.objective(torch.stack(views), batch.labels)
        metrics = {**pair_health(views[0], views[1]), "contrast": contrast.detach()}
        if self.progress >= self.settings.until:
            return contrast, metrics
        supervised = self.settings.supervised(gather_rows(known), gather_rows(batch.labelled_classes))
        return contrast + self.settings.weight * supervised, {**metrics, "supervised": supervised.detach()}
