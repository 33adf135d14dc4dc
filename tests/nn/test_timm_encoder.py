"""Networks of timm as encoders: made, trained, saved and loaded as the others are; refused in one line."""

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rlrep.nn import ResNetConfig, TimmConfig, save_encoder, torchvision_names
from rlrep.nn.encoder_file import read_encoder

SHAPE = (3, 16, 16)


class FakeNetwork(nn.Module):
    """What is asked of a network of timm."""

    def __init__(self, channels: int, img_size: int | None) -> None:
        super().__init__()
        self.img_size = img_size
        self.stem, self.norm = nn.Conv2d(channels, 6, 3, stride=2), nn.BatchNorm2d(6)

    def forward_features(self, x: Tensor) -> Tensor:
        if self.img_size not in (None, x.shape[-1]):
            raise AssertionError(f"Input height ({x.shape[-1]}) doesn't match model")
        maps: Tensor = self.norm(self.stem(x))
        return maps

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        assert pre_logits
        return x.mean((2, 3))


@pytest.fixture
def timm(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Put a package `timm` of one network where the real one would be."""
    fake: Any = ModuleType("timm")
    fake.__spec__ = sys.__spec__
    fake.__version__ = "1.0"
    fake.is_model = lambda name: name == "tiny"
    fake.list_models = lambda pattern="*": ["tiny"] if "tin" in pattern else []

    def create_model(name: str, in_chans: int, num_classes: int, img_size: int | None = None) -> FakeNetwork:
        assert num_classes == 0
        return FakeNetwork(in_chans, img_size)

    fake.create_model = create_model
    monkeypatch.setitem(sys.modules, "timm", fake)
    yield fake


def test_its_features_are_those_of_pixels_in_0_to_1(timm: Any) -> None:
    encoder = TimmConfig("tiny").make(SHAPE)
    obs = torch.randint(0, 256, (5, *SHAPE), dtype=torch.uint8)
    network: Any = encoder.body.network
    assert not network.training and encoder.feature_dim == encoder.latent_dim == 6
    torch.testing.assert_close(encoder(obs), network.norm(network.stem(obs / 255)).mean((2, 3)))
    assert TimmConfig("tiny", trunk="relu", latent_dim=9).make(SHAPE)(obs).shape == (5, 9)


def test_it_is_saved_loaded_and_frozen(timm: Any, tmp_path: Path) -> None:
    config = TimmConfig("tiny")
    encoder, obs = config.make(SHAPE), torch.randint(0, 256, (5, *SHAPE), dtype=torch.uint8)
    save_encoder(tmp_path, encoder, config, SHAPE, command="")
    loaded = TimmConfig("tiny", load=str(tmp_path), freeze=True).make(SHAPE)
    assert torch.equal(loaded(obs), encoder(obs)) and not any(p.requires_grad for p in loaded.body.parameters())
    with pytest.raises(ValueError, match=r"TimmConfig with .*name tiny"):
        ResNetConfig(load=str(tmp_path)).make(SHAPE)
    with pytest.raises(ValueError, match="torchvision's names are a ResNet's"):
        torchvision_names(read_encoder(tmp_path))


def test_what_does_not_fit_is_one_line(timm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"encoder.name=tin is no network of timm 1.0: tiny"):
        TimmConfig("tin").make(SHAPE)
    with pytest.raises(ValueError, match=r"doesn't match model: give encoder.img_size=16"):
        TimmConfig("tiny", img_size=224).make(SHAPE)
    with pytest.raises(ValueError, match=r"pip install 'rlrep\[timm\]'"):
        monkeypatch.delitem(sys.modules, "timm")
        monkeypatch.setattr("rlrep.nn.timm_encoder.find_spec", lambda _: None)
        TimmConfig("tiny").make(SHAPE)


def test_a_timm_that_is_broken_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "timm.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=r"timm cannot be imported \(RuntimeError: operator .* install the"):
        TimmConfig("tiny").make(SHAPE)


@pytest.mark.skipif(find_spec("timm") is None, reason="timm is not installed")
@pytest.mark.parametrize(("name", "more"), [("resnet10t", {}), ("vit_tiny_patch16_224", {"img_size": 32})])
def test_a_real_network_learns(name: str, more: dict[str, Any]) -> None:
    encoder = TimmConfig(name, **more).make((9, 32, 32)).train()
    encoder(torch.randint(0, 256, (4, 9, 32, 32), dtype=torch.uint8)).square().mean().backward()
    assert all(p.grad is not None for n, p in encoder.named_parameters() if "head" not in n)
