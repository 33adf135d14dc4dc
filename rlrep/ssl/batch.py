"""What a method asks of the data, and the batch it gets."""

from dataclasses import dataclass

from torch import Tensor

from .data.labels import labelled_subset


@dataclass(frozen=True)
class LabelledSubset:
    """A class-balanced batch of labelled images beside every batch.

    fraction: share of each class that counts as labelled. images: how many images of each class do, in its place; None
    = `fraction` says it. classes, per_class: of one batch.
    """

    fraction: float = 0.1
    classes: int = 10
    per_class: int = 2
    images: int | None = None

    def __post_init__(self) -> None:
        if not 0.0 < self.fraction <= 1.0 or self.classes < 1 or self.per_class < 1:
            raise ValueError(
                f"fraction must be in (0, 1], classes and per_class at least 1, not "
                f"{self.fraction}, {self.classes} and {self.per_class}"
            )
        if self.images is not None and self.images < self.per_class:
            raise ValueError(f"images={self.images} of a class are below the per_class={self.per_class} of a batch")

    def rows(self, labels: Tensor, seed: int) -> Tensor:
        """Return which of the images with classes `(N,)` count as labelled."""
        if self.images is None:
            return labelled_subset(labels, seed=seed, fraction=self.fraction)
        return labelled_subset(labels, seed=seed, per_class=self.images)


@dataclass(frozen=True)
class Needs:
    """views: of each image. labels: of the batch's images. labelled: a labelled batch beside it. index: the rows.

    parts: of a process's batch, with two images at least in each, for without a second one a contrast has no negatives
    and batch norm no statistics; 0 = one image will do.
    """

    views: int = 2
    labels: bool = False
    labelled: LabelledSubset | None = None
    parts: int = 1
    index: bool = False


@dataclass(frozen=True)
class DataShape:
    """What a method is made for. image: shape (C, H, W) of its views. count: images to train on.

    classes: how many the images have, by the labels that count as classes; 0 where none do.
    """

    image: tuple[int, ...]
    classes: int
    count: int


@dataclass(frozen=True)
class ImageBatch:
    """views: V tensors uint8 `(N, C, H, W)` of the same N images, or of frames some steps later after the first.

    labels: int64 `(N,)`, of all views.
    labelled: uint8 `(M, C, H, W)`, one view each of M labelled images, and labelled_classes int64 `(M,)`.
    index: int64 `(N,)`, which rows of the training data the images are.
    What the method's `needs` leave out is None.
    """

    views: tuple[Tensor, ...]
    labels: Tensor | None = None
    labelled: Tensor | None = None
    labelled_classes: Tensor | None = None
    index: Tensor | None = None

    def split(self, parts: int) -> "list[ImageBatch]":
        """Return every `parts`-th image from each of the first on, so that classes stay balanced where they were."""

        def every(rows: Tensor | None, first: int) -> Tensor | None:
            return None if rows is None else rows[first::parts]

        rest = (self.labels, self.labelled, self.labelled_classes, self.index)
        return [
            ImageBatch(tuple(view[k::parts] for view in self.views), *(every(rows, k) for rows in rest))
            for k in range(parts)
        ]
