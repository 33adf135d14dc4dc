"""Clips of digits that move, made from scikit-learn's handwritten ones."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rlrep.images.pixels import check_memory
from rlrep.settings.ranges import at_least

from .digits import Digits
from .image_data import ImageData, Split, SplitSettings

_SIDE = 8
_DIRECTIONS = 9


@dataclass(frozen=True)
class MovingDigits(SplitSettings):
    """Clips uint8 `(frames, size, size)`, oldest frame first: a digit of 8x8 pixels that moves by one pixel a frame, or
    stays, along each axis.

    Labels `digit`, and `velocity`: 3 (dy + 1) + dx + 1 for steps dx, dy in -1, 0, 1. Digits that are tested on are none
    of those trained on.
    clips: of each digit image. seed: of where they go, apart from the run's.
    """

    augment: ClassVar[str] = "random_shift"
    frames: int = 8
    size: int = 20
    clips: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 1, ("frames", "clips"))
        if self.size < (least := _SIDE + self.frames - 1):
            raise ValueError(f"{self.frames} frames of a moving digit need a size of {least} at least, not {self.size}")

    def make(self, device: torch.device) -> Split:
        """Read the digits out of the installed package, and move them."""
        still = Digits(size=_SIDE, test_fraction=self.test_fraction, split_seed=self.split_seed)
        split = still.make(torch.device("cpu"))
        digits = len(split.train) + len(split.test)
        check_memory(digits * self.clips * self.frames * self.size**2, f"data.clips={self.clips}")
        generator = torch.Generator().manual_seed(self.seed)
        train, test = (self._moved(side, generator).to(device) for side in (split.train, split.test))
        return self.relabel(Split(train, test))

    def _moved(self, still: ImageData, generator: torch.Generator) -> ImageData:
        digits = still.images[:].repeat_interleave(self.clips, 0)
        count = len(digits)
        velocity = torch.randint(_DIRECTIONS, (count,), generator=generator)
        step = torch.stack([velocity // 3, velocity % 3], 1) - 1
        travel = self.frames - 1
        free = self.size - _SIDE - travel * step.abs() + 1
        start = (torch.rand(count, 2, generator=generator) * free).long() + travel * (step < 0)
        labels = {"digit": still.labels["digit"].repeat_interleave(self.clips), "velocity": velocity}
        return ImageData(place(digits[:, 0], start, step, self.frames, self.size), labels)


def place(digits: Tensor, start: Tensor, step: Tensor, frames: int, size: int) -> Tensor:
    """Return clips uint8 `(N, frames, size, size)` of digits `(N, h, w)` whose corner is at start + t step `(N, 2)`."""
    count, height, width = digits.shape
    corner = start[:, None] + torch.arange(frames)[None, :, None] * step[:, None]  # (N, frames, 2)
    rows = corner[..., 0, None, None] + torch.arange(height)[:, None]
    columns = corner[..., 1, None, None] + torch.arange(width)
    clips = torch.zeros(count, frames, size, size, dtype=torch.uint8)
    clip, frame = torch.arange(count)[:, None, None, None], torch.arange(frames)[None, :, None, None]
    clips[clip, frame, rows, columns] = digits[:, None].expand(-1, frames, -1, -1)
    return clips
