"""Torchvision's names: a ResNet that is computed from them, as torchvision does, equals the encoder they came from."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlrep.nn import PixelEncoderConfig, ResNetConfig
from rlrep.nn.encoder_file import read_encoder, save_encoder
from rlrep.nn.torchvision_names import torchvision_names

SHAPE = (3, 16, 16)


def norm(x: Tensor, named: dict[str, Tensor], at: str) -> Tensor:
    mean, var, weight, bias = (named[f"{at}.{key}"] for key in ("running_mean", "running_var", "weight", "bias"))
    return F.batch_norm(x, mean, var, weight, bias)


def block(x: Tensor, named: dict[str, Tensor], at: str, stride: int) -> Tensor:
    y = norm(F.conv2d(x, named[f"{at}.conv1.weight"], stride=stride, padding=1), named, f"{at}.bn1").relu()
    y = norm(F.conv2d(y, named[f"{at}.conv2.weight"], padding=1), named, f"{at}.bn2")
    if f"{at}.downsample.0.weight" in named:
        x = norm(F.conv2d(x, named[f"{at}.downsample.0.weight"], stride=stride), named, f"{at}.downsample.1")
    return (x + y).relu()


def test_the_encoder_is_what_its_names_say(tmp_path: Path) -> None:
    config = ResNetConfig(width=4, blocks=(2, 1, 2))
    encoder = config.make(SHAPE)
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.running_var, module.bias.data, module.running_mean):
                assert tensor is not None
                tensor.uniform_(0.5, 1.5)
    save_encoder(tmp_path, encoder, config, SHAPE, command="")
    named = torchvision_names(read_encoder(tmp_path))
    images = torch.randint(0, 256, (4, *SHAPE), dtype=torch.uint8)
    x = norm(F.conv2d(images / 255.0, named["conv1.weight"], padding=1), named, "bn1").relu()
    for at, stride in (("1.0", 1), ("1.1", 1), ("2.0", 2), ("3.0", 2), ("3.1", 1)):
        x = block(x, named, f"layer{at}", stride)
    with torch.no_grad():
        torch.testing.assert_close(x.mean((2, 3)), encoder.body(images), rtol=1e-3, atol=1e-4)
    assert len(named) == sum(name.startswith("body.") for name in encoder.state_dict())


def test_others_are_refused(tmp_path: Path) -> None:
    config = PixelEncoderConfig(strides=(2, 2), channels=4)
    save_encoder(tmp_path, config.make(SHAPE), config, SHAPE, command="")
    with pytest.raises(ValueError, match="holds PixelEncoderConfig"):
        torchvision_names(read_encoder(tmp_path))
