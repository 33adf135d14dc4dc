"""SimCLR's chain of augmentations as one view, and several views of a batch."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Protocol

import torch
from torch import Generator, Tensor

from .base import View
from .ops import Blur, ColourJitter, Flip, Grayscale, ResizedCrop, Solarise

_CACHED = 1 << 18
"""Pixels worked on at once on a CPU, so that the passes of a chain stay in its cache: up to twice as fast."""


class Op(Protocol):
    """One part of a view (see `ops`)."""

    def draw(self, rows: int, height: int, width: int, generator: Generator) -> Tensor:
        """Draw the parameters `(rows, K)` for frames of this size."""
        ...

    def apply(self, x: Tensor, drawn: Tensor) -> Tensor:
        """Apply them to float frames `(B, S, C, H, W)` in [0, 1]."""
        ...


@dataclass(frozen=True)
class ImageView:
    """Crop, flip, colour jitter, grayscale, blur, solarise, in this order (SimCLR: Chen et al. 2020, arXiv 2002.05709,
    appendix A).

    The defaults are SimCLR's for ImageNet at strength 1. `p: 0` leaves a part out. frames: whether channels are RGB
    triples or gray frames; `auto` takes triples where their number divides by three. Uint8 in and out (rounded): a
    `View`, so that it serves image pretraining and RL alike.
    """

    capturable: ClassVar[bool] = True

    crop: ResizedCrop = field(default_factory=ResizedCrop)
    flip: Flip = field(default_factory=Flip)
    jitter: ColourJitter = field(default_factory=ColourJitter)
    gray: Grayscale = field(default_factory=Grayscale)
    blur: Blur = field(default_factory=Blur)
    solarise: Solarise = field(default_factory=Solarise)
    frames: Literal["auto", "rgb", "gray"] = "auto"

    @property
    def ops(self) -> list[Op]:
        """The parts that can do something, in order."""
        random = (self.flip, self.jitter, self.gray, self.blur, self.solarise)
        return [self.crop, *(op for op in random if op.p > 0)]

    def __call__(self, obs: Tensor, generator: Generator) -> Tensor:
        """Return one random view of each row of uint8 `(B, S*C, H, W)`. Raises ValueError on anything else."""
        return self._made(obs, self.ops, generator)

    def of_window(self, obs: Tensor, generator: Generator) -> Tensor:
        """Return the same of frames whose windows have been cut out already."""
        return self._made(obs, self.ops[1:], generator)

    def _made(self, obs: Tensor, ops: Sequence[Op], generator: Generator) -> Tensor:
        channels = self._frame_channels(obs)
        rows, (height, width) = len(obs), obs.shape[-2:]
        drawn = []
        for op in ops:
            drawn.append(op.draw(rows, height, width, generator))
            height, width = self.crop.sides(height, width)
        step = rows if obs.is_cuda else max(1, _CACHED // obs[0].numel())
        chunks = [
            self._apply(obs[i : i + step], ops, [values[i : i + step] for values in drawn], channels)
            for i in range(0, rows, step)
        ]
        return torch.cat(chunks)

    def fixed(self, obs: Tensor) -> Tensor:
        """Return the whole frame, resized to the view's size (SimCLR evaluates small images without a crop)."""
        height, width = obs.shape[-2:]
        if self.crop.sides(height, width) == (height, width):
            return obs
        whole = torch.tensor([[0.0, 0.0, *obs.shape[-2:]]], device=obs.device).expand(len(obs), 4)
        x = self.crop.apply(_as_float(obs, 1), whole)
        return _as_bytes(x)

    def _apply(self, obs: Tensor, ops: Sequence[Op], drawn: list[Tensor], channels: int) -> Tensor:
        x = _as_float(obs, channels)
        for op, values in zip(ops, drawn, strict=True):
            x = op.apply(x, values)
        return _as_bytes(x)

    def _frame_channels(self, obs: Tensor) -> int:
        if obs.dtype != torch.uint8 or obs.ndim != 4:
            raise ValueError(f"an image view needs uint8 frames (B, C, H, W), got {obs.dtype} {tuple(obs.shape)}")
        triples = obs.shape[1] % 3 == 0
        if self.frames == "rgb" and not triples:
            raise ValueError(f"frames=rgb needs a multiple of three channels, got {obs.shape[1]}: choose frames=gray")
        return 3 if triples and self.frames != "gray" else 1


def multi_view(images: Tensor, views: Sequence[View], generator: Generator) -> Tensor:
    """Return independent views `(V, N, C, H, W)` of each of the N images, one per entry of `views`, in order.

    `[view] * 2` gives SimCLR's pair, `[first, second]` BYOL's, `[view] * (K + 1)` the views of CACR. All must have the
    same size.
    """
    return torch.stack([view(images, generator) for view in views])


def _as_float(obs: Tensor, channels: int) -> Tensor:
    x: Tensor = obs.float().div_(255).unflatten(1, (-1, channels))
    return x


def _as_bytes(x: Tensor) -> Tensor:
    frames: Tensor = (x * 255).add_(0.5).to(torch.uint8).flatten(1, 2)
    return frames
