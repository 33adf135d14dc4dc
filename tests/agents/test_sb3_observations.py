"""Heads on whatever Stable-Baselines3's policies read: states of several axes and types, frames that are not square."""

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import SAC
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Generator, Tensor, nn

from rlrep.agents.sb3 import AuxSAC, EncoderExtractor
from rlrep.heads.named import named_view
from rlrep.nn import MLPEncoderConfig
from rlrep.replay import SecondView
from rlrep.views import AmplitudeScale, RandomShift

from .sb3_models import differ, random, small

STATE_HEADS = ["autoencoder", "barlow_twins", "byol", "curl", "return_contrast", "self_prediction", "temporal"]
SPACES: dict[str, tuple[tuple[int, ...], float, float, Any]] = {
    "two axes": ((3, 4), -1, 1, np.float32),
    "two axes, the first as long as the batch": ((8, 4), -1, 1, np.float32),
    "three axes": ((2, 3, 4), -1, 1, np.float32),
    "bytes": ((16,), 0, 255, np.uint8),
    "bytes of three axes that are no frames": ((2, 3, 4), 0, 7, np.uint8),
    "whole numbers": ((4,), -9, 9, np.int64),
    "double precision": ((4,), -9, 9, np.float64),
}


def space(name: str) -> spaces.Box:
    shape, low, high, kind = SPACES[name]
    return spaces.Box(low, high, shape, kind)


@pytest.mark.parametrize("name", SPACES)
def test_heads_learn_from_states_of_any_shape_and_type(name: str) -> None:
    aux = {**{key: {} for key in STATE_HEADS}, "trajectory_contrast": {"window": 3}}
    model = AuxSAC("MlpPolicy", random(space(name), 2), aux=aux, **small())
    before = {name: p.detach().clone() for name, p in model.aux_modules.heads.named_parameters() if p.requires_grad}
    model.learn(28)
    after = dict(model.aux_modules.heads.named_parameters())
    assert [name for name, value in before.items() if torch.equal(value, after[name])] == []


@pytest.mark.parametrize("name", SPACES)
def test_a_views_factor_is_one_per_row(name: str) -> None:
    """Of the RL batch and of a head's second view: every number of a row times the same, of two rows another."""
    model = AuxSAC("MlpPolicy", random(space(name)), aux=["curl"], augment="amplitude_scale", **small()).learn(24)
    buffer: Any = model.replay_buffer
    raw = buffer.last.obs.double()
    second = model._joint._batch(buffer.last).pairs["curl"][SecondView()]
    for seen in (buffer.last.samples.observations, second):
        factors = (seen.double() / raw).flatten(1)
        for row, original in zip(factors, raw.flatten(1), strict=True):
            row = row[original != 0]
            torch.testing.assert_close(row, row[:1].expand_as(row), rtol=1e-4, atol=1e-4)
            assert 0.6 <= float(row[0]) <= 1.2
        means = factors.nanmean(1)
        assert len(means.unique()) == len(means) == 8


def test_amplitude_scale_draws_what_it_drew() -> None:
    obs = torch.rand(5, 12)
    flat = AmplitudeScale()(obs, Generator().manual_seed(1))
    factor = 0.6 + 0.6 * torch.rand(5, 1, generator=Generator().manual_seed(1))
    torch.testing.assert_close(flat, obs * factor)
    axes = AmplitudeScale()(obs.unflatten(1, (3, 4)), Generator().manual_seed(1))
    assert torch.equal(axes.flatten(1), flat)


class Filters(BaseFeaturesExtractor):
    """A convolution along the second axis, which flat observations would not do for."""

    def __init__(self, observation_space: spaces.Box) -> None:
        super().__init__(observation_space, 5)
        self.layer = nn.Conv1d(observation_space.shape[0], 5, observation_space.shape[1])

    def forward(self, observations: Tensor) -> Tensor:
        return self.layer(observations).squeeze(2)  # type: ignore[no-any-return]


def test_an_extractor_of_ones_own_reads_the_axes() -> None:
    options = small(policy_kwargs={"features_extractor_class": Filters})
    model = AuxSAC("MlpPolicy", random(space("two axes")), aux=STATE_HEADS, **options).learn(24)
    assert model._n_updates == 4


