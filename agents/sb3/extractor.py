"""Features extractors for Stable-Baselines3's policies: rlrep's encoders, and an MLP where SB3 has no parameters."""

from dataclasses import dataclass
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from rlrep.nn import Encoder, EncoderConfig, MLPEncoderConfig


@dataclass(frozen=True)
class OwnExtractor(EncoderConfig):
    """Settings of `encoder=sb3`: whatever Stable-Baselines3's policy takes by itself."""

    def make(self, obs_shape: tuple[int, ...]) -> Encoder:
        """Raise ValueError: only SB3's policies know it."""
        raise ValueError("encoder=sb3 is for Stable-Baselines3's agents: choose another encoder, or agent=sb3_sac")

    def make_trunk(self, feature_dim: int) -> nn.Module:
        """Raise ValueError, as `make` does."""
        raise ValueError("encoder=sb3 is for Stable-Baselines3's agents: choose another encoder, or agent=sb3_sac")


class EncoderExtractor(BaseFeaturesExtractor):
    """An rlrep encoder. It reads frames as bytes 0..255: give the policy `normalize_images=False`. Observations that
    have not the three axes of frames are states, and flattened; with `flat` all are."""

    def __init__(self, observation_space: spaces.Space[Any], encoder: EncoderConfig, *, flat: bool = False) -> None:
        shape = observation_space.shape or ()
        frames = len(shape) == 3 and not flat
        made = encoder.make(shape if frames else (spaces.flatdim(observation_space),))
        super().__init__(observation_space, made.latent_dim)
        self.encoder, self._frames = made, frames

    def forward(self, observations: Tensor) -> Tensor:
        """Return latents `(B, D)`."""
        latent: Tensor = self.encoder(observations if self._frames else torch.flatten(observations, 1))
        return latent


class MLPExtractor(EncoderExtractor):
    """`encoder=mlp` on flattened observations, which SB3's `MlpPolicy` would hand on as they are."""

    def __init__(self, observation_space: spaces.Space[Any]) -> None:
        super().__init__(observation_space, MLPEncoderConfig(), flat=True)
