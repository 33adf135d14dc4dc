"""Files of algorithms with heads: exact for themselves, open to the algorithm without them, and the other way round."""

import base64
import json
import warnings
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from stable_baselines3 import DQN, SAC
from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.vec_env import DummyVecEnv

from rlrep.agents.sb3 import AuxDQN, AuxReplayBuffer, AuxSAC
from rlrep.envs.toy import ToyPixels
from rlrep.views import RandomShift

from .sb3_models import HEADS, assert_same, cartpole, chase, differ, discrete, small

PULLS = ["own", "balanced", "sum"]


def optimizers(model: Any) -> dict[str, Any]:
    """Return everything that is not a module's, by name: the state of all optimisers."""
    return {name: state for name, state in model.get_parameters().items() if "state" in state}


def assert_equal(first: Any, second: Any) -> None:
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second)
    elif isinstance(first, dict):
        assert first.keys() == second.keys()
        for key, value in first.items():
            assert_equal(value, second[key])
    else:
        assert first == second


def follows(model: Any) -> bool:
    """Whether the heads' momentum target is the features extractor."""
    target = model.aux_modules.target.module.state_dict()
    return all(torch.equal(target[key], p) for key, p in model.aux_network().features_extractor.state_dict().items())


@pytest.mark.parametrize("pull", PULLS)
def test_everything_comes_back(tmp_path: Path, pull: Any) -> None:
    """Heads, optimisers and running norms, from a path, an open file and memory."""
    model = AuxSAC("MlpPolicy", chase(2), aux=HEADS, pull=pull, **small()).learn(40)
    model.save(tmp_path / "model")
    with (tmp_path / "open.zip").open("wb") as file:
        model.save(file)
    model.save(memory := BytesIO())
    for place in (tmp_path / "model", str(tmp_path / "open.zip"), memory):
        loaded = AuxSAC.load(place, env=chase(2))
        assert_same(model, loaded)
        assert_equal(optimizers(model), optimizers(loaded))
        assert not hasattr(loaded, "_heads_of_file")
    other = AuxSAC("MlpPolicy", chase(2), aux=HEADS, pull=pull, **small(seed=9))
    other.set_parameters(tmp_path / "model")
    assert_same(model, other)
    assert_equal(optimizers(model), optimizers(other))
    assert len(optimizers(model)) == {"own": 6, "balanced": 4, "sum": 4}[pull]
    assert not follows(other)  # its own momentum target came back, not a copy


@pytest.mark.parametrize(
    ("plain", "ours", "env", "options", "pull"),
    [
        (SAC, AuxSAC, chase, small, "own"),
        (SAC, AuxSAC, chase, small, "sum"),
        (DQN, AuxDQN, cartpole, discrete, "balanced"),
    ],
)
def test_the_algorithm_without_heads_opens_it_and_goes_on(
    tmp_path: Path, plain: Any, ours: Any, env: Callable[[int], Any], options: Callable[..., Any], pull: Any
) -> None:
    model = ours("MlpPolicy", env(2), aux=HEADS, pull=pull, augment="amplitude_scale", **options()).learn(40)
    model.save(tmp_path / "model")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = plain.load(tmp_path / "model", env=env(2))
    assert not differ(model, loaded) and type(loaded.replay_buffer) is ReplayBuffer
    for name, state in loaded.get_parameters().items():
        assert_equal(state, model.get_parameters()[name])
    obs = model.observation_space.sample()
    assert np.array_equal(model.predict(obs, deterministic=True)[0], loaded.predict(obs, deterministic=True)[0])
    assert loaded.learn(30, reset_num_timesteps=False)._n_updates > model._n_updates
    loaded.save(tmp_path / "onwards")  # there its heads are gone
    assert not ours.load(tmp_path / "onwards", env=env(2)).aux
    with pytest.warns(UserWarning, match=f"the file has no heads: aux={','.join(HEADS)} begins anew"):
        again = ours.load(tmp_path / "onwards", env=env(2), aux=HEADS)
    assert not differ(again, loaded) and follows(again)


def test_a_file_of_n_step_returns_opens_without_heads(tmp_path: Path) -> None:
    AuxSAC("MlpPolicy", chase(), aux=["curl"], n_steps=3, **small()).learn(30).save(tmp_path / "model")
    with pytest.warns(UserWarning, match="n_steps=3"):  # SB3's own word about any such file
        loaded = SAC.load(tmp_path / "model", env=chase())
    assert type(loaded.replay_buffer) is NStepReplayBuffer and loaded.replay_buffer.n_steps == 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert isinstance(AuxSAC.load(tmp_path / "model", env=chase()).replay_buffer, NStepReplayBuffer)