def test_an_encoder_of_rlreps_reads_states_of_two_axes() -> None:
    chosen = {
        "features_extractor_class": EncoderExtractor,
        "features_extractor_kwargs": {"encoder": MLPEncoderConfig()},
    }
    assert AuxSAC("MlpPolicy", random(space("two axes")), aux=["curl"], **small(policy_kwargs=chosen)).learn(24)


# Frames


def frames(*shape: int) -> spaces.Box:
    return spaces.Box(0, 255, shape, np.uint8)


def on_frames(*shape: int, **more: Any) -> AuxSAC:
    policy = {"net_arch": [8], "features_extractor_kwargs": {"features_dim": 8}}
    return AuxSAC("CnnPolicy", random(frames(*shape)), **more, **small(buffer_size=30) | {"policy_kwargs": policy})


@pytest.mark.parametrize("view", ["random_shift", "shift_intensity", "crop_pad_crop", "simclr", "mild", "none"])
@pytest.mark.parametrize("shape", [(40, 56, 3), (2, 60, 44)])
def test_frames_that_are_not_square_are_seen_whole(view: str, shape: tuple[int, ...]) -> None:
    model = on_frames(*shape, aux={"curl": {"view": view}, "autoencoder": {}}, augment=view).learn(22)
    buffer: Any = model.replay_buffer
    second = model._joint._batch(buffer.last).pairs["curl"][SecondView()]
    assert second.shape == buffer.last.obs.shape and second.dtype == torch.uint8
    assert torch.equal(second, buffer.last.obs) == (view == "none") and model._n_updates == 2


@pytest.mark.parametrize("size", [(40, 56), (56, 40), (12, 12)])
def test_a_shift_moves_the_whole_frame(size: tuple[int, int]) -> None:
    """Every result is the frame, moved by up to the pad, its border repeated; every move is drawn."""
    frame = torch.randint(0, 256, (1, 1, *size), dtype=torch.uint8, generator=Generator().manual_seed(0))
    view: Any = named_view("random_shift", (1, *size))
    pad = round(min(size) * 4 / 84)
    border = nn.functional.pad(frame.float(), (pad,) * 4, mode="replicate").to(torch.uint8)
    moves = [border[0, :, y : y + size[0], x : x + size[1]] for y in range(2 * pad + 1) for x in range(2 * pad + 1)]
    seen = view(frame.expand(400, -1, -1, -1), Generator().manual_seed(1))
    found = {next(n for n, move in enumerate(moves) if torch.equal(row, move)) for row in seen}
    assert len(found) == len(moves)


def test_square_frames_have_the_views_that_they_had() -> None:
    assert named_view("random_shift", (3, 60, 60)) == RandomShift(size=60)
    assert named_view("random_shift", (3, 60, 44)) == RandomShift(size=None)


@pytest.mark.parametrize("shape", [(60, 44, 3), (48, 48, 3)])
@pytest.mark.parametrize(
    ("place", "options"),
    [("augment", {"augment": "random_crop"}), ("aux.curl.view", {"aux": {"curl": {"view": "random_crop"}}})],
)
def test_a_crop_is_refused_in_words_of_sb3(shape: tuple[int, ...], place: str, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"^{place}=RandomCrop does not fit observations of") as error:
        on_frames(*shape, **options)
    said = str(error.value)
    assert "take a view that keeps shape and type, as random_shift" in said and "\n" not in said
    assert not any(word in said for word in ("env.size", "image_size", "augment.size"))


@pytest.mark.parametrize("refused", [spaces.Discrete(3), spaces.MultiBinary(3), spaces.Box(-1, 1, ())])
def test_observations_that_no_head_reads_are_refused_in_one_line(refused: gymnasium.Space[Any]) -> None:
    with pytest.raises(ValueError, match="AuxSAC reads Box observations of one axis or more") as error:
        AuxSAC("MlpPolicy", random(refused), aux=["curl"], **small())
    assert "\n" not in str(error.value)


def test_silent_heads_on_two_axes_leave_the_algorithm_as_it_is() -> None:
    """The view and the heads' draws touch nothing of it."""
    plain = SAC("MlpPolicy", random(space("two axes")), **small()).learn(30)
    silent = AuxSAC("MlpPolicy", random(space("two axes")), aux={"curl": {"weight": 0.0}}, **small()).learn(30)
    assert not differ(silent, plain) and silent._n_updates == plain._n_updates == 10
