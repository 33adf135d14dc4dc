"""The residual encoder of IMPALA (Espeholt et al. 2018, arXiv 1802.01561, figure 3)."""

from dataclasses import dataclass
from functools import partial
from itertools import pairwise

from torch import Tensor, nn

from .encoders import FrameEncoder, PixelBody, Section, Trunk, interleaved


class ResidualBlock(nn.Module):
    """ReLU and convolution, twice, beside a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = _conv(channels, channels), _conv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape."""
        return x + self.conv2(self.conv1(x.relu()).relu_())  # type: ignore[no-any-return]


class ImpalaBody(PixelBody):
    """Sections of convolution, 3x3 max pooling of stride 2 and residual blocks; ReLU, flattened channels-last."""

    def __init__(self, in_channels: int, channels: tuple[int, ...], blocks: int) -> None:
        super().__init__()
        dims = (in_channels, *channels)
        self.entries = nn.ModuleList(_conv(a, b) for a, b in pairwise(dims))
        self.blocks = nn.ModuleList(nn.Sequential(*(ResidualBlock(c) for _ in range(blocks))) for c in channels)

    def forward(self, obs: Tensor) -> Tensor:
        """Map uint8 `(B, C, H, W)`, or floats in [0, 255], to features. 1/255 is folded into the first layer."""
        for index in range(len(self.blocks)):
            obs = self._section(index, obs)
        return self.features(obs)

    def sections(self) -> list[Section]:
        """Return the sections."""
        parts = zip(self.entries, self.blocks, strict=True)
        return [Section(modules, partial(self._section, index)) for index, modules in enumerate(parts)]

    def features(self, maps: Tensor) -> Tensor:
        """ReLU, then flatten in channels-last order."""
        return maps.relu().permute(0, 2, 3, 1).flatten(1)

    def _section(self, index: int, x: Tensor) -> Tensor:
        entry = self.entries[index]
        assert isinstance(entry, nn.Conv2d)
        weight = entry.weight if index else entry.weight / 255
        x = nn.functional.conv2d(x if index else self.prepare(x), weight, entry.bias, padding=1)
        maps: Tensor = self.blocks[index](nn.functional.max_pool2d(x, 3, 2, 1))
        return maps

    def prepare(self, obs: Tensor) -> Tensor:
        """Return what the first layer reads."""
        return interleaved(obs, self.entries[0].weight.dtype)  # type: ignore[arg-type]


@dataclass(frozen=True)
class ImpalaConfig(FrameEncoder):
    """IMPALA's residual network. channels: of each section, which halves the frame. blocks: per section. trunk,
    latent_dim: as for `PixelEncoderConfig`."""

    channels: tuple[int, ...] = (16, 32, 32)
    blocks: int = 2
    latent_dim: int = 256
    trunk: Trunk = "relu"

    def make_body(self, channels: int) -> PixelBody:
        return ImpalaBody(channels, self.channels, self.blocks)


def _conv(in_channels: int, channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, channels, 3, padding=1)
