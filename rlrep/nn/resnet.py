"""ResNet-18 for small images: 3x3 stem without max pooling (SimCLR, appendix B.9)."""

from dataclasses import dataclass

from torch import Tensor, nn

from .encoders import FrameEncoder, PixelBody, Section, Trunk, interleaved
from .init import init_orthogonal


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm beside a shortcut (He et al. 2016, arXiv 1512.03385, figure 5 left)."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = _conv(in_channels, channels, 3, stride), nn.BatchNorm2d(channels)
        self.conv2, self.norm2 = _conv(channels, channels, 3, 1), nn.BatchNorm2d(channels)
        nn.init.zeros_(self.norm2.weight)  # every block starts as its shortcut (Goyal et al. 2017, section 5.1)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != channels:
            self.shortcut = nn.Sequential(_conv(in_channels, channels, 1, stride), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, in_channels, H, W)` to `(B, channels, H / stride, W / stride)`."""
        y = self.norm2(self.conv2(self.norm1(self.conv1(x)).relu_()))
        result: Tensor = y.add_(self.shortcut(x)).relu_()
        return result


class ResNetBody(PixelBody):
    """Stem, four stages of `width` to `8 * width` channels, global average pooling to features `(B, 8 * width)`."""

    def __init__(self, in_channels: int, width: int, blocks: tuple[int, ...]) -> None:
        super().__init__()
        self.stem, self.norm = _conv(in_channels, width, 3, 1), nn.BatchNorm2d(width)
        stages: list[nn.Module] = []
        channels = width
        for stage, count in enumerate(blocks):
            for block in range(count):
                stages.append(BasicBlock(channels, width << stage, 2 if stage and not block else 1))
                channels = width << stage
        self.stages = nn.Sequential(*stages)

    def forward(self, obs: Tensor) -> Tensor:
        """Map uint8 `(B, C, H, W)`, or floats in [0, 255], to features. The scale 1/255 is folded into the stem."""
        return self.features(self.stages(self._enter(obs)))

    def sections(self) -> list[Section]:
        """Return the residual blocks, the first with the stem."""
        first, *rest = self.stages
        entry = Section((self.stem, self.norm, first), lambda obs: first(self._enter(obs)))
        return [entry, *(Section((block,), block) for block in rest)]

    def features(self, maps: Tensor) -> Tensor:
        """Average each map."""
        return maps.mean((2, 3))

    def _enter(self, obs: Tensor) -> Tensor:
        x = nn.functional.conv2d(self.prepare(obs), self.stem.weight / 255, padding=1)
        maps: Tensor = self.norm(x).relu_()
        return maps

    def prepare(self, obs: Tensor) -> Tensor:
        """Return what the stem reads."""
        return interleaved(obs, self.stem.weight.dtype)


@dataclass(frozen=True)
class ResNetConfig(FrameEncoder):
    """ResNet of basic blocks. width: channels of the first stage. blocks: per stage, (2, 2, 2, 2) = ResNet-18.

    Batch norm starts in eval mode, on its running statistics, which suits an agent acting on single observations;
    pretraining switches it with `.train()`. trunk, latent_dim: as for `PixelEncoderConfig`.
    """

    width: int = 64
    blocks: tuple[int, ...] = (2, 2, 2, 2)
    latent_dim: int = 50
    trunk: Trunk = "none"

    def make_body(self, channels: int) -> PixelBody:
        return ResNetBody(channels, self.width, self.blocks).eval()

    def make_trunk(self, feature_dim: int) -> nn.Module:
        return super().make_trunk(feature_dim).apply(init_orthogonal)


def _conv(in_channels: int, channels: int, kernel: int, stride: int) -> nn.Conv2d:
    conv = nn.Conv2d(in_channels, channels, kernel, stride, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv
