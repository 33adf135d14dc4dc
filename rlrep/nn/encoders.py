"""Encoders: a body whose features every head may share, and a trunk that owns the latent.

The critic's trunk belongs to the encoder; an actor takes its own trunk on the same, detached features (SAC-AE, CURL,
DrQ-v2).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from .checks import check_sizes, check_states
from .encoder_file import load_encoder
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

    def prepare(self, obs: Tensor) -> Tensor:
        """Return observations in the form that the body turns them into first, which encoders of one kind may share."""
        return obs


class Section(NamedTuple):
    """A part of a body, from one set of maps `(B, C, H, W)` to the next. modules: what it is made of."""

    modules: tuple[nn.Module, ...]
    run: Callable[[Tensor], Tensor]


class PixelBody(nn.Module, ABC):
    """Reads uint8 frames `(B, C, H, W)`, or floats in [0, 255]: `sections` one after the other, then `features`."""

    @abstractmethod
    def sections(self) -> list[Section]:
        """Return the parts that can be trained each by itself, from the frames on."""

    @abstractmethod
    def features(self, maps: Tensor) -> Tensor:
        """Map the last section's output to features `(B, F)`."""

    @abstractmethod
    def prepare(self, obs: Tensor) -> Tensor:
        """Return what the first layer reads: floats in channels-last order."""


class PixelEncoder(Encoder):
    """An encoder of frames."""

    body: PixelBody

    def prepare(self, obs: Tensor) -> Tensor:
        """Return what the body's first layer reads."""
        return self.body.prepare(obs)


class EncoderConfig:
    """An `encoder=` choice: a dataclass of settings with `make` and `make_trunk`.

    A dataclass that does not inherit from this one is completed by it where it is read (`rlrep.settings.complete`).
    """

    def make(self, obs_shape: tuple[int, ...]) -> Encoder:
        """Build the encoder for one (already augmented) observation's shape. Raises ValueError if it does not fit."""
        raise ValueError(f"encoder: {type(self).__name__} has no make(obs_shape)")

    def make_trunk(self, feature_dim: int) -> nn.Module:
        """Build a further trunk on the body's features (the actor's)."""
        raise ValueError(f"encoder: {type(self).__name__} has no make_trunk(feature_dim), which this agent needs")

    def restored(self) -> "EncoderConfig":
        """Return the settings of one whose weights come from a checkpoint, and whose own file may be gone."""
        return self


@dataclass(frozen=True, kw_only=True)
class LoadableEncoder(EncoderConfig, ABC):
    """What every encoder with weights offers beside its own settings.

    load: a folder with an encoder file, or its .safetensors (see `encoder_file`); body and trunk start from it.
    freeze: the body is not trained; the trunk is. Without `load` this is the baseline of random features.
    """

    load: str | None = None
    freeze: bool = False

    def __post_init__(self) -> None:
        check_sizes(self)

    def make(self, obs_shape: tuple[int, ...]) -> Encoder:
        """Build, load, freeze. Raises ValueError if the observations or the file do not fit."""
        encoder = self.build(obs_shape)
        if self.load is not None:
            load_encoder(self.load, encoder, self, obs_shape)
        if self.freeze:
            encoder.body.requires_grad_(False)
        return encoder

    def restored(self) -> EncoderConfig:
        """Return the settings without `load`."""
        return replace(self, load=None)

    @abstractmethod
    def build(self, obs_shape: tuple[int, ...]) -> Encoder:
        """Return a new encoder with weights drawn from torch's global generator."""


