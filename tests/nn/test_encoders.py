"""Image encoders beside CURL's, encoders as files, and files in agents."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rlrep.config.compose import compose_run
from rlrep.config.make import load_component, make_agent, make_env
from rlrep.loops.online import Online
from rlrep.nn import (
    EncoderConfig,
    ImpalaConfig,
    LoadableEncoder,
    MLPEncoderConfig,
    PixelEncoderConfig,
    ResNetConfig,
    read_encoder,
    save_encoder,
)
from rlrep.nn.encoders import make_trunk
from tests.loops.test_resume import assert_equal_runs, at_step, interrupt
from tests.runs import final_state, run

SMALL = PixelEncoderConfig(strides=(2, 1), channels=4, latent_dim=6)


def frames(rows: int, *shape: int) -> Tensor:
    return torch.randint(0, 256, (rows, *shape), dtype=torch.uint8)


@pytest.mark.parametrize(
    ("name", "shape", "feature_dim", "latent_dim"),
    [
        ("nature", (4, 84, 84), 3136, 512),  # 64 x 7 x 7
        ("der", (4, 84, 84), 576, 576),  # 64 x 3 x 3
        ("curl_small", (9, 54, 54), 1600, 50),  # 16 x 10 x 10
        ("resnet18", (3, 32, 32), 512, 512),
        ("elu_cnn", (9, 84, 84), 1568, 512),  # 32 x 7 x 7
        ("impala", (4, 84, 84), 3872, 256),  # 32 x 11 x 11
        ("impala_wide", (4, 84, 84), 15488, 15488),  # 128 x 11 x 11
        ("spr", (4, 84, 84), 3136, 3136),
    ],
)
def test_published_shapes(name: str, shape: tuple[int, ...], feature_dim: int, latent_dim: int) -> None:
    encoder = load_component("encoder", name).make(shape)
    assert (encoder.feature_dim, encoder.latent_dim) == (feature_dim, latent_dim)
    assert encoder.body(frames(2, *shape)).shape == (2, feature_dim)
    assert encoder(frames(2, *shape)).shape == (2, latent_dim)


def test_nature_is_the_plain_network_on_scaled_frames() -> None:
    encoder = load_component("encoder", "nature").make((4, 84, 84))
    x = (obs := frames(3, 4, 84, 84)).float() / 255
    specs = [(layer.kernel_size[0], layer.stride[0], layer.out_channels) for layer in encoder.body.layers]
    assert specs == [(8, 4, 32), (4, 2, 64), (3, 1, 64)]
    for layer in encoder.body.layers:
        x = nn.functional.conv2d(x, layer.weight, layer.bias, layer.stride).relu()
    linear = encoder.trunk[0]
    latent = (x.permute(0, 2, 3, 1).flatten(1) @ linear.weight.T + linear.bias).relu()
    torch.testing.assert_close(encoder(obs), latent, atol=1e-5, rtol=1e-4)


def plain_resnet(state: dict[str, Tensor], x: Tensor, *, train: bool) -> Tensor:
    """ResNet-18's forward pass from its weights, written out (He et al. 2016, table 1, with a 3x3 stem)."""

    def norm(y: Tensor, name: str) -> Tensor:
        mean, var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
        if train:
            mean, var = y.mean((0, 2, 3)), y.var((0, 2, 3), unbiased=False)
        y = (y - mean.view(-1, 1, 1)) / (var.view(-1, 1, 1) + 1e-5).sqrt()
        return y * state[f"{name}.weight"].view(-1, 1, 1) + state[f"{name}.bias"].view(-1, 1, 1)

    def conv(y: Tensor, name: str, stride: int) -> Tensor:
        weight = state[f"{name}.weight"]
        return nn.functional.conv2d(y, weight, stride=stride, padding=weight.shape[-1] // 2)

    x = norm(conv(x, "stem", 1), "norm").relu()
    for block in range(8):
        name, stride = f"stages.{block}", 2 if block in (2, 4, 6) else 1
        y = norm(conv(x, f"{name}.conv1", stride), f"{name}.norm1").relu()
        y = norm(conv(y, f"{name}.conv2", 1), f"{name}.norm2")
        if stride == 2:
            x = norm(conv(x, f"{name}.shortcut.0", 2), f"{name}.shortcut.1")
        x = (x + y).relu()
    return x.mean((2, 3))


@pytest.mark.parametrize("side", [84, 80, 75])
def test_der_is_the_plain_network_with_its_second_layer_as_a_product(side: int) -> None:
    encoder = load_component("encoder", "der").make((4, side, side))
    obs, parameters = frames(3, 4, side, side), list(encoder.parameters())
    x = obs.float() / 255
    for layer in encoder.body.layers:
        x = nn.functional.conv2d(x, layer.weight, layer.bias, layer.stride).relu()
    plain = x.permute(0, 2, 3, 1).flatten(1)
    prepared = encoder.prepare(obs)
    assert prepared.shape == (3, 4, 75, 75), "only what reaches the output"
    torch.testing.assert_close(encoder(obs), plain)
    assert torch.equal(encoder(prepared), encoder(obs))
    assert encoder.prepare(prepared).data_ptr() == prepared.data_ptr(), "what is prepared is not copied"
    ours, theirs = (torch.autograd.grad(out.square().sum(), parameters) for out in (encoder(obs), plain))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_impala_is_the_plain_network_on_scaled_frames() -> None:
    encoder = ImpalaConfig(channels=(4, 6), blocks=2, latent_dim=5).make((3, 15, 15))
    state, obs = encoder.state_dict(), frames(3, 3, 15, 15)

    def conv(x: Tensor, name: str) -> Tensor:
        return nn.functional.conv2d(x, state[f"body.{name}.weight"], state[f"body.{name}.bias"], padding=1)

    x = obs.float() / 255
    for section in range(2):
        x = nn.functional.max_pool2d(conv(x, f"entries.{section}"), 3, 2, 1)
        for block in range(2):
            y = conv(x.relu(), f"blocks.{section}.{block}.conv1").relu()
            x = x + conv(y, f"blocks.{section}.{block}.conv2")
    features = x.relu().permute(0, 2, 3, 1).flatten(1)
    latent = (features @ state["trunk.0.weight"].T + state["trunk.0.bias"]).relu()
    torch.testing.assert_close(encoder(obs), latent, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("train", [False, True])
def test_resnet_is_the_plain_network_on_scaled_images(train: bool) -> None:
    encoder = ResNetConfig(width=4).make((3, 16, 16))
    for module in encoder.body.modules():  # zero-initialised residual branches would hide mistakes in them
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            module.running_mean.uniform_(-0.1, 0.1)  # type: ignore[union-attr]
    images = frames(6, 3, 16, 16)
    state = {name: tensor.clone() for name, tensor in encoder.body.state_dict().items()}
    encoder.body.train(train)
    expected = plain_resnet(state, images.float() / 255, train=train)
    torch.testing.assert_close(encoder.body(images), expected, atol=1e-4, rtol=1e-3)


def test_resnet_18_has_its_published_size_and_starts_as_shortcuts() -> None:
    encoder = ResNetConfig().make((3, 32, 32))
    assert sum(p.numel() for p in encoder.body.parameters()) == 11_168_832  # 11,173,962 with ten outputs (CIFAR code)
    assert not encoder.body.training, "an agent acts on single observations"
    assert all(not block.norm2.weight.any() for block in encoder.body.stages)  # type: ignore[union-attr]


@pytest.mark.parametrize("config", [SMALL, ResNetConfig(width=4), ImpalaConfig(channels=(4, 4))])
def test_bodies_take_floats_and_pass_gradient_to_pixels(config: EncoderConfig) -> None:
    encoder, images = config.make((3, 16, 16)), frames(4, 3, 16, 16)
    floats = images.float().requires_grad_()
    torch.testing.assert_close(encoder.body(floats), encoder.body(images))
    (gradient,) = torch.autograd.grad(encoder.body(floats).square().sum(), floats)
    assert gradient.abs().sum() > 0


def test_layers_of_unequal_number_are_named() -> None:
    with pytest.raises(ValueError, match=r"channels=\[4, 4\] and strides=\[2, 1, 1\] need one value per layer"):
        PixelEncoderConfig(strides=(2, 1, 1), channels=(4, 4)).make((3, 32, 32))
    with pytest.raises(ValueError, match="too small"):
        load_component("encoder", "der").make((4, 16, 16))


def test_a_preset_shrinks_the_default_encoder_and_no_other() -> None:
    default: Any = compose_run(["env=toy_pixels", "preset=cpu"]).config.encoder
    assert (default.strides, default.channels, default.latent_dim) == ((2, 2, 1), 16, 50)
    nature: Any = compose_run(["env=toy_pixels", "preset=cpu", "encoder=nature"]).config.encoder
    assert (nature.strides, nature.channels, nature.kernels) == ((4, 2, 1), (32, 64, 64), (8, 4, 3))
    assert isinstance(compose_run(["env=toy_state", "preset=cpu"]).config.encoder, MLPEncoderConfig)


CONFIGS: list[tuple[LoadableEncoder, tuple[int, ...]]] = [
    (SMALL, (9, 16, 16)),
    (ResNetConfig(width=4), (3, 16, 16)),
    (ImpalaConfig(channels=(4,), blocks=1, latent_dim=3), (3, 16, 16)),
    (MLPEncoderConfig(8, 6), (5,)),
]


@pytest.mark.parametrize(("config", "shape"), CONFIGS, ids=lambda value: type(value).__name__)
def test_a_saved_encoder_comes_back(config: LoadableEncoder, shape: tuple[int, ...], tmp_path: Path) -> None:
    encoder = config.make(shape)
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-1, 1)  # type: ignore[union-attr]
    path = save_encoder(tmp_path / "new", encoder, config, shape, command="python -m x")
    for place in (path, tmp_path / "new"):
        loaded = replace(config, load=str(place)).make(shape)
        assert all(torch.equal(a, b) for a, b in zip(encoder.state_dict().values(), loaded.state_dict().values()))  # noqa: B905
    found = read_encoder(path)
    assert found.command == "python -m x" and found.input["shape"] == list(shape)
    assert found.architecture["kind"] == type(config).__name__
    again = config.make(shape)  # a new save replaces the old one whole
    save_encoder(tmp_path / "new", again, config, shape, command="y")
    assert read_encoder(path).command == "y" and len(list(path.parent.iterdir())) == 2


def test_loading_keeps_the_memory_layout_and_draws_nothing_else(tmp_path: Path) -> None:
    save_encoder(tmp_path, SMALL.make((9, 16, 16)), SMALL, (9, 16, 16), command="")
    torch.manual_seed(5)
    SMALL.make((9, 16, 16))
    after = torch.rand(1)
    torch.manual_seed(5)
    loaded = replace(SMALL, load=str(tmp_path)).make((9, 16, 16))
    assert torch.equal(torch.rand(1), after)
    assert all(layer.weight.is_contiguous(memory_format=torch.channels_last) for layer in loaded.body.layers)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("other", "shape", "words"),
    [
        (replace(SMALL, latent_dim=7), (9, 16, 16), ["latent_dim 6", "latent_dim 7"]),
        (replace(SMALL, offset=0.5), (9, 16, 16), ["offset 0.0", "offset 0.5"]),
        (SMALL, (3, 16, 16), ["shape [9, 16, 16]", "shape [3, 16, 16]"]),
        (ResNetConfig(width=4), (9, 16, 16), ["PixelEncoderConfig with strides [2, 1]", "ResNetConfig with"]),
    ],
)
def test_another_architecture_or_input_is_refused_with_both_named(
    other: LoadableEncoder, shape: tuple[int, ...], words: list[str], tmp_path: Path
) -> None:
    save_encoder(tmp_path, SMALL.make((9, 16, 16)), SMALL, (9, 16, 16), command="")
    with pytest.raises(ValueError, match="but this run has") as refused:
        replace(other, load=str(tmp_path)).make(shape)
    assert all(word in str(refused.value) for word in words) and "\n" not in str(refused.value)


