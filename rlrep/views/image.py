"""Image views on uint8 batches: crops and shifts, one offset per row, shared by its stacked frames.

size: side of the square that a view makes; None = the frame as large as it is, square or not.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor


def crop(obs: Tensor, top: Tensor, left: Tensor, size: int | tuple[int, int]) -> Tensor:
    """Cut a window at `(top, left)` `(B,)` out of each row of `(B, C, H, W)`. size: its side, or height and width."""
    sides = (size, size) if isinstance(size, int) else size
    return (_gathered if obs.is_cuda else _row_by_row)(obs, top, left, sides)


def _row_by_row(obs: Tensor, top: Tensor, left: Tensor, sides: tuple[int, int]) -> Tensor:
    """Copy row by row, on a CPU five times as fast as one gather."""
    height, width = sides
    offsets = zip(obs, top.tolist(), left.tolist(), strict=True)
    return torch.stack([row[:, y : y + height, x : x + width] for row, y, x in offsets])


def _gathered(obs: Tensor, top: Tensor, left: Tensor, sides: tuple[int, int]) -> Tensor:
    height, width = sides
    windows = obs.unfold(2, height, 1).unfold(3, width, 1)
    return windows[torch.arange(obs.shape[0], device=obs.device), :, top, left]


def centre_crop(obs: Tensor, size: int | None) -> Tensor:
    """Cut the central window; None = the whole frame. Raises ValueError if the frame is smaller than `size`."""
    if size is None:
        return obs
    height, width = obs.shape[-2:]
    if height < size or width < size:
        raise ValueError(
            f"cannot crop {size} pixels out of {height}x{width} frames: raise env.size (data.size in pretraining) or "
            f"lower augment.size"
        )
    top, left = (height - size) // 2, (width - size) // 2
    return obs[..., top : top + size, left : left + size]


def _offsets(count: int, rows: int, generator: Generator) -> Tensor:
    return torch.randint(count, (2, rows), generator=generator, device=generator.device)


@dataclass(frozen=True)
class NoAugment:
    """The deterministic centre crop in both roles (the un-augmented arm of an ablation)."""

    capturable: ClassVar[bool] = True

    size: int | None = 84

    def __call__(self, obs: Tensor, generator: Generator) -> Tensor:
        """Return the centre crop; draws nothing."""
        return self.fixed(obs)

    def fixed(self, obs: Tensor) -> Tensor:
        """Return the centre crop."""
        return centre_crop(obs, self.size)


@dataclass(frozen=True)
class RandomCrop:
    """CURL's and RAD's crop: every offset 0..H-size is reached (CURL's own code never draws the last one).

    size: None = 84 of 100 pixels, theirs, in proportion.
    """

    capturable: ClassVar[bool] = True

    size: int | None = 84

    def __call__(self, obs: Tensor, generator: Generator) -> Tensor:
        """Return random crops. Raises ValueError unless the frame is square and larger than `size`."""
        height, width = obs.shape[-2:]
        size = self._size(obs)
        if height != width or height <= size:  # a crop of the whole frame would be no augmentation
            raise ValueError(
                f"random_crop needs square frames of more than {size} pixels, got {height}x{width}: "
                "raise env.size, lower image_size, or choose random_shift"
            )
        top, left = _offsets(height - size + 1, obs.shape[0], generator)
        return crop(obs, top, left, size)

    def fixed(self, obs: Tensor) -> Tensor:
        """Return the centre crop."""
        return centre_crop(obs, self._size(obs))

    def _size(self, obs: Tensor) -> int:
        return round(min(obs.shape[-2:]) * 84 / 100) if self.size is None else self.size


@dataclass(frozen=True)
class RandomShift:
    """DrQ's shift: replicate-pad the `size` x `size` centre by `pad` pixels and crop at random (offsets 0..2*pad).

    pad: None = 4 of 84 pixels, DrQ's, in proportion (3 of 60).
    """

    capturable: ClassVar[bool] = True

    size: int | None = 84
    pad: int | None = None

    def __call__(self, obs: Tensor, generator: Generator) -> Tensor:
        """Return randomly shifted frames. Raises ValueError if the frame is smaller than `size`."""
        frames = centre_crop(obs, self.size)
        height, width = frames.shape[-2:]
        pad = _pad_of(frames, self.pad)
        top, left = _offsets(2 * pad + 1, obs.shape[0], generator)
        return crop(_repeat_border(frames, pad), top, left, (height, width))

    def fixed(self, obs: Tensor) -> Tensor:
        """Return the centre crop."""
        return centre_crop(obs, self.size)


@dataclass(frozen=True)
class ShiftIntensity:
    """Random shift, then every pixel of a row times 1 + scale * clip(n, -2, 2), n standard normal (DrQ, SPR on Atari).

    size, pad: see `RandomShift`.
    """

    capturable: ClassVar[bool] = True

    size: int | None = 84
    pad: int | None = None
    scale: float = 0.05

    def __call__(self, obs: Tensor, generator: Generator) -> Tensor:
        """Return shifted frames of changed brightness, rounded and clipped to bytes."""
        shifted = RandomShift(self.size, self.pad)(obs, generator)
        normal = torch.randn(len(obs), 1, 1, 1, generator=generator, device=generator.device)
        factor = 1 + self.scale * normal.clamp_(-2, 2)
        return (shifted * factor).round_().clamp_(0, 255).to(torch.uint8)

    def fixed(self, obs: Tensor) -> Tensor:
        """Return the centre crop."""
        return centre_crop(obs, self.size)


@dataclass(frozen=True)
class CropPadCrop:
    """CURL's view on Atari: a random crop of `size - pad`, `pad` more on each side by repetition, a random crop again.

    pad: None = 4 of 84 pixels, CURL's, in proportion.
    """

    capturable: ClassVar[bool] = True

    size: int | None = 84
    pad: int | None = None

    def __call__(self, obs: Tensor, generator: Generator) -> Tensor:
        """Return random views. Raises ValueError if the frame is smaller than `size`."""
        frames = centre_crop(obs, self.size)
        height, width = frames.shape[-2:]
        pad = _pad_of(frames, self.pad)
        top, left = _offsets(pad + 1, obs.shape[0], generator)
        padded = _repeat_border(crop(frames, top, left, (height - pad, width - pad)), pad)
        top, left = _offsets(pad + 1, obs.shape[0], generator)
        return crop(padded, top, left, (height, width))

    def fixed(self, obs: Tensor) -> Tensor:
        """Return the centre crop."""
        return centre_crop(obs, self.size)


def _pad_of(frames: Tensor, pad: int | None) -> int:
    return round(min(frames.shape[-2:]) * 4 / 84) if pad is None else pad


def _repeat_border(frames: Tensor, pad: int) -> Tensor:
    """Add `pad` pixels on each side of frames by repeating the border."""
    for axis in (2, 3):
        side = frames.shape[axis]
        border = torch.arange(-pad, side + pad, device=frames.device).clamp_(0, side - 1)
        frames = frames.index_select(axis, border)
    return frames