class ConvBody(PixelBody):
    """Convolutions on uint8 frames (or floats in [0, 255]); output flattened in channels-last order (no copy).

    The scaling `x / 255 - offset` is folded into the first layer, which is exact because that layer has no padding.
    """

    def __init__(
        self,
        in_channels: int,
        strides: tuple[int, ...],
        channels: tuple[int, ...],
        kernels: tuple[int, ...],
        offset: float,
    ) -> None:
        super().__init__()
        dims = pairwise((in_channels, *channels))
        self.windows = tuple(zip(kernels, strides, strict=True))
        self.layers = nn.ModuleList(
            nn.Conv2d(a, b, kernel, stride) for (a, b), (kernel, stride) in zip(dims, self.windows, strict=True)
        )
        self.offset = offset

    def forward(self, obs: Tensor) -> Tensor:
        """Map uint8 `(B, C, H, W)` to `(B, F)`."""
        x = self._first(obs)
        for layer in self.layers[1:]:
            x = self._layer(layer, x)
        return self.features(x)

    def activate(self, maps: Tensor) -> Tensor:
        """Apply what follows every convolution, in place."""
        return maps.relu_()

    def sections(self) -> list[Section]:
        """Return the layers."""
        return [
            Section((self.layers[0],), self._first),
            *(Section((layer,), partial(self._layer, layer)) for layer in self.layers[1:]),
        ]

    def features(self, maps: Tensor) -> Tensor:
        """Flatten in channels-last order."""
        return maps.permute(0, 2, 3, 1).flatten(1)

    def _first(self, obs: Tensor) -> Tensor:
        first = self.layers[0]
        assert isinstance(first, nn.Conv2d) and first.bias is not None
        bias = first.bias if self.offset == 0 else first.bias - self.offset * first.weight.sum((1, 2, 3))
        return self.activate(nn.functional.conv2d(self.prepare(obs), first.weight / 255, bias, first.stride))

    def _layer(self, layer: nn.Module, x: Tensor) -> Tensor:
        assert isinstance(layer, nn.Conv2d)
        return self.activate(_convolve(x, layer))

    def prepare(self, obs: Tensor) -> Tensor:
        """Return what the first layer reads: floats in channels-last order, of the pixels that reach the output."""
        height, width = (self._seen(side) for side in obs.shape[-2:])
        return interleaved(obs[..., :height, :width], self.layers[0].weight.dtype)  # type: ignore[arg-type]

    def _seen(self, side: int) -> int:
        """How many of `side` pixels the layers read: strides may leave a border over."""
        for kernel, stride in self.windows:
            side = (side - kernel) // stride + 1
        for kernel, stride in reversed(self.windows):
            side = (side - 1) * stride + kernel
        return side


def interleaved(obs: Tensor, dtype: torch.dtype) -> Tensor:
    """Return frames `(B, C, H, W)` as floats in channels-last order; those that are so already as they are."""
    if obs.is_floating_point() and obs.permute(0, 2, 3, 1).is_contiguous():
        return obs
    if torch.compiler.is_compiling():
        return obs.to(dtype, memory_format=torch.channels_last)
    # Interleaving the bytes first, then casting, takes half the time of a cast into channels-last; compiled, thrice.
    return torch.stack(obs.unbind(1), -1).permute(0, 3, 1, 2).to(dtype)


def _convolve(x: Tensor, layer: nn.Conv2d) -> Tensor:
    """Apply a convolution to channels-last maps. Windows that do not overlap and fill them make it a plain product, of
    half the time on a CPU, backward included."""
    (kernel, _), (height, width) = layer.kernel_size, x.shape[-2:]
    if layer.stride != layer.kernel_size or height % kernel or width % kernel:
        return layer(x)  # type: ignore[no-any-return]
    rows, columns = height // kernel, width // kernel
    patches = x.permute(0, 2, 3, 1).unflatten(1, (rows, kernel)).unflatten(3, (columns, kernel))
    windows = patches.transpose(2, 3).reshape(len(x) * rows * columns, -1)
    y = nn.functional.linear(windows, layer.weight.permute(0, 2, 3, 1).flatten(1), layer.bias)
    return y.view(len(x), rows, columns, -1).permute(0, 3, 1, 2)


Trunk = Literal["norm", "norm_tanh", "relu", "none", "rescaled"]
"""Linear and then LayerNorm (CURL), LayerNorm and tanh (DrQ-v2) or ReLU (Nature DQN); `none`: latent = features;
`rescaled`: those from 0 to 1 (SPR)."""


class FrameEncoder(LoadableEncoder):
    """What encoders of frames have in common: a body of their own, and behind it the `trunk` of their choice."""

    trunk: Trunk
    latent_dim: int

    @abstractmethod
    def make_body(self, channels: int) -> PixelBody:
        """Return a new body for frames of so many channels."""

    @torch.no_grad()
    def build(self, obs_shape: tuple[int, ...]) -> Encoder:
        """Build for frames `(C, H, W)`. Raises ValueError on states, and on frames too small for the body."""
        if len(obs_shape) != 3:
            raise ValueError(
                f"a pixel encoder needs (channels, height, width), got {obs_shape}: choose encoder=mlp for states"
            )
        body = self.make_body(obs_shape[0])
        body.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        try:
            feature_dim = int(body(torch.zeros(1, *obs_shape, dtype=torch.uint8)).shape[1])
        except RuntimeError as error:
            raise ValueError(f"frames of {obs_shape} are too small for this encoder's strides") from error
        latent_dim = feature_dim if self.trunk in ("none", "rescaled") else self.latent_dim
        return PixelEncoder(body, self.make_trunk(feature_dim), feature_dim, latent_dim)

    def make_trunk(self, feature_dim: int) -> nn.Module:
        """Build a trunk of the kind chosen."""
        return make_trunk(self.trunk, feature_dim, self.latent_dim)


