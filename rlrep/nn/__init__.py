"""Networks shared by agents, heads and image methods."""

from .elu import EluConvConfig, EluMLPConfig
from .encoder_file import EncoderFile, load_encoder, read_encoder, save_encoder
from .encoders import Encoder, EncoderConfig, IdentityConfig, LoadableEncoder, MLPEncoderConfig, PixelEncoderConfig
from .gaussians import Gaussians, product
from .impala import ImpalaConfig
from .init import EnsembleLinear, delta_orthogonal_, init_orthogonal, init_xavier
from .lars import LARS, warmup_cosine
from .mlp import mlp
from .noisy import NoisyLinear
from .resnet import ResNetConfig
from .timm_encoder import TimmConfig
from .torchvision_names import torchvision_names

__all__ = [
    "LARS",
    "EluConvConfig",
    "EluMLPConfig",
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
    "TimmConfig",
    "delta_orthogonal_",
    "init_orthogonal",
    "init_xavier",
    "load_encoder",
    "mlp",
    "product",
    "read_encoder",
    "save_encoder",
    "torchvision_names",
    "warmup_cosine",
]