def cut_weights(folder: Path) -> None:
    path = folder / "encoder.safetensors"
    path.write_bytes(path.read_bytes()[:-10])


def empty_sidecar(folder: Path) -> None:
    (folder / "encoder.json").write_text("{}")


def garbled_sidecar(folder: Path) -> None:
    (folder / "encoder.json").write_text("{")


def newer_format(folder: Path) -> None:
    path = folder / "encoder.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 2}))


def lost_sidecar(folder: Path) -> None:
    (folder / "encoder.json").unlink()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (cut_weights, "is not the file that encoder.json describes"),
        (empty_sidecar, "damaged"),
        (garbled_sidecar, "damaged"),
        (newer_format, "its format is 2"),
        (lost_sidecar, "there is no .*encoder.json"),
    ],
)
def test_damage_is_one_clear_line(damage: Callable[[Path], None], words: str, tmp_path: Path) -> None:
    save_encoder(tmp_path, SMALL.make((9, 16, 16)), SMALL, (9, 16, 16), command="")
    damage(tmp_path)
    with pytest.raises(ValueError, match=words) as error:
        replace(SMALL, load=str(tmp_path)).make((9, 16, 16))
    assert "encoder.load=" in str(error.value) and "\n" not in str(error.value)


def test_freezing_stops_the_body_and_not_the_trunk() -> None:
    encoder = replace(SMALL, freeze=True).make((9, 16, 16))
    assert not any(p.requires_grad for p in encoder.body.parameters())
    assert all(p.requires_grad for p in encoder.trunk.parameters())