def frames() -> DummyVecEnv:
    return DummyVecEnv([lambda: ToyPixels(size=40).make(0)])


def on_frames() -> dict[str, Any]:
    options = small(buffer_size=60)
    return options | {"policy_kwargs": {"net_arch": [8], "features_extractor_kwargs": {"features_dim": 8}}}


def of_sb3(policy: str, path: Path) -> SAC:
    """Return an agent that SB3 trained, and save it."""
    env, options = (frames(), on_frames()) if policy == "CnnPolicy" else (chase(), small())
    trained = SAC(policy, env, **options).learn(24)
    trained.save(path)
    return trained


@pytest.mark.parametrize("policy", ["CnnPolicy", "MlpPolicy"])
def test_an_agent_of_sb3s_gets_heads(tmp_path: Path, policy: str) -> None:
    """As the docstring says: by its file, into a model by its file or by its parameters, or by its policy alone."""
    trained = of_sb3(policy, tmp_path / "trained")
    env, options = (frames, on_frames) if policy == "CnnPolicy" else (chase, small)
    with pytest.warns(UserWarning, match="the file has no heads: aux=curl begins anew") as said:
        loaded = AuxSAC.load(tmp_path / "trained", env(), aux=["curl"])
    assert [warning.filename for warning in said] == [__file__]
    assert loaded.num_timesteps == trained.num_timesteps
    models = [loaded]
    policy_alone = {"policy": trained.get_parameters()["policy"]}
    for source in (tmp_path / "trained", trained.get_parameters(), policy_alone):
        models.append(AuxSAC(policy, env(), aux=["curl"], **options() | {"seed": 8}))
        assert not follows_of(models[-1], trained)
        models[-1].set_parameters(source, exact_match=False)
    for number, model in enumerate(models):
        assert not differ(model, trained) and follows(model) and follows_of(model, trained)
        if number < 3:
            mine, theirs = (each.get_parameters()["critic.optimizer"] for each in (model, trained))
            assert_equal(mine, theirs)
    assert differ(loaded.learn(24, reset_num_timesteps=False), trained)


def follows_of(model: Any, trained: Any) -> bool:
    """Whether a model's momentum target is the features extractor of another."""
    target = model.aux_modules.target.module.state_dict()
    return all(torch.equal(target[key], p) for key, p in trained.critic.features_extractor.state_dict().items())


def test_sb3_finds_nothing_of_rlreps_in_a_file(tmp_path: Path) -> None:
    """So that one opens where there is no rlrep (but for `MlpPolicy`, whose extractor is rlrep's)."""
    more: Any = {"augment": RandomShift(40), "encoder_tau": 0.125, "aux_max_norm": None, "pull": "sum"}
    AuxSAC("CnnPolicy", frames(), aux=["curl"], **more, **on_frames()).learn(22).save(tmp_path / "model")
    with ZipFile(tmp_path / "model.zip") as archive:
        stored = json.loads(archive.read("data"))
        theirs = [name for name in archive.namelist() if name.endswith(".pth")]
    assert not stored.keys() & {"aux", "augment", "pull", "encoder_tau", "aux_max_norm", "aux_modules"}
    pickled = [each[":serialized:"] for each in stored.values() if isinstance(each, dict) and ":serialized:" in each]
    objects = [base64.b64decode(each) for each in pickled]
    assert objects and not any(b"rlrep" in each for each in objects)
    assert not any(name.startswith("aux") for name in theirs)
    loaded = AuxSAC.load(tmp_path / "model", frames(), "cpu", {"encoder_tau": 0.5})
    assert {name: getattr(loaded, name) for name in more} == more | {"encoder_tau": 0.5}


