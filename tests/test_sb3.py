"""Heads in Stable-Baselines3's algorithms: one step on the sum of both gradients, and everything else as SB3 has it."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import DDPG, DQN, SAC, TD3, HerReplayBuffer
from stable_baselines3.common.callbacks import CheckpointCallback, EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, NatureCNN
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecFrameStack, VecNormalize
from torch import Tensor, nn

from rlrep.agents.sb3 import AuxDQN, AuxMixin, AuxSAC, MLPExtractor
from rlrep.aux import Encoded, Encoders, Metrics
from rlrep.envs.toy import ToyPixels, ToyState
from rlrep.replay import Batch, Needs


def small(**more: Any) -> dict[str, Any]:
    """Return options of a small model that learns early (a dict of its own: SB3 writes into policy_kwargs)."""
    policy = {"net_arch": [8], "features_extractor_class": MLPExtractor, **more.pop("policy_kwargs", {})}
    options = {"learning_starts": 20, "buffer_size": 36, "batch_size": 8, "seed": 3, "device": "cpu"}
    return {**options, "policy_kwargs": policy, **more}


def discrete(**more: Any) -> dict[str, Any]:
    return small(train_freq=1, target_update_interval=7, **more)


pytestmark = pytest.mark.filterwarnings("ignore:FlattenExtractor has no parameters:UserWarning")  # one test asserts it

HEADS = ["curl", "return_contrast", "self_prediction"]
SILENT = {name: {"weight": 0.0} for name in HEADS}


class AuxTD3(AuxMixin, TD3):
    """What CONTRIBUTING's readers would write."""


class AuxDDPG(AuxMixin, DDPG):
    """The same."""


def chase(count: int = 1) -> DummyVecEnv:
    return DummyVecEnv([partial(ToyState().make, seed) for seed in range(count)])


def cartpole(count: int = 1) -> Any:
    return make_vec_env("CartPole-v1", count)


def weights(model: Any) -> dict[str, Tensor]:
    state = dict(model.policy.state_dict())
    return state | ({f"aux.{k}": v for k, v in model.aux_modules.state_dict().items()} if model.aux else {})


def assert_same(first: Any, second: Any) -> None:
    ours, theirs = weights(first), weights(second)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


def differ(first: Any, second: Any) -> bool:
    return any(
        not torch.equal(a, b) for a, b in zip(first.policy.parameters(), second.policy.parameters(), strict=True)
    )


# One joint step


@pytest.mark.parametrize(
    ("plain", "ours", "env", "options"),
    [
        (SAC, AuxSAC, chase(1), small),
        (SAC, AuxSAC, chase(3), small),
        (TD3, AuxTD3, chase(1), small),
        (DQN, AuxDQN, cartpole(3), discrete),
    ],
)
def test_silent_heads_leave_the_algorithm_as_it_is(
    plain: Any, ours: Any, env: Any, options: Callable[..., dict[str, Any]]
) -> None:
    """Past where the buffer wraps, exactly: nothing of SB3's random streams is used."""
    reference = plain("MlpPolicy", env, **options()).learn(50)
    for aux in ((), SILENT):
        model = ours("MlpPolicy", env, aux=aux, **options()).learn(50)
        assert not differ(model, reference) and model._n_updates == reference._n_updates >= 10
    heard = ours("MlpPolicy", env, aux=HEADS, **options()).learn(50)
    assert differ(heard, reference)


def test_n_step_returns_stay_as_they_are() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = AuxSAC("MlpPolicy", chase(2), aux=SILENT, n_steps=3, **small()).learn(50)
    assert not differ(model, SAC("MlpPolicy", chase(2), n_steps=3, **small()).learn(50))


class Linear(BaseFeaturesExtractor):
    """z = W x."""

    def __init__(self, observation_space: spaces.Box) -> None:
        super().__init__(observation_space, 3)
        self.layer = nn.Linear(2, 3, bias=False)

    def forward(self, observations: Tensor) -> Tensor:
        return self.layer(observations)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class SmallLatent:
    """Half the squared norm of the latent: its gradient is z x' / B."""

    weight: float = 1.0

    def make(self, name: str, latent_dim: int, action_space: spaces.Space[Any]) -> "SmallLatentTask":
        return SmallLatentTask()