TOY = ("env=toy_pixels", "encoder=curl_small", "encoder.strides=[2,1]", "encoder.channels=4", "encoder.latent_dim=6")


@pytest.fixture
def pretrained(tmp_path: Path) -> Path:
    """An encoder for toy_pixels."""
    config = PixelEncoderConfig(strides=(2, 1), channels=4, latent_dim=6)
    torch.manual_seed(77)
    save_encoder(tmp_path / "pre", config.make((9, 16, 16)), config, (9, 16, 16), command="")
    return tmp_path / "pre"


def parts(state: Any, owner: str) -> dict[str, Tensor]:
    return {k.removeprefix(f"{owner}."): v for k, v in state["agent"]["nets"].items() if k.startswith(f"{owner}.")}


@pytest.mark.parametrize("freeze", [True, False])
@pytest.mark.parametrize("aux", ["none", "curl"])
def test_a_pretrained_body_in_an_agent(freeze: bool, aux: str, pretrained: Path, tmp_path: Path) -> None:
    """40 updates: a frozen body stays as it was bit for bit, online and target, and everything else learns."""
    words = (*TOY, f"aux={aux}", f"encoder.load={pretrained}", f"encoder.freeze={str(freeze).lower()}")
    assert run(tmp_path / "x", *words) == 0
    saved, state = read_encoder(pretrained).tensors, final_state(tmp_path / "x")
    for owner in ("encoder", "target_encoder.module"):
        now = parts(state, owner)
        assert now.keys() == saved.keys()
        for name, tensor in now.items():
            if name.startswith("body"):
                assert torch.equal(tensor, saved[name]) == freeze, (owner, name)
    assert not torch.equal(parts(state, "encoder")["trunk.0.weight"], saved["trunk.0.weight"])


