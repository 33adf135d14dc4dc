"""Contrast of clips of which an adversary leaves frames out (VideoMoCo)."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rlrep.contrast.parts import Dropped, Dropper, FrameDropper, Metrics, embedding_change
from rlrep.nn import Encoder

from .base import Method
from .batch import DataShape, ImageBatch
from .target import TargetEmbedding, TargetEmbeddingMethod


@dataclass(frozen=True)
class VideoContrast(TargetEmbedding):
    """`TargetEmbedding` whose first view loses frames to an adversary, which is trained beside it.

    dropper: None = none is lost.
    """

    dropper: Dropper | None = None

    def make(self, encoder: Encoder, about: DataShape) -> Method:
        """Build the method. Raises ValueError as `TargetEmbedding`, and on images that are no such clips."""
        return VideoContrastMethod(self, encoder, about.image[0])


class VideoContrastMethod(TargetEmbeddingMethod):
    """The loss reaches encoder and projector, the adversary's only the adversary: their sum trains both."""

    def __init__(self, config: VideoContrast, encoder: Encoder, channels: int) -> None:
        super().__init__(config, encoder)
        wanted = config.dropper
        self.dropper: FrameDropper | None = wanted.make(channels) if wanted and wanted.dropped else None

    def loss(self, batch: ImageBatch) -> tuple[Tensor, Metrics]:
        """Return the sum of the contrast with the clips as they are left and the adversary's loss."""
        if self.dropper is None or self.progress < self.dropper.config.after:
            return super().loss(batch)
        first, *others = batch.views
        noise = torch.rand(len(first), self.dropper.config.frames, device=first.device)
        drop: Dropped = self.dropper(first, noise)
        with torch.no_grad():
            whole = self.embed(first)
        earlier = len(self._embedded)
        contrast, health = super().loss(replace(batch, views=(drop.clip, *others)))
        change = embedding_change(self._embedded[earlier], whole)
        if self.dropper.config.estimator == "straight_through":
            adversary = self.dropper.straight_loss(drop, self._by_pixels(drop.clip, whole))
        else:
            adversary = self.dropper.loss(drop, change)
        return contrast + adversary, {**health, "contrast": contrast.detach(), "change": change.mean()}

    def _by_pixels(self, clip: Tensor, whole: Tensor) -> Tensor:
        """Return the gradient of the mean change of the embedding by a clip's pixels."""
        pixels = clip.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(embedding_change(self.embed(pixels), whole).mean(), pixels)
        return gradient
