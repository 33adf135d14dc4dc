"""Small methods, encoders and batches for the tests of pretraining."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rlrep.config.pretrain_compose import compose_pretraining
from rlrep.config.pretrain_config import PretrainConfig
from rlrep.loops.pretraining.job import build
from rlrep.nn import Encoder, PixelEncoderConfig, ResNetConfig
from rlrep.settings import groups
from rlrep.ssl import DataShape, ImageBatch, Learner
from rlrep.views import NoChange

ROOT = Path(__file__).resolve().parents[2]
METHODS = [name for name in groups.names("method") if name != "video_moco"]  # which takes clips
SHAPE = (1, 16, 16)
ABOUT = DataShape(SHAPE, classes=4, count=40)
FEW = ("probe.max_train=300", "probe.max_test=100", "probe.draws=3")
SMALL = ("data=digits", "data.size=16", "preset=debug", "device=cpu", "logger=none", "train.batch_size=32", *FEW)
SAME = (NoChange(), NoChange())


def composed(method: str, *words: str) -> PretrainConfig:
    return compose_pretraining([f"method={method}", *SMALL, *words]).config


def learner(method: str, *words: str) -> Learner:
    return build(composed(method, *words), torch.device("cpu"))[2]


def conv_encoder() -> Encoder:
    """Return one without batch norm."""
    return PixelEncoderConfig(strides=(2, 2), channels=4, latent_dim=6, trunk="relu", init="torch").make(SHAPE)


def resnet() -> Encoder:
    """Return one with batch norm."""
    return ResNetConfig(width=4, blocks=(1, 1)).make(SHAPE)


def images(count: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, *SHAPE), dtype=torch.uint8, generator=generator)


def views(count: int = 8, number: int = 2) -> ImageBatch:
    return ImageBatch(tuple(images(count, seed) for seed in range(number)))


def gradients(loss: Tensor, module: nn.Module) -> list[Tensor]:
    found = torch.autograd.grad(loss, list(module.parameters()), allow_unused=True, retain_graph=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(module.parameters(), found, strict=True)]


def statistics(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.named_buffers() if "running" in name or "tracked" in name}


def equal(left: Any, right: Any) -> bool:
    pairs: Sequence[tuple[Tensor, Tensor]] = list(zip(left, right, strict=True))
    return all(torch.equal(a, b) for a, b in pairs)
