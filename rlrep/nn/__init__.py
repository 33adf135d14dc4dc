"""Networks shared by agents, heads and image methods."""

from .encoder_file import EncoderFile, load_encoder, read_encoder, save_encoder
from .encoders import Encoder, EncoderConfig, IdentityConfig, LoadableEncoder, MLPEncoderConfig, PixelEncoderConfig
from .gaussians import Gaussians, product
from .impala import ImpalaConfig
from .init import EnsembleLinear, delta_orthogonal_, init_orthogonal
from .lars import LARS, warmup_cosine
from .mlp import mlp
from .noisy import NoisyLinear
from .resnet import ResNetConfig

__all__ = [
    "LARS",
    "Encoder",
    "EncoderConfig",
    "EncoderFile",
    "EnsembleLinear",
    "Gaussians",
    "IdentityConfig",
    "ImpalaConfig",
    "LoadableEncoder",
    "MLPEncoderConfig",
    "NoisyLinear",
    "PixelEncoderConfig",
    "ResNetConfig",
    "delta_orthogonal_",
    "init_orthogonal",
    "load_encoder",
    "mlp",
    "product",
    "read_encoder",
    "save_encoder",
    "warmup_cosine",
]