@pytest.mark.filterwarnings("ignore:FlattenExtractor has no parameters:UserWarning")
def test_a_policy_without_extractor_is_refused_in_one_line(tmp_path: Path) -> None:
    """Also where its sizes would fit by accident."""
    line = "features extractor has no parameters does not fit one with MLPExtractor, which heads train"
    options: dict[str, Any] = {"learning_starts": 10, "buffer_size": 20, "device": "cpu", "seed": 0}
    flat = SAC("MlpPolicy", chase(), **options)
    flat.save(tmp_path / "flat")
    model = AuxSAC("MlpPolicy", chase(), aux=["curl"], **options)
    for source in (tmp_path / "flat", flat.get_parameters(), {"policy": flat.get_parameters()["policy"]}):
        for exact in (True, False):
            with pytest.raises(RuntimeError, match=line) as error:
                model.set_parameters(source, exact_match=exact)
            assert "\n" not in str(error.value)
    with pytest.raises(RuntimeError, match=line):
        AuxSAC.load(tmp_path / "flat", chase(), aux=["curl"])
    wide = SAC("MlpPolicy", chase(), **small(policy_kwargs={"net_arch": [9]}))
    with pytest.raises(RuntimeError, match=r"do not fit: actor.latent_pi.0.weight is of \(9, 64\)") as error:
        AuxSAC("MlpPolicy", chase(), aux=["curl"], **small()).set_parameters(wide.get_parameters(), exact_match=False)
    assert "\n" not in str(error.value)


def test_what_is_no_file_is_said_as_sb3_says_it(tmp_path: Path) -> None:
    (tmp_path / "text.zip").write_text("nothing")
    with pytest.raises(ValueError, match="wasn't a zip-file"):
        AuxSAC.load(tmp_path / "text.zip", chase())
    with pytest.raises(FileNotFoundError):
        AuxSAC.load(tmp_path / "nowhere", chase())


def test_heads_of_others_are_left_out_on_demand_and_that_is_said(tmp_path: Path) -> None:
    pair = AuxSAC("MlpPolicy", chase(), aux=["curl", "return_contrast"], **small()).learn(30)
    pair.save(tmp_path / "pair")
    line = "heads curl,return_contrast do not fit AuxSAC with heads byol: they are left out"
    for source in (tmp_path / "pair", pair.get_parameters()):
        model = AuxSAC("MlpPolicy", chase(), aux=["byol"], **small(seed=8))
        before = {name: p.clone() for name, p in model.aux_modules.heads.state_dict().items()}
        with pytest.warns(UserWarning, match=line):
            model.set_parameters(source, exact_match=False)
        assert not differ(model, pair) and follows(model)
        assert_equal(before, dict(model.aux_modules.heads.state_dict()))
    plain = AuxSAC("MlpPolicy", chase(), **small(seed=8))
    with pytest.warns(UserWarning, match="do not fit AuxSAC without heads: they are left out"):
        plain.set_parameters(tmp_path / "pair", exact_match=False)
    assert not differ(plain, pair)


def test_heads_of_other_sizes_are_refused_in_one_line() -> None:
    wide = AuxSAC("MlpPolicy", chase(), aux={"byol": {"hidden_dim": 7}}, **small())
    model = AuxSAC("MlpPolicy", chase(), aux=["byol"], **small())
    with pytest.raises(RuntimeError, match="heads of other sizes do not fit AuxSAC with heads byol") as error:
        model.set_parameters(wide.get_parameters())
    assert "\n" not in str(error.value)


def test_optimisers_of_sb3s_are_its_own_and_heads_have_the_policys_kind() -> None:
    chosen = {"optimizer_class": torch.optim.AdamW, "optimizer_kwargs": {"weight_decay": 0.1, "eps": 1e-5}}
    model = AuxSAC("MlpPolicy", chase(), aux=["curl"], pull="sum", **small(policy_kwargs=chosen)).learn(25)
    plain = SAC("MlpPolicy", chase(), **small(policy_kwargs=chosen)).learn(25)
    assert len(model.critic.optimizer.param_groups) == 1
    sizes = [sum(len(group["params"]) for group in each.critic.optimizer.param_groups) for each in (model, plain)]
    assert sizes[0] == sizes[1]
    beside = model.aux_modules.joint
    assert type(beside) is torch.optim.AdamW and beside.param_groups[0]["weight_decay"] == 0.1
    assert beside.param_groups[0]["eps"] == 1e-5 and beside.param_groups[0]["lr"] == 3e-4


def test_a_buffer_class_named_by_hand_serves_without_heads_too(tmp_path: Path) -> None:
    plain = SAC("MlpPolicy", chase(), **small()).learn(30)
    for algorithm in (SAC, AuxSAC):
        model = algorithm("MlpPolicy", chase(), replay_buffer_class=AuxReplayBuffer, **small())
        assert not differ(model.learn(30), plain)
        model.save_replay_buffer(tmp_path / "buffer")
        model.load_replay_buffer(tmp_path / "buffer")
        assert model.replay_buffer is not None and model.replay_buffer.size() == 30