class SmallLatentTask(nn.Module):
    needs = Needs()

    def loss(self, batch: Batch, encoded: Encoded, encoders: Encoders) -> tuple[Tensor, Metrics]:
        assert torch.allclose(encoders.target(batch.obs), encoded.latent) and batch.discount.shape == batch.reward.shape
        return 0.5 * encoded.latent.square().sum(1).mean(), {}

    def after_update(self) -> None:
        """Nothing moves."""


def first_gradient(max_norm: float | None = None, **heads: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Return the critic's extractor's weight, its gradient as the optimiser sees it, and the batch of a first step."""
    options = small(policy_kwargs={"features_extractor_class": Linear}, learning_starts=30)
    model = AuxSAC("MlpPolicy", chase(), aux=heads, aux_max_norm=max_norm, **options)
    layer: Any = model.critic.features_extractor.layer
    before, seen = layer.weight.detach().clone(), []

    def look(*_: Any) -> None:
        seen.append(layer.weight.grad.clone())

    model.critic.optimizer.register_step_pre_hook(look)
    model.learn(31)
    buffer: Any = model.replay_buffer
    return before, seen[0], buffer.last.obs


def test_gradient_is_the_sum_of_both() -> None:
    weight, alone, obs = first_gradient(norm=SmallLatent(weight=0.0))
    _, joint, same_obs = first_gradient(norm=SmallLatent(weight=2.0))
    assert torch.equal(obs, same_obs)
    closed_form = weight @ obs.T @ obs / len(obs)
    torch.testing.assert_close(joint - alone, 2 * closed_form, atol=1e-6, rtol=1e-5)


def test_the_heads_gradient_is_clipped_by_itself() -> None:
    _, alone, _ = first_gradient(norm=SmallLatent(weight=0.0))
    _, joint, _ = first_gradient(1e-3, norm=SmallLatent(weight=50.0))
    assert float((joint - alone).norm()) == pytest.approx(1e-3, rel=1e-3)


def test_heads_learn_by_the_algorithms_schedule() -> None:
    model = AuxSAC("MlpPolicy", chase(), aux=HEADS, learning_rate=lambda left: 1e-3 * left, **small())
    before = {name: p.detach().clone() for name, p in model.aux_modules.heads.named_parameters() if p.requires_grad}
    model.learn(30)
    after = dict(model.aux_modules.heads.named_parameters())
    assert [name for name, value in before.items() if torch.equal(value, after[name])] == []
    assert len({group["lr"] for group in model.critic.optimizer.param_groups}) == 1
    target = dict(model.aux_modules.target.module.named_parameters())
    for name, p in model.critic.features_extractor.named_parameters():
        assert not torch.equal(target[name], p)


def test_a_shared_extractor_is_trained_by_its_own_optimiser() -> None:
    shared = {"policy_kwargs": {"share_features_extractor": True}}
    model = AuxSAC("MlpPolicy", chase(), aux=["curl"], **small(**shared))
    assert len(model.actor.optimizer.param_groups) == 2 and len(model.critic.optimizer.param_groups) == 1
    assert differ(model.learn(40), SAC("MlpPolicy", chase(), **small(**shared)).learn(40))


def test_a_loss_that_is_not_finite_stops_in_one_line() -> None:
    model = AuxSAC("MlpPolicy", chase(), aux={"norm": SmallLatent(weight=float("inf"))}, **small())
    with pytest.raises(FloatingPointError, match="update 1: aux/gradient_norm not finite"):
        model.learn(40)


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


def test_saved_and_loaded_it_goes_on_the_same(tmp_path: Path) -> None:
    model = AuxSAC("MlpPolicy", chase(2), aux=HEADS, **small()).learn(40)
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
    assert more.replay_buffer.n_envs == 3
    more.set_parameters(tmp_path / "rl_model_40_steps")
    assert_same(more, AuxSAC.load(tmp_path / "rl_model_40_steps", env=chase()))


def test_an_agent_of_sb3s_gets_heads(tmp_path: Path) -> None:
    trained = SAC("MlpPolicy", chase(), **small()).learn(30)
    model = AuxSAC("MlpPolicy", chase(), aux=PAIR, **small(seed=8))
    model.set_parameters({"policy": trained.get_parameters()["policy"]}, exact_match=False)
    assert not differ(model, trained) and differ(model.learn(40), trained)


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


# What the buffer keeps


@pytest.mark.parametrize("n_steps", [1, 3])
def test_rows_are_those_of_the_sample(n_steps: int) -> None:
    model = AuxSAC("MlpPolicy", chase(3), aux=HEADS, n_steps=n_steps, **small()).learn(60)
    buffer: Any = model.replay_buffer
    drawn = buffer.last
    step, env = np.divmod(drawn.rows.numpy(), 3)
    assert np.array_equal(buffer.observations[step, env], drawn.obs.numpy())
    assert np.array_equal(buffer.actions[step, env], drawn.samples.actions.numpy())
    if n_steps == 1:
        assert np.array_equal(buffer.rewards[step, env], drawn.samples.rewards.squeeze(1).numpy())


def test_episodes_that_learn_cuts_off_are_not_joined() -> None:
    """The second learn() resets the environment amid an episode: what follows a row stays within its episode."""
    model = AuxSAC("MlpPolicy", chase(), aux={"self_prediction": {"steps": 5}}, **small())
    model.learn(25)
    model.learn(8)
    buffer: Any = model.replay_buffer
    first = buffer._first[: buffer.pos, 0]
    assert list(np.unique(first)) == [0, 20, 25]
    rows = torch.tensor([22, 23, 24])
    _, valid = buffer._rows.ahead(rows, torch.zeros_like(rows), 4)
    assert valid.sum(1).tolist() == [3, 2, 1]


class Limited(gymnasium.Env[Any, Any]):
    """Odd episodes end after 5 steps, even ones are cut off after 7. Observations say where: (episode, step)."""

    observation_space = spaces.Box(0, 1e6, (2,))
    action_space = spaces.Box(-1, 1, (1,))
    episode = -1

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.episode, self.time = self.episode + 1, 0
        return np.array([self.episode, 0], np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.time += 1
        odd, obs = bool(self.episode % 2), np.array([self.episode, self.time], np.float32)
        return obs, float(self.time == 3), odd and self.time >= 5, not odd and self.time >= 7, {}


def test_time_limits_bootstrap_and_still_end_labels() -> None:
    heads = {"return_contrast": {"mode": "reward_event"}, "self_prediction": {"steps": 4}}
    model = AuxSAC("MlpPolicy", Limited(), aux=heads, **small(buffer_size=200, batch_size=64)).learn(100)
    buffer: Any = model.replay_buffer
    batch = model._joint._batch(buffer.last)
    episode, time = batch.obs.long().T
    length = torch.where(episode % 2 == 1, 5, 7)
    assert torch.equal(batch.discount == 0, (episode % 2 == 1) & (time == 4)) and (time == 6).any()
    pairs, later = batch.extra["return_contrast"].pairs, batch.extra["self_prediction"].later
    assert pairs is not None and later is not None
    assert torch.equal(pairs.obs[:, 0], batch.obs[:, 0]) and torch.equal(pairs.obs[:, 1] < 3, time < 3)
    for steps, obs, valid in zip(range(1, 5), later.obs, later.valid, strict=True):
        assert torch.equal(valid, (time + steps <= length) & (buffer.last.rows + steps <= buffer.pos))
        assert torch.equal(obs[valid], torch.stack([episode, time + steps], 1)[valid].float())


def test_normalised_observations_are_normalised_everywhere() -> None:
    env = VecNormalize(chase(2), norm_reward=False)
    model = AuxSAC("MlpPolicy", env, aux=["return_contrast"], **small()).learn(60)
    buffer: Any = model.replay_buffer
    drawn = buffer.last
    torch.testing.assert_close(buffer._rows.stacks(drawn.rows), drawn.obs)
    step, one = np.divmod(drawn.rows.numpy(), 2)
    assert not np.allclose(buffer.observations[step, one], drawn.obs.numpy())


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
    for name, had in (("pair", "with heads curl,return_contrast"), ("plain", "without heads")):
        with pytest.raises(RuntimeError, match=f"parameters {had} do not fit AuxSAC with heads curl") as error:
            AuxSAC.load(tmp_path / name, env=chase(), aux=["curl"])
        assert "\n" not in str(error.value)
    assert AuxSAC.load(tmp_path / "plain", env=chase()).learn(10).num_timesteps == 10
