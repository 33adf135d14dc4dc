"""Heads in whatever Stable-Baselines3 can do: its ways to learn, to save and to load, and what does not fit."""

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import SAC, HerReplayBuffer
from stable_baselines3.common.callbacks import CheckpointCallback, EvalCallback
from stable_baselines3.common.logger import configure
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.torch_layers import NatureCNN
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecFrameStack

from rlrep.agents.sb3 import AuxDQN, AuxMixin, AuxSAC, MLPExtractor
from rlrep.envs.toy import ToyPixels, ToyState

from .sb3_models import HEADS, SILENT, AuxDDPG, AuxTD3, assert_same, cartpole, chase, differ, discrete, small

pytestmark = pytest.mark.filterwarnings("ignore:FlattenExtractor has no parameters:UserWarning")  # one test asserts it


# SB3's own ways


PAIR = ["curl", "return_contrast"]
TINY_CNN = {"features_extractor_class": NatureCNN, "features_extractor_kwargs": {"features_dim": 8}}
WAYS: dict[str, Callable[[], Any]] = {
    "state dependent exploration": lambda: AuxSAC("MlpPolicy", chase(), aux=PAIR, use_sde=True, **small()),
    "as many updates as steps": lambda: AuxSAC(
        "MlpPolicy", chase(3), aux=PAIR, train_freq=4, gradient_steps=-1, **small()
    ),
    "updates after episodes": lambda: AuxSAC(
        "MlpPolicy", chase(), aux=PAIR, train_freq=(1, "episode"), gradient_steps=-1, **small()
    ),
    "no time limits": lambda: AuxSAC(
        "MlpPolicy", chase(), aux=PAIR, replay_buffer_kwargs={"handle_timeout_termination": False}, **small()
    ),
    "stacked frames": lambda: AuxSAC(
        "CnnPolicy",
        VecFrameStack(DummyVecEnv([lambda: ToyPixels(size=40).make(0)] * 2), n_stack=2),
        aux=PAIR,
        **small(policy_kwargs=TINY_CNN),
    ),
    "environments in processes": lambda: AuxSAC(
        "MlpPolicy", SubprocVecEnv([partial(ToyState().make, 0)] * 2, start_method="fork"), aux=PAIR, **small()
    ),
    "names of both": lambda: AuxSAC("MlpPolicy", "Pendulum-v1", aux="curl", **small(device=torch.device("cpu"))),
    "DDPG": lambda: AuxDDPG("MlpPolicy", chase(), aux=PAIR, **small()),
    "TD3 with one extractor": lambda: AuxTD3(
        "MlpPolicy", chase(), aux=PAIR, **small(policy_kwargs={"share_features_extractor": True})
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_heads_learn_in_every_way_that_sb3_has(way: str) -> None:
    model = WAYS[way]()
    before = [p.detach().clone() for p in model.aux_modules.heads.parameters() if p.requires_grad]
    model.learn(45)
    model.env.close()
    after = [p for p in model.aux_modules.heads.parameters() if p.requires_grad]
    assert model._n_updates > 0 and not any(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("name", ["QRDQN", "TQC", "CrossQ"])
def test_sb3_contribs_algorithms_have_heads_too(name: str) -> None:
    algorithm = getattr(pytest.importorskip("sb3_contrib"), name)
    ours = type(f"Aux{name}", (AuxMixin, algorithm), {})
    env, options = (cartpole(2), {"train_freq": 1}) if name == "QRDQN" else (chase(2), {})
    reference = algorithm("MlpPolicy", env, **small(**options)).learn(50)
    assert not differ(ours("MlpPolicy", env, aux=SILENT, **small(**options)).learn(50), reference)
    assert differ(ours("MlpPolicy", env, aux=HEADS, **small(**options)).learn(50), reference)


def test_without_a_seed_global_streams_are_as_sb3_leaves_them() -> None:
    def drawn(algorithm: Any, **aux: Any) -> list[float]:
        torch.manual_seed(7)
        model = algorithm("MlpPolicy", chase(), **aux, **small(seed=None))
        heads = [float(p.detach().sum()) for p in model.aux_modules.parameters()] if aux else []
        return [float(torch.rand(())), *heads]

    assert drawn(AuxSAC, aux=["curl"]) == (again := drawn(AuxSAC, aux=["curl"])) and len(again) > 1
    assert drawn(SAC) == again[:1]


@pytest.mark.parametrize("pull", ["balanced", "own", "sum"])
def test_saved_and_loaded_it_goes_on_the_same(tmp_path: Path, pull: Any) -> None:
    model = AuxSAC("MlpPolicy", chase(2), aux=HEADS, pull=pull, **small()).learn(40)
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "buffer")
    loaded = AuxSAC.load(tmp_path / "model", env=chase(2))
    loaded.load_replay_buffer(tmp_path / "buffer")
    assert_same(model, loaded)
    obs = model.observation_space.sample()
    assert np.array_equal(model.predict(obs, deterministic=True)[0], loaded.predict(obs, deterministic=True)[0])
    model.set_env(chase(2))
    for one in (model, loaded):
        one.set_random_seed(5)
        one.learn(20, reset_num_timesteps=False)
    assert_same(model, loaded)
    assert loaded._n_updates == model._n_updates
    policy = AuxSAC.load(tmp_path / "model")  # without an environment: to act
    assert np.array_equal(policy.predict(obs, deterministic=True)[0].shape, (1,))


def test_checkpoints_go_on_with_their_buffer(tmp_path: Path) -> None:
    saving = CheckpointCallback(20, str(tmp_path), save_replay_buffer=True)
    AuxSAC("MlpPolicy", chase(), aux=PAIR, **small()).learn(45, callback=saving)
    loaded = AuxSAC.load(tmp_path / "rl_model_40_steps", env=chase())
    loaded.load_replay_buffer(tmp_path / "rl_model_replay_buffer_40_steps")
    assert loaded.learn(10, reset_num_timesteps=False).num_timesteps == 50
    more = AuxSAC.load(tmp_path / "rl_model_40_steps", env=chase(3)).learn(30)  # another number of environments
    assert more.replay_buffer is not None and more.replay_buffer.n_envs == 3
    more.set_parameters(tmp_path / "rl_model_40_steps")
    assert_same(more, AuxSAC.load(tmp_path / "rl_model_40_steps", env=chase()))


def test_a_seed_determines_it() -> None:
    first, second = (AuxDQN("MlpPolicy", cartpole(), aux=HEADS, **discrete()).learn(35) for _ in range(2))
    assert_same(first, second)
    other = AuxDQN("MlpPolicy", cartpole(), aux=HEADS, **discrete(seed=4)).learn(35)
    assert differ(first, other)


def test_callbacks_and_logger_see_it(tmp_path: Path) -> None:
    model = AuxSAC("MlpPolicy", chase(2), aux=["return_contrast"], **small())
    model.set_logger(configure(str(tmp_path), ["csv", "stdout", "log"]))
    model.learn(
        60,
        callback=EvalCallback(Monitor(ToyState().make(0)), n_eval_episodes=1, eval_freq=20, verbose=0),
        log_interval=1,
    )
    header = (tmp_path / "progress.csv").read_text().splitlines()[0]
    assert {"aux/return_contrast/loss", "aux/return_contrast/positive_similarity", "eval/mean_reward"} <= set(
        header.split(",")
    )
    assert "return_contrast/loss" in (tmp_path / "log.txt").read_text()


def test_every_head_trains_a_cnn() -> None:
    """All of them at once, on frames, with SB3's table in the log."""
    heads: dict[str, Any] = {
        name: {} for name in ("curl", "byol", "barlow_twins", "autoencoder", "temporal", "sup_con_return")
    }
    options = small(
        policy_kwargs={"features_extractor_class": NatureCNN, "features_extractor_kwargs": {"features_dim": 16}}
    )
    aux = heads | {"trajectory_contrast": {"window": 3}}
    model = AuxSAC(
        "CnnPolicy", DummyVecEnv([lambda: ToyPixels(size=40).make(0)]), aux=aux, augment="random_shift", **options
    )
    losses: dict[str, float] = {}
    model.learn(24, callback=lambda values, _: bool(losses.update(model.logger.name_to_value)) or True)
    assert {f"aux/{name}/loss" for name in aux} <= set(losses) and model._n_updates == 4


# What does not fit


class Goals(gymnasium.Env[Any, Any]):
    observation_space = spaces.Dict({"observation": spaces.Box(-1, 1, (2,)), "desired_goal": spaces.Box(-1, 1, (2,))})
    action_space = spaces.Box(-1, 1, (1,))


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: AuxSAC("MlpPolicy", chase(), aux=["crul"]), "aux=crul is not known: did you mean curl"),
        (
            lambda: AuxSAC("MlpPolicy", chase(), aux={"curl": {"wight": 1}}),
            "unknown option aux.curl.wight: did you mean weight",
        ),
        (
            lambda: AuxSAC("MlpPolicy", chase(), aux={"curl": {"weight": "much"}}),
            "aux.curl.weight=much: expected a number",
        ),
        (lambda: AuxSAC("MlpPolicy", chase(), aux={"curl": {"view": "random_shift"}}), "random_shift is for frames"),
        (lambda: AuxSAC("MlpPolicy", chase(), aux={"curl": 3}), "aux.curl: expected options or a head's config, got 3"),
        (lambda: AuxSAC("MlpPolicy", chase(), aux=["ccm"]), "aux.ccm tells tasks apart"),
        (lambda: AuxSAC("MlpPolicy", chase(), augment="zoom"), "augment=zoom is not known"),
        (lambda: AuxSAC("MlpPolicy", chase(), augment=3), "augment=3: expected the name of an augmentation"),  # type: ignore[arg-type]
        (lambda: AuxSAC("MlpPolicy", chase(), aux=3), "aux=3: expected names of heads"),  # type: ignore[arg-type]
        (lambda: AuxSAC("MlpPolicy", chase(), aux_max_norm=0), "aux_max_norm=0: expected a number above 0"),
        (lambda: AuxSAC("MlpPolicy", chase(), pull="hard"), "pull='hard': expected one of balanced, own, sum"),  # type: ignore[arg-type]
        (lambda: AuxSAC("MultiInputPolicy", Goals(), aux=["curl"]), "AuxSAC reads Box observations"),
        (
            lambda: AuxSAC("MlpPolicy", chase(), aux=["curl"], replay_buffer_class=HerReplayBuffer),
            "replay_buffer_class=HerReplayBuffer",
        ),
        (lambda: AuxSAC("MlpPolicy", chase(), aux=["curl"], optimize_memory_usage=True), "optimize_memory_usage=True"),
        (
            lambda: AuxSAC(
                "CnnPolicy",
                DummyVecEnv([lambda: ToyPixels(size=40).make(0)]),
                buffer_size=10,
                aux={"curl": {"view": {"_target_": "rlrep.views.RandomCrop", "size": 36}}},
            ),
            "RandomCrop makes torch.uint8",
        ),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(make: Callable[[], Any], line: str) -> None:
    with pytest.raises(ValueError) as error:
        make()
    assert line in str(error.value) and "\n" not in str(error.value)


def test_an_extractor_without_parameters_is_replaced_and_that_is_said() -> None:
    with pytest.warns(UserWarning, match="FlattenExtractor has no parameters for aux=curl to train") as said:
        model = AuxSAC("MlpPolicy", chase(), aux=["curl"])
    assert len(said) == 1 and isinstance(model.critic.features_extractor, MLPExtractor)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        AuxSAC("MlpPolicy", chase())  # nothing to say


def filled(path: Path, env: Any, **options: Any) -> None:
    AuxSAC("MlpPolicy", env, **options, **small()).learn(25).save_replay_buffer(path)


def test_a_buffer_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    model = AuxSAC("MlpPolicy", chase(), aux=["curl"], **small())
    own = model.replay_buffer
    SAC("MlpPolicy", chase(), **small()).learn(10).save_replay_buffer(tmp_path / "plain")
    with pytest.raises(ValueError, match="a ReplayBuffer does not keep what aux= and augment= need"):
        model.load_replay_buffer(tmp_path / "plain")
    filled(tmp_path / "other", chase(), aux=["return_contrast"])
    with pytest.raises(ValueError, match=r"filled for aux=return_contrast, not for this aux=curl"):
        model.load_replay_buffer(tmp_path / "other")
    filled(tmp_path / "more", chase(2), aux=["curl"])
    with pytest.raises(ValueError, match=r"of 2 environments and observations .* this has 1 and"):
        model.load_replay_buffer(tmp_path / "more")
    assert model.replay_buffer is own


def test_a_buffer_of_heads_serves_without_them(tmp_path: Path) -> None:
    filled(tmp_path / "buffer", chase(), aux=["curl"], augment="amplitude_scale")
    for algorithm in (SAC, AuxSAC):
        model = algorithm("MlpPolicy", chase(), **small())
        model.load_replay_buffer(tmp_path / "buffer")
        assert model.learn(30)._n_updates == 10


def test_parameters_of_other_heads_are_refused_in_one_line(tmp_path: Path) -> None:
    AuxSAC("MlpPolicy", chase(), aux=PAIR, **small()).save(tmp_path / "pair")
    SAC("MlpPolicy", chase(), **small()).save(tmp_path / "plain")
    model = AuxSAC("MlpPolicy", chase(), aux=["curl"], **small())
    for had, load in (
        ("with heads curl,return_contrast", lambda: AuxSAC.load(tmp_path / "pair", env=chase(), aux=["curl"])),
        ("with heads curl,return_contrast", lambda: model.set_parameters(tmp_path / "pair")),
        ("without heads", lambda: model.set_parameters(tmp_path / "plain")),
    ):
        with pytest.raises(RuntimeError, match=f"parameters {had} do not fit AuxSAC with heads curl") as error:
            load()
        assert "\n" not in str(error.value)
    with pytest.raises(RuntimeError, match="heads with another pull do not fit AuxSAC with pull=balanced"):
        AuxSAC.load(tmp_path / "pair", env=chase(), pull="balanced")
    assert AuxSAC.load(tmp_path / "plain", env=chase()).learn(10).num_timesteps == 10