def test_resume_is_exact_with_a_frozen_encoder_whose_file_is_gone(pretrained: Path, tmp_path: Path) -> None:
    words = (*TOY, "aux=curl", f"encoder.load={pretrained}", "encoder.freeze=true", "checkpoint.keep_replay=true")
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    assert run(whole, *words) == 0
    with pytest.MonkeyPatch.context() as patch:
        interrupt(patch, Online, at_step(37))
        assert run(halves, *words) == 143
    pretrained.rename(tmp_path / "elsewhere")
    assert run(halves, *words) == 0
    assert_equal_runs(whole, halves)


def test_an_agents_error_names_file_and_fit(
    pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "x", "env=toy_pixels", f"encoder.load={pretrained}") == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: encoder.load=") and "channels 4" in error and "channels 32" in error
    assert run(tmp_path / "y", *TOY, f"encoder.load={tmp_path / 'nothing'}") == 1
    assert "there is no" in capsys.readouterr().err


def test_rescaled_features_go_from_0_to_1() -> None:
    encoder = load_component("encoder", "spr").make((4, 84, 84))
    obs = frames(3, 4, 84, 84)
    features, latent = encoder.body(obs), encoder(obs)
    for row in range(3):
        low, high = float(features[row].min()), float(features[row].max())
        torch.testing.assert_close(latent[row], (features[row] - low) / (high - low + 1e-5))
    assert torch.equal(make_trunk("rescaled", 4, 4)(torch.ones(1, 4)), torch.zeros(1, 4)), "flat features are 0"


def test_every_pixel_encoder_serves_an_agent() -> None:
    env = make_env("toy_pixels", options={"size": 36})
    for name in ("nature", "der", "resnet18", "impala", "spr"):
        agent = make_agent("sac", env, encoder=name, device="cpu", options={"hidden_dim": 8, "batch_size": 4})
        assert agent.act(env.reset(), explore=True).shape == (1, 1)
    env.close()
