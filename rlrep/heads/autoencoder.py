"""Autoencoder: the latent holds what it takes to draw the observation again (SAC-AE, Yarats et al. 2021, arXiv
1910.01741)."""

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor, nn

from rlrep.contrast.parts import Metrics
from rlrep.replay import Batch, Pairs
from rlrep.settings import ranges

from .base import Encoded, Encoders, Head, HeadConfig
from .branches import make_projector

KERNEL = 3


@dataclass(frozen=True)
class Autoencoder(HeadConfig):
    """Settings of `aux=autoencoder`.

    latent_decay, decoder_decay: factors of half the squared norm of the latent (mean over rows) and of the decoder's
        parameters.
    strides, channels: of the transposed convolutions, mirroring an encoder of 3x3 layers with these strides.
    hidden_dim: of the decoder of states. bits: colour depth of the frames drawn.
    obs_shape: of what the encoder reads, frames `(C, H, W)` or flat states `(D,)`; None = told by the agent.
    """

    latent_decay: float = 1e-6
    decoder_decay: float = 1e-7
    strides: tuple[int, ...] = (2, 1, 1, 1)
    channels: int = 32
    hidden_dim: int = 256
    bits: int = 5
    obs_shape: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        ranges.at_least(self, 1, ("channels", "hidden_dim"))
        if not 1 <= self.bits <= 8 or not self.strides:
            raise ValueError(f"bits must be 1 to 8 and strides not empty, got {self.bits} and {self.strides}")

    def fitted(self, obs_shape: tuple[int, ...], frame_stack: int = 1) -> "Autoencoder":
        return replace(self, obs_shape=obs_shape) if self.obs_shape is None else self

    def make(self, name: str, latent_dim: int, action_space: spaces.Space[Any]) -> "AutoencoderHead":
        if self.obs_shape is None:
            raise ValueError(f"aux.{name} draws observations: give obs_shape=[channels,height,width], or [width]")
        return AutoencoderHead(self, self.obs_shape, latent_dim)


class AutoencoderHead(Head):
    """Squared error of the RL batch's observations, as the encoder saw them, drawn from its latents; and two decays."""

    def __init__(self, config: Autoencoder, obs_shape: tuple[int, ...], latent_dim: int) -> None:
        super().__init__()
        self.config = config
        self.decoder = (
            make_projector(latent_dim, config.hidden_dim, *obs_shape)
            if len(obs_shape) == 1
            else FrameDecoder(latent_dim, obs_shape, config.strides, config.channels)
        )

    def loss(self, batch: Batch, pairs: Pairs, encoded: Encoded, encoders: Encoders) -> tuple[Tensor, Metrics]:
        target, config, latent = target_of(batch.obs, self.config.bits), self.config, encoded.latent
        drawn = self.decoder(latent).float()
        error = nn.functional.mse_loss(drawn, target.reshape(drawn.shape))  # states may have axes of their own
        size = latent.float().square().sum(1).mean()
        loss = error + 0.5 * config.latent_decay * size
        for parameter in self.decoder.parameters():
            loss = loss + 0.5 * config.decoder_decay * parameter.square().sum()
        health = {"squared_error": error.detach(), "explained": 1 - error.detach() / _spread(target)}
        return loss, health | {"latent_norm": size.detach().sqrt()}


class FrameDecoder(nn.Module):
    """Linear layer and transposed 3x3 convolutions with ReLU between them: latents `(B, D)` to frames `(B, C, H, W)`.

    Raises ValueError if frames of this shape are too small for the strides.
    """

    def __init__(self, latent_dim: int, obs_shape: tuple[int, ...], strides: tuple[int, ...], channels: int) -> None:
        super().__init__()
        depth, *sides = obs_shape
        sizes = [tuple(sides)]  # of an encoder's layers, from the frame inwards
        for stride in strides:
            sizes.append(tuple((side - KERNEL) // stride + 1 for side in sizes[-1]))
        if min(sizes[-1]) < 1:
            raise ValueError(f"frames of {obs_shape} are too small for aux.autoencoder.strides={list(strides)}")
        self.inner = (*sizes[-1], channels)
        self.spread = nn.Linear(latent_dim, channels * sizes[-1][0] * sizes[-1][1])
        outwards = list(zip(reversed(strides), pairwise(reversed(sizes)), strict=True))
        layers: list[nn.Module] = []
        for index, (stride, (small, large)) in enumerate(outwards):
            rest = (large[0] - (small[0] - 1) * stride - KERNEL, large[1] - (small[1] - 1) * stride - KERNEL)
            out = depth if index == len(outwards) - 1 else channels
            layers += [nn.ReLU(), nn.ConvTranspose2d(channels, out, KERNEL, stride, output_padding=rest)]
        self.layers = nn.Sequential(*layers)
        self.layers.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, latent: Tensor) -> Tensor:
        frames: Tensor = self.layers(self.spread(latent).unflatten(1, self.inner).permute(0, 3, 1, 2))
        return frames


def target_of(obs: Tensor, bits: int) -> Tensor:
    """Return what is drawn: states as they are; uint8 frames in 2**bits levels, in [-0.5, 0.5].

    SAC-AE adds noise from U[0, 1) of a level; its mean is added here instead, which leaves the expected gradient.
    """
    if obs.dtype != torch.uint8:
        return obs
    levels = 1 << bits
    level = (obs.float() * (levels / 256)).floor()
    return (level + 0.5) / levels - 0.5


def _spread(target: Tensor) -> Tensor:
    """Mean squared deviation from the mean observation."""
    return (target - target.mean(0)).square().mean().clamp(min=1e-12)
