"""Colour arithmetic on frames `(B, S, C, H, W)` in [0, 1], with a parameter per row: RGB for C = 3, gray for C = 1."""

import torch
from torch import Tensor


def per_row(values: Tensor) -> Tensor:
    """Shape one value per row, `(B,)` or `(B, 1)`, to broadcast over frames."""
    return values.reshape(-1, 1, 1, 1, 1)


def luma(x: Tensor) -> Tensor:
    """Return the brightness `(B, S, 1, H, W)`: 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601), or the only channel."""
    if x.shape[2] == 1:
        return x
    red, green, blue = x.split(1, 2)
    gray: Tensor = (red * 0.299).add_(green, alpha=0.587).add_(blue, alpha=0.114)
    return gray


def blend(x: Tensor, factor: Tensor, *, with_luma: Tensor, with_mean: Tensor) -> Tensor:
    """Return `factor * x + (1 - factor) * base`, clipped to [0, 1]; factor 1 changes nothing.

    The base is black (brightness), each frame's luma where `with_luma` is 1 (saturation), or the mean of that luma
    where `with_mean` is 1 (contrast). factor, with_luma, with_mean: `(B,)`.
    """
    gray = luma(x)
    base = gray * per_row(with_luma) + gray.mean((3, 4), keepdim=True) * per_row(with_mean)
    return (x * per_row(factor)).add_(base * (1 - per_row(factor))).clamp_(0, 1)


def turn_hue(x: Tensor, turns: Tensor) -> Tensor:
    """Turn the hue of RGB frames by `turns` `(B,)` (1 = once around the HSV circle), keeping value and saturation."""
    red, green, blue = x.unbind(2)
    value = x.amax(2)
    chroma = value - x.amin(2)
    safe = chroma.clamp(min=1e-12)  # gray pixels have no hue, and no chroma that it could colour
    of_blue = torch.where(value == green, (blue - red) / safe + 2, (red - green) / safe + 4)
    hue = torch.where(value == red, (green - blue) / safe, of_blue).add_(6 * per_row(turns).squeeze(2))
    hue.sub_((hue / 6).floor_().mul_(6))  # in [0, 6)
    shares = ((hue - 3).abs_().sub_(1), 2 - (hue - 2).abs_(), 2 - (hue - 4).abs_())  # of the chroma, by channel
    lowest = value - chroma
    return torch.stack([lowest + chroma * share.clamp_(0, 1) for share in shares], 2)
