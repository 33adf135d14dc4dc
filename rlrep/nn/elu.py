"""Encoders and networks of MR.Q (Fujimoto et al. 2025, arXiv 2501.16142, appendix): LayerNorm without parameters and
ELU after linear layers, ELU after convolutions, Xavier's initialisation with ReLU's gain."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn

from .checks import check_states
from .encoders import ConvBody, Encoder, FrameEncoder, LoadableEncoder
from .init import init_xavier


@dataclass(frozen=True)
class EluMLPConfig(LoadableEncoder):
    """State encoder: two hidden layers as the body, a third one, of `latent_dim` units, as the trunk."""

    hidden_dim: int = 512
    latent_dim: int = 512

    def build(self, obs_shape: tuple[int, ...]) -> Encoder:
        """Build for states `(D,)`. Raises ValueError on images."""
        check_states("elu_mlp", obs_shape)
        body = normed((obs_shape[0], self.hidden_dim, self.hidden_dim), nn.ELU)
        return Encoder(body, self.make_trunk(self.hidden_dim), self.hidden_dim, self.latent_dim)

    def make_trunk(self, feature_dim: int) -> nn.Module:
        """Linear, LayerNorm, ELU."""
        return normed((feature_dim, self.latent_dim), nn.ELU)


@dataclass(frozen=True)
class EluConvConfig(FrameEncoder):
    """Convolutions of 3x3 without padding on x / 255 - 0.5, and a linear layer of `latent_dim` units.

    strides: one per layer. channels: filters of every layer.
    """

    strides: tuple[int, ...] = (2, 2, 2, 1)
    channels: int = 32
    latent_dim: int = 512

    trunk = "norm"

    def make_body(self, channels: int) -> "EluBody":
        count = len(self.strides)
        return EluBody(channels, self.strides, (self.channels,) * count, (3,) * count, 0.5).apply(init_xavier)

    def make_trunk(self, feature_dim: int) -> nn.Module:
        """Linear, LayerNorm, ELU."""
        return normed((feature_dim, self.latent_dim), nn.ELU)


class EluBody(ConvBody):
    """The same convolutions with ELU in place of ReLU."""

    def activate(self, maps: Tensor) -> Tensor:
        return nn.functional.elu_(maps)


def normed(dims: Sequence[int], activation: type[nn.Module]) -> nn.Sequential:
    """Build linear layers from each width to the next, each followed by LayerNorm and the activation."""
    layers: list[nn.Module] = []
    for a, b in pairwise(dims):
        layers += [nn.Linear(a, b), nn.LayerNorm(b, elementwise_affine=False), activation()]
    return nn.Sequential(*layers).apply(init_xavier)


def normed_mlp(in_dim: int, hidden_dim: int, out_dim: int, activation: type[nn.Module]) -> nn.Sequential:
    """Build two such layers of `hidden_dim` units and a plain linear one behind them."""
    return nn.Sequential(*normed((in_dim, hidden_dim, hidden_dim), activation), nn.Linear(hidden_dim, out_dim)).apply(
        init_xavier
    )
