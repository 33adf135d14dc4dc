"""The parts of an image view: each draws its parameters for all rows at once, then applies them row by row.

Frames are float `(B, S, C, H, W)` in [0, 1], S stacked frames of C = 1 or 3 channels; drawn parameters are float
`(B, K)`, shared by the frames of a row. With probability 0 or strength 0 an operation leaves its input as it is.
"""

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from .colour import blend, luma, per_row, turn_hue

_TRIES = 10
_BRIGHTNESS, _CONTRAST, _SATURATION = 0, 1, 2


def _uniform(rows: int, columns: int, generator: Generator) -> Tensor:
    return torch.rand(rows, columns, generator=generator, device=generator.device)


def _between(uniform: Tensor, low: float, high: float) -> Tensor:
    return low + (high - low) * uniform


def _column(like: Tensor, value: int | Tensor) -> Tensor:
    return value if isinstance(value, Tensor) else like.new_full((len(like), 1), value)


def _check_probability(p: float) -> None:
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"p is a probability, between 0 and 1, not {p}")


@dataclass(frozen=True)
class ResizedCrop:
    """Random resized crop (Szegedy et al. 2015): a window of random area and aspect, resized bilinearly to one size.

    size: side of the square result, None = the frame's own height and width. scale: share of the frame's area. ratio:
    width over height, drawn log-uniformly. Ten windows are drawn per row and the first that fits is taken, else the
    whole frame. There is no anti-aliasing, so frames should not be much larger than `size`.
    """

    size: int | None = None
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)

    def __post_init__(self) -> None:
        if self.size is not None and self.size < 1:
            raise ValueError(f"size must be at least 1, not {self.size}")
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError(f"scale is a range of shares of the area, within (0, 1], not {self.scale}")
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise ValueError(f"ratio is a range of widths over heights, not {self.ratio}")

    def sides(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width of what becomes of frames of this size."""
        return (height, width) if self.size is None else (self.size, self.size)

    def draw(self, rows: int, height: int | Tensor, width: int | Tensor, generator: Generator) -> Tensor:
        """Return windows `(rows, 4)`: top, left, height, width in whole pixels.

        height, width: of the frames, or `(rows, 1)` where each has its own.
        """
        area, aspect, down, right = _uniform(rows, 4 * _TRIES, generator).view(rows, 4, _TRIES).unbind(1)
        area = _between(area, *self.scale) * (height * width)
        aspect = _between(aspect, math.log(self.ratio[0]), math.log(self.ratio[1])).exp()
        tall, wide = (area / aspect).sqrt().round().clamp_(min=1), (area * aspect).sqrt().round().clamp_(min=1)
        windows = torch.stack(
            [(down * (height - tall + 1)).floor(), (right * (width - wide + 1)).floor(), tall, wide], 2
        )
        fits = (tall <= height) & (wide <= width)
        first = fits.int().argmax(1)
        whole = torch.cat([windows.new_zeros(rows, 2), *(_column(windows, side) for side in (height, width))], 1)
        return torch.where(fits.any(1, keepdim=True), windows[torch.arange(rows, device=first.device), first], whole)

    def apply(self, x: Tensor, drawn: Tensor) -> Tensor:
        """Cut the windows out and resize them; border pixels are repeated, never those beyond the window read."""
        height, width = x.shape[-2:]
        out_height, out_width = self.sides(height, width)
        top, left, tall, wide = (column.unsqueeze(1) for column in drawn.unbind(1))
        down, right = ((torch.arange(side, device=x.device) + 0.5) / side for side in (out_height, out_width))
        y = torch.minimum(torch.maximum(top + down * tall, top + 0.5), top + tall - 0.5) * (2 / height) - 1
        x_ = torch.minimum(torch.maximum(left + right * wide, left + 0.5), left + wide - 0.5) * (2 / width) - 1
        grid = torch.stack([x_.unsqueeze(1).expand(-1, out_height, -1), y.unsqueeze(2).expand(-1, -1, out_width)], 3)
        cut = torch.nn.functional.grid_sample(x.flatten(1, 2), grid, padding_mode="border", align_corners=False)
        frames: Tensor = cut.unflatten(1, x.shape[1:3])
        return frames


@dataclass(frozen=True)
class Flip:
    """Mirror left and right with probability p."""

    p: float = 0.5

    def __post_init__(self) -> None:
        _check_probability(self.p)

    def draw(self, rows: int, height: int, width: int, generator: Generator) -> Tensor:
        """Return `(rows, 1)`: 1 = mirrored."""
        return (_uniform(rows, 1, generator) < self.p).float()

    def apply(self, x: Tensor, drawn: Tensor) -> Tensor:
        """Mirror the rows drawn."""
        return torch.where(per_row(drawn) > 0, x.flip(-1), x)


@dataclass(frozen=True)
class ColourJitter:
    """Brightness, contrast, saturation and hue in random order, clipped to [0, 1] after each (SimCLR, appendix A).

    The first three are factors from U[max(0, 1 - strength), 1 + strength]; hue is a turn from U[-strength, strength],
    at most 0.5. Contrast is about the frame's mean luma. Gray frames have no saturation and no hue to change.
    """

    p: float = 0.8
    brightness: float = 0.8
    contrast: float = 0.8
    saturation: float = 0.8
    hue: float = 0.2

    def __post_init__(self) -> None:
        _check_probability(self.p)
        if min(self.brightness, self.contrast, self.saturation, self.hue) < 0 or self.hue > 0.5:
            raise ValueError(f"strengths must not be negative, and hue at most 0.5, in {self}")

    def draw(self, rows: int, height: int, width: int, generator: Generator) -> Tensor:
        """Return `(rows, 8)`: three kinds in order, their factors, the turn of hue, and how many precede it."""
        on, *uniforms, turn, place = _uniform(rows, 6, generator).split(1, 1)
        order = _uniform(rows, 3, generator).argsort(1)
        strengths = (self.brightness, self.contrast, self.saturation)
        factors = [_between(u, max(0.0, 1 - s), 1 + s) for u, s in zip(uniforms, strengths, strict=True)]
        chosen = on < self.p
        factor = torch.where(chosen, torch.cat(factors, 1), 1.0).gather(1, order)
        turn = torch.where(chosen, _between(turn, -self.hue, self.hue), 0.0)
        return torch.cat([order.float(), factor, turn, (4 * place).floor()], 1)

    def apply(self, x: Tensor, drawn: Tensor) -> Tensor:
        """Change the colours: what comes before the hue, the hue, what comes after it."""
        kinds, factors, turn, before = drawn.split([3, 3, 1, 1], 1)
        if self.hue == 0 or x.shape[2] == 1:
            return self._blend(x, kinds, factors)
        early = torch.arange(3, device=x.device) < before
        x = turn_hue(self._blend(x, kinds, torch.where(early, factors, 1.0)), turn)
        return self._blend(x, kinds, torch.where(early, 1.0, factors))

    def _blend(self, x: Tensor, kinds: Tensor, factors: Tensor) -> Tensor:
        for kind, factor in zip(kinds.unbind(1), factors.unbind(1), strict=True):
            x = blend(x, factor, with_luma=(kind == _SATURATION).float(), with_mean=(kind == _CONTRAST).float())
        return x


@dataclass(frozen=True)
class Grayscale:
    """Drop the colours (luma in every channel) with probability p."""

    p: float = 0.2

    def __post_init__(self) -> None:
        _check_probability(self.p)

    def draw(self, rows: int, height: int, width: int, generator: Generator) -> Tensor:
        """Return `(rows, 1)`: 1 = without colour."""
        return (_uniform(rows, 1, generator) < self.p).float()

    def apply(self, x: Tensor, drawn: Tensor) -> Tensor:
        """Drop the colours of the rows drawn."""
        return torch.where(per_row(drawn) > 0, luma(x), x)


@dataclass(frozen=True)
class Blur:
    """Gaussian blur with probability p, its standard deviation from U[sigma], in pixels (SimCLR, appendix A).

    kernel: width of the truncated kernel as a share of the frame's height, made odd; borders are mirrored.
    """

    p: float = 0.5
    sigma: tuple[float, float] = (0.1, 2.0)
    kernel: float = 0.1

    def __post_init__(self) -> None:
        _check_probability(self.p)
        if not 0 < self.sigma[0] <= self.sigma[1] or not 0 < self.kernel <= 1:
            raise ValueError(f"sigma is a range above 0 and kernel a share of the height, in {self}")

    def draw(self, rows: int, height: int, width: int, generator: Generator) -> Tensor:
        """Return sigma `(rows, 1)`: 0 = not blurred."""
        on, where = _uniform(rows, 2, generator).split(1, 1)
        return torch.where(on < self.p, _between(where, *self.sigma), 0.0)

    def apply(self, x: Tensor, drawn: Tensor) -> Tensor:
        """Convolve columns, then rows."""
        height, width = x.shape[-2:]
        radius = int(height * self.kernel) // 2
        distance = torch.arange(-radius, radius + 1, device=x.device)
        weights = torch.softmax(-0.5 * (distance / drawn.clamp(min=1e-3)).square(), 1)
        taps = [per_row(tap) for tap in weights.unbind(1)]
        wide = torch.nn.functional.pad(x.flatten(1, 2), (radius,) * 4, mode="reflect").unflatten(1, x.shape[1:3])
        # Sums of shifted copies: half the time of a grouped convolution.
        down = wide[..., :height, :] * taps[0]
        for k, tap in enumerate(taps[1:], 1):
            down.addcmul_(wide[..., k : k + height, :], tap)
        across: Tensor = down[..., :width] * taps[0]
        for k, tap in enumerate(taps[1:], 1):
            across.addcmul_(down[..., k : k + width], tap)
        return across


@dataclass(frozen=True)
class Solarise:
    """Invert what is as bright as `threshold` or brighter, with probability p (BYOL, Grill et al. 2020, appendix B)."""

    p: float = 0.0
    threshold: float = 0.5

    def __post_init__(self) -> None:
        _check_probability(self.p)

    def draw(self, rows: int, height: int, width: int, generator: Generator) -> Tensor:
        """Return `(rows, 1)`: 1 = solarised."""
        return (_uniform(rows, 1, generator) < self.p).float()

    def apply(self, x: Tensor, drawn: Tensor) -> Tensor:
        """Invert the bright pixels of the rows drawn."""
        return torch.where((x >= self.threshold) & (per_row(drawn) > 0), 1 - x, x)
