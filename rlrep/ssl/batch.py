"""What a method asks of the data, and the batch it gets."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class LabelledSubset:
    """A class-balanced batch of labelled images beside every batch.

    fraction: share of each class that counts as labelled. classes, per_class: of one batch.
    """

    fraction: float = 0.1
    classes: int = 10
    per_class: int = 2

    def __post_init__(self) -> None:
        if not 0.0 < self.fraction <= 1.0 or self.classes < 1 or self.per_class < 2:
            raise ValueError(
                f"fraction must be in (0, 1], classes at least 1 and per_class at least 2 (a partner), not "
                f"{self.fraction}, {self.classes} and {self.per_class}"
            )


@dataclass(frozen=True)
class Needs:
    """views: of each image. labels: of the batch's images. labelled: a labelled batch beside it.

    parts: of a process's batch, with two images at least in each, for without a second one a contrast has no negatives
    and batch norm no statistics; 0 = one image will do.
    """

    views: int = 2
    labels: bool = False
    labelled: LabelledSubset | None = None
    parts: int = 1


@dataclass(frozen=True)
class ImageBatch:
    """views: V tensors uint8 `(N, C, H, W)` of the same N images, or of frames some steps later after the first.

    labels: int64 `(N,)`, of all views.
    labelled: uint8 `(M, C, H, W)`, one view each of M labelled images, and labelled_classes int64 `(M,)`.
    What the method's `needs` leave out is None.
    """

    views: tuple[Tensor, ...]
    labels: Tensor | None = None
    labelled: Tensor | None = None
    labelled_classes: Tensor | None = None
