"""A classifier on the encoder: supervised training, fine-tuning of a saved encoder, a linear stage on a frozen one."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlrep.contrast.parts import EarlyLearning, Metrics, Projection, spread
from rlrep.nn import Encoder
from rlrep.views import View

from .base import Method, out_dim
from .batch import DataShape, ImageBatch, Needs
from .data import ImageData
from .evaluation import encode
from .probes import linear_map


@dataclass(frozen=True)
class LinearHead:
    """The linear map to the classes. start: `random`, or `probe`: the linear probe of the encoder as it is found."""

    start: Literal["random", "probe"] = "random"


@dataclass(frozen=True)
class Classifier:
    """one view x linear head on the latent, or on a projection of it x cross entropy.

    regulariser: set against wrong labels; None = cross entropy alone.
    smoothing: share of the target that is spread over all classes, in [0, 1).
    """

    views: tuple[View, ...]
    head: LinearHead = LinearHead()
    projector: Projection | None = None
    regulariser: EarlyLearning | None = None
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.smoothing < 1.0:
            raise ValueError(f"smoothing must be in [0, 1), not {self.smoothing}")

    def make(self, encoder: Encoder, about: DataShape) -> Method:
        """Build the method. Raises ValueError on other than one view, and on images without classes."""
        return ClassifierMethod(self, encoder, about)


class ClassifierMethod(Method):
    """Cross entropy with the labels. A frozen encoder is not trained, and its batch norm's statistics stay."""

    def __init__(self, config: Classifier, encoder: Encoder, about: DataShape) -> None:
        if len(config.views) != 1:
            raise ValueError(f"method.views needs one view to classify, not {len(config.views)}")
        check_classes(about)
        super().__init__(encoder, config.projector.make(encoder.latent_dim) if config.projector else nn.Identity())
        self.config, self.needs = config, Needs(views=1, labels=True, parts=0, index=config.regulariser is not None)
        self.head = nn.Linear(out_dim(self.online.get_submodule("projector"), encoder.latent_dim), about.classes)
        self.memory = config.regulariser.make(about.count, about.classes) if config.regulariser else None

    def train(self, mode: bool = True) -> "ClassifierMethod":
        """Set the mode; a frozen body stays in evaluation mode."""
        super().train(mode)
        if not any(parameter.requires_grad for parameter in self.encoder.body.parameters()):
            self.encoder.body.eval()
        return self

    def prepare(self, data: ImageData, labels: Tensor | None, view: View) -> None:
        """Put the linear probe into the head, where it starts from that."""
        if self.config.head.start == "random":
            return
        assert labels is not None
        features = encode(self.online, data.images, view)
        weight, bias = linear_map(features, labels, classes=self.head.out_features)
        with torch.no_grad():
            self.head.weight.copy_(weight)
            self.head.bias.copy_(bias)

    def loss(self, batch: ImageBatch) -> tuple[Tensor, Metrics]:
        """Return the cross entropy and the regulariser, with the share of the batch that is classified as labelled."""
        assert batch.labels is not None
        z = self.embed(batch.views[0])
        logits = self.head(z)
        loss = F.cross_entropy(logits, batch.labels, label_smoothing=self.config.smoothing)
        hits = (logits.detach().argmax(1) == batch.labels).float().mean()
        metrics = {"accuracy": hits, "spread": spread(z.detach())}
        if self.memory is None:
            return loss, metrics
        assert batch.index is not None
        against = self.memory.loss(logits, batch.index)
        return loss + against, {**metrics, "cross_entropy": loss.detach(), "regulariser": against.detach()}

    def flagged(self, labels: Tensor) -> Tensor | None:
        """Return where the average of earlier predictions says another class than the label."""
        return None if self.memory is None else self.memory.disagrees(labels)

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """Keep the averages that the batch moved."""
        super().after_step(progress)
        if self.memory is not None:
            self.memory.write()

    def logits(self, images: Tensor) -> Tensor:
        """Return what the head says."""
        found: Tensor = self.head(self.embed(images))
        return found


def check_classes(about: DataShape) -> None:
    """Raise ValueError for images without classes."""
    if not about.classes:
        raise ValueError("this method needs images with classes: name the labels that are classes by train.label=")
