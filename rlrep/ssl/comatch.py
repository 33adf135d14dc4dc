"""Pseudo-labels from few labels, smoothed by a memory, whose graph the embeddings learn (CoMatch; FixMatch within)."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlrep.contrast import MemoryQueue, MomentumTarget, graph_contrast
from rlrep.contrast.parts import Metrics, Projection, pair_health
from rlrep.nn import Encoder
from rlrep.views import View

from .base import Method, gather_rows, out_dim
from .batch import DataShape, ImageBatch, LabelledSubset, Needs
from .classifier import check_classes


@dataclass(frozen=True)
class CoMatch:
    """a weak and two strong views x classifier and projector x pseudo-labels x cross entropies and the graph loss.

    labelled: how many labels there are and what their batches hold. threshold: a pseudo-label at least this sure is
    trained on. smoothing: weight of the prediction beside its neighbours' in the memory (1 = no memory). alignment:
    batches whose mean prediction is divided out (0 = none). memory: keys. edge: pseudo-labels with at least this
    product attract each other. temperature: of cosines. unlabelled, contrast: weights of the two unlabelled losses.
    average: weight of the old value in the average of the networks that evaluation reads.
    """

    views: tuple[View, ...]
    projector: Projection
    labelled: LabelledSubset
    threshold: float = 0.95
    smoothing: float = 0.9
    alignment: int = 32
    memory: int = 2560
    edge: float = 0.8
    temperature: float = 0.2
    unlabelled: float = 1.0
    contrast: float = 1.0
    average: float = 0.999

    def __post_init__(self) -> None:
        if not 0.0 <= self.smoothing <= 1.0 or not 0.0 <= self.average < 1.0 or self.alignment < 0 or self.memory < 1:
            raise ValueError(
                f"smoothing must be in [0, 1], average in [0, 1), alignment at least 0 and memory at least 1, not "
                f"{self.smoothing}, {self.average}, {self.alignment} and {self.memory}"
            )

    def make(self, encoder: Encoder, about: DataShape) -> Method:
        """Build the method. Raises ValueError on other than three views, and on images without classes."""
        return CoMatchMethod(self, encoder, about)


class Seen(NamedTuple):
    """What the networks say of all processes' images: logits `(N, C)` and embeddings `(N, D)`."""

    logits: Tensor
    z: Tensor


class CoMatchMethod(Method):
    """One forward of the labelled images and the three views of the unlabelled ones.

    means: predictions' means of the batches before, `(alignment - 1, classes)`; 0 where there was none.
    """

    means: Tensor

    def __init__(self, config: CoMatch, encoder: Encoder, about: DataShape) -> None:
        if len(config.views) != 3:
            raise ValueError(f"method.views needs a weak and two strong views, not {len(config.views)}")
        check_classes(about)
        super().__init__(encoder, config.projector.make(encoder.latent_dim))
        self.config, self.needs = config, Needs(views=3, labelled=config.labelled)
        self.head = nn.Linear(encoder.latent_dim, about.classes)
        tau = 1.0 - config.average
        self.averaged = MomentumTarget(nn.Sequential(encoder, self.head), tau, buffers="copy")
        dim = out_dim(self.online, encoder.latent_dim)
        self.memory = MemoryQueue(config.memory, dim, payload=about.classes)
        self.register_buffer("means", torch.zeros(max(config.alignment - 1, 0), about.classes))
        self._pushes: list[tuple[Tensor, Tensor]] = []
        self._means: list[Tensor] = []

    def loss(self, batch: ImageBatch) -> tuple[Tensor, Metrics]:
        """Return the cross entropies of labels and sure pseudo-labels, and the graph loss."""
        assert batch.labelled is not None and batch.labelled_classes is not None
        known, weak, first, second = self._seen([batch.labelled, *batch.views])
        classes, config = gather_rows(batch.labelled_classes), self.config
        with torch.no_grad():
            pseudo = self.pseudo_labels(weak, known.z, classes)
            sure = (pseudo.amax(1) >= config.threshold).float()
        supervised = F.cross_entropy(known.logits, classes)
        unlabelled = (sure * F.cross_entropy(first.logits, pseudo, reduction="none")).mean()
        loss = supervised + config.unlabelled * unlabelled
        metrics = {"supervised": supervised.detach(), "unlabelled": unlabelled.detach(), "sure": sure.mean()}
        if config.contrast:
            graph = graph_contrast(first.z, second.z, pseudo, temperature=config.temperature, threshold=config.edge)
            loss, metrics = loss + config.contrast * graph, {**metrics, "contrast": graph.detach()}
        return loss, {**metrics, **pair_health(first.z, second.z), **_right(pseudo, sure, gather_rows(batch.labels))}

    def _seen(self, parts: list[Tensor]) -> list[Seen]:
        encoder, projector = self.encoder, self.online.get_submodule("projector")
        latents = encoder(torch.cat(parts)).split([len(part) for part in parts])
        return [Seen(gather_rows(self.head(each)), gather_rows(projector(each))) for each in latents]

    def pseudo_labels(self, weak: Seen, known_z: Tensor, classes: Tensor) -> Tensor:
        """Return what the unlabelled images are taken for `(N, C)`: aligned, then smoothed by a memory that is full.

        weak: of their weak view. known_z, classes: of the labelled images, which enter the memory after the step.
        """
        aligned = self._aligned(weak.logits.to(self.means.dtype).softmax(1))
        onehot = F.one_hot(classes, aligned.shape[1]).to(aligned)
        self._pushes.append((torch.cat([weak.z, known_z]), torch.cat([aligned, onehot])))
        share = self.config.smoothing
        if share == 1.0 or len(self.memory) < self.config.memory:
            return aligned
        keys = self.memory.keys()
        near = (F.normalize(weak.z.to(keys), dim=1) @ keys.T / self.config.temperature).softmax(1)
        return share * aligned + (1.0 - share) * near @ self.memory.values()

    def _aligned(self, probability: Tensor) -> Tensor:
        """Divide by the mean prediction of the last batches, this one among them."""
        if not self.config.alignment:
            return probability
        mean = probability.mean(0)
        self._means.append(mean)
        average = (self.means.sum(0) + mean) / (self.means.any(1).sum() + 1)
        even = probability / average.clamp_min(1e-12)
        return even / even.sum(1, keepdim=True)

    def logits(self, images: Tensor) -> Tensor:
        """Return what the averaged networks say."""
        found: Tensor = self.averaged(images)
        return found

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """Fill the memory, whose neighbours this batch was smoothed by, and move the average."""
        super().after_step(progress)
        for keys, values in self._pushes:
            self.memory.push(keys, values=values)
        for mean in self._means:
            self.means = torch.cat([self.means, mean[None, :]])[1:]
        self._pushes, self._means = [], []
        self.averaged.update()


def _right(pseudo: Tensor, sure: Tensor, labels: Tensor | None) -> Metrics:
    """Return the share of sure pseudo-labels that are true, of the images whose class is known: measured, not used."""
    if labels is None:
        return {}
    counted = sure * (labels >= 0)
    hits = (pseudo.argmax(1) == labels) * counted
    return {"pseudo_accuracy": hits.sum() / counted.sum().clamp(min=1)}