@dataclass(frozen=True)
class PixelEncoderConfig(FrameEncoder):
    """Convolutions without padding: SAC-AE and CURL by default, DrQ-v2 with `offset=0.5, trunk=norm_tanh`, the CNNs of
    Nature DQN and data-efficient Rainbow.

    strides: one per layer. channels, kernels: filters and kernel side, of every layer or one per layer. latent_dim:
    width of the trunk, which `none` and `rescaled` ignore. init: `orthogonal` (delta-orthogonal: odd kernels) or
    `torch` (the layers' own default).
    """

    strides: tuple[int, ...] = (2, 1, 1, 1)
    channels: int | tuple[int, ...] = 32
    kernels: int | tuple[int, ...] = 3
    latent_dim: int = 50
    offset: float = 0.0
    trunk: Trunk = "norm"
    init: Literal["orthogonal", "torch"] = "orthogonal"

    def make_body(self, channels: int) -> PixelBody:
        body = ConvBody(channels, self.strides, self._per_layer("channels"), self._per_layer("kernels"), self.offset)
        return body.apply(init_orthogonal) if self.init == "orthogonal" else body

    def make_trunk(self, feature_dim: int) -> nn.Module:
        trunk = super().make_trunk(feature_dim)
        return trunk.apply(init_orthogonal) if self.init == "orthogonal" else trunk

    def _per_layer(self, name: str) -> tuple[int, ...]:
        given: int | tuple[int, ...] = getattr(self, name)
        values = (given,) * len(self.strides) if isinstance(given, int) else given
        if len(values) != len(self.strides):
            raise ValueError(f"{name}={list(values)} and strides={list(self.strides)} need one value per layer each")
        return values


@dataclass(frozen=True)
class MLPEncoderConfig(LoadableEncoder):
    """State encoder: one hidden ReLU layer as the body, linear + LayerNorm + tanh as the trunk, so that heads have
    one to train."""

    hidden_dim: int = 256
    latent_dim: int = 64

    def build(self, obs_shape: tuple[int, ...]) -> Encoder:
        """Build for states `(D,)`. Raises ValueError on images."""
        check_states("mlp", obs_shape)
        body = nn.Sequential(nn.Linear(obs_shape[0], self.hidden_dim), nn.ReLU())
        body.apply(init_orthogonal)
        return Encoder(body, self.make_trunk(self.hidden_dim), self.hidden_dim, self.latent_dim)

    def make_trunk(self, feature_dim: int) -> nn.Module:
        """Linear, LayerNorm, tanh."""
        return make_trunk("norm_tanh", feature_dim, self.latent_dim).apply(init_orthogonal)


@dataclass(frozen=True)
class IdentityConfig(EncoderConfig):
    """No encoder: the networks read the state itself, as Stable-Baselines3's MlpPolicy does. Heads have nothing to
    train on it."""

    def make(self, obs_shape: tuple[int, ...]) -> Encoder:
        """Build for states `(D,)`. Raises ValueError on images."""
        check_states("identity", obs_shape)
        return Encoder(nn.Identity(), nn.Identity(), obs_shape[0], obs_shape[0])

    def make_trunk(self, feature_dim: int) -> nn.Module:
        """The features themselves."""
        return nn.Identity()


class Rescaled(nn.Module):
    """Each observation's features from 0, the least of them, to 1, the largest (SPR's code, after MuZero)."""

    def forward(self, features: Tensor) -> Tensor:
        """Keep the shape `(B, F)`."""
        low, high = features.aminmax(dim=1, keepdim=True)
        return (features - low) / (high - low + 1e-5)


def make_trunk(kind: Trunk, feature_dim: int, latent_dim: int) -> nn.Module:
    """Build a trunk `(B, feature_dim)` to `(B, latent_dim)`."""
    if kind in ("none", "rescaled"):
        return nn.Identity() if kind == "none" else Rescaled()
    after: dict[Trunk, list[nn.Module]] = {
        "norm": [nn.LayerNorm(latent_dim)],
        "norm_tanh": [nn.LayerNorm(latent_dim), nn.Tanh()],
        "relu": [nn.ReLU()],
    }
    return nn.Sequential(nn.Linear(feature_dim, latent_dim), *after[kind])
