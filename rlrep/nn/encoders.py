"""Encoders: a body whose features every head may share, and a trunk that owns the latent.

The critic's trunk belongs to the encoder; an actor takes its own trunk on the same, detached features (SAC-AE, CURL,
DrQ-v2).
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor, nn

from .init import init_orthogonal


class Encoder(nn.Module):
    """`body`: observation to flat features `(B, feature_dim)`; `trunk`: features to latent `(B, latent_dim)`."""

    def __init__(self, body: nn.Module, trunk: nn.Module, feature_dim: int, latent_dim: int) -> None:
        super().__init__()
        self.body = body
        self.trunk = trunk
        self.feature_dim = feature_dim
        self.latent_dim = latent_dim

    def forward(self, obs: Tensor) -> Tensor:
        """Return the latent `(B, latent_dim)`."""
        latent: Tensor = self.trunk(self.body(obs))
        return latent


class EncoderConfig(Protocol):
    """What an agent needs from an `encoder=` choice."""

    def make(self, obs_shape: tuple[int, ...]) -> Encoder:
        """Build the encoder for one (already augmented) observation's shape."""
        ...

    def make_trunk(self, feature_dim: int) -> nn.Module:
        """Build a further trunk on the body's features (the actor's)."""
        ...


class ConvBody(nn.Module):
    """3x3 convolutions on uint8 frames, the first with stride 2; output flattened in channels-last order (no copy).

    The scaling `x / 255 - offset` is folded into the first layer, which is exact because that layer has no padding.
    """

    def __init__(self, in_channels: int, strides: tuple[int, ...], channels: int, offset: float) -> None:
        super().__init__()
        dims = [in_channels] + [channels] * len(strides)
        self.layers = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride) for (a, b), stride in zip(pairwise(dims), strides, strict=True)
        )
        self.offset = offset

    def forward(self, obs: Tensor) -> Tensor:
        """Map uint8 `(B, C, H, W)` to `(B, F)`."""
        first, *rest = self.layers
        assert isinstance(first, nn.Conv2d) and first.bias is not None
        bias = first.bias if self.offset == 0 else first.bias - self.offset * first.weight.sum((1, 2, 3))
        # Interleaving the bytes first, then casting, takes half the time of a cast into channels-last.
        x = torch.stack(obs.unbind(1), -1).permute(0, 3, 1, 2).to(first.weight.dtype)
        x = nn.functional.conv2d(x, first.weight / 255, bias, first.stride).relu_()
        for layer in rest:
            x = layer(x).relu_()
        return x.permute(0, 2, 3, 1).flatten(1)


@dataclass(frozen=True)
class PixelEncoderConfig:
    """Convolutional encoder of SAC-AE / CURL (`offset=0, tanh=False`) and of DrQ-v2 (`offset=0.5, tanh=True`).

    strides: one 3x3 layer each. channels: filters of every layer. latent_dim: width of the linear + LayerNorm trunk.
    """

    strides: tuple[int, ...] = (2, 1, 1, 1)
    channels: int = 32
    latent_dim: int = 50
    offset: float = 0.0
    tanh: bool = False

    def make(self, obs_shape: tuple[int, ...]) -> Encoder:
        """Build for frames `(C, H, W)`. Raises ValueError if they are too small for the strides."""
        if len(obs_shape) != 3:
            raise ValueError(
                f"a pixel encoder needs (channels, height, width), got {obs_shape}: choose encoder=mlp for states"
            )
        body = ConvBody(obs_shape[0], self.strides, self.channels, self.offset)
        try:
            with torch.no_grad():
                feature_dim = body(torch.zeros(1, *obs_shape, dtype=torch.uint8)).shape[1]
        except RuntimeError as error:
            raise ValueError(f"frames of {obs_shape} are too small for strides {self.strides}") from error
        body.apply(init_orthogonal)
        body.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return Encoder(body, self.make_trunk(feature_dim), feature_dim, self.latent_dim)

    def make_trunk(self, feature_dim: int) -> nn.Module:
        """Linear, LayerNorm and, for DrQ-v2, tanh."""
        return _trunk(feature_dim, self.latent_dim, tanh=self.tanh)


@dataclass(frozen=True)
class MLPEncoderConfig:
    """State encoder: one hidden ReLU layer as the body, linear + LayerNorm + tanh as the trunk, so that heads have
    one to train."""

    hidden_dim: int = 256
    latent_dim: int = 64

    def make(self, obs_shape: tuple[int, ...]) -> Encoder:
        """Build for states `(D,)`. Raises ValueError on images."""
        if len(obs_shape) != 1:
            raise ValueError(
                f"encoder=mlp needs flat states, got observations of {obs_shape}: choose encoder=curl for pixels"
            )
        body = nn.Sequential(nn.Linear(obs_shape[0], self.hidden_dim), nn.ReLU())
        body.apply(init_orthogonal)
        return Encoder(body, self.make_trunk(self.hidden_dim), self.hidden_dim, self.latent_dim)

    def make_trunk(self, feature_dim: int) -> nn.Module:
        """Linear, LayerNorm, tanh."""
        return _trunk(feature_dim, self.latent_dim, tanh=True)


@dataclass(frozen=True)
class IdentityConfig:
    """No encoder: the networks read the state itself, as Stable-Baselines3's MlpPolicy does. Heads have nothing to
    train on it."""

    def make(self, obs_shape: tuple[int, ...]) -> Encoder:
        """Build for states `(D,)`. Raises ValueError on images."""
        if len(obs_shape) != 1:
            raise ValueError(
                f"encoder=identity needs flat states, got observations of {obs_shape}: choose encoder=curl for pixels"
            )
        return Encoder(nn.Identity(), nn.Identity(), obs_shape[0], obs_shape[0])

    def make_trunk(self, feature_dim: int) -> nn.Module:
        """The features themselves."""
        return nn.Identity()


def _trunk(feature_dim: int, latent_dim: int, *, tanh: bool) -> nn.Module:
    layers: list[nn.Module] = [nn.Linear(feature_dim, latent_dim), nn.LayerNorm(latent_dim)]
    trunk = nn.Sequential(*layers, nn.Tanh()) if tanh else nn.Sequential(*layers)
    return trunk.apply(init_orthogonal)
