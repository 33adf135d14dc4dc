"""Networks shared by agents, heads and image methods."""

from .encoders import Encoder, EncoderConfig, IdentityConfig, MLPEncoderConfig, PixelEncoderConfig
from .init import EnsembleLinear, delta_orthogonal_, init_orthogonal

__all__ = [
    "Encoder",
    "EncoderConfig",
    "EnsembleLinear",
    "IdentityConfig",
    "MLPEncoderConfig",
    "PixelEncoderConfig",
    "delta_orthogonal_",
    "init_orthogonal",
]
