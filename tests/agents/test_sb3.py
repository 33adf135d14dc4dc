"""Heads in Stable-Baselines3's algorithms: one step on the sum of both gradients, and everything else as SB3 has it."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import DQN, SAC, TD3
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor, nn

from rlrep.agents.sb3 import AuxDQN, AuxSAC
from rlrep.agents.sb3.joint import owner
from rlrep.agents.sb3.replay import AuxReplayBuffer, Drawn, Draws
from rlrep.heads import Encoded, Encoders, Head, Metrics
from rlrep.replay import UNKNOWN, Batch, LaterSteps, Needs, Pairs, ReturnBin, ReturnLabels, SameReturn, SeenAt
from rlrep.replay.kinds.same_return import SameReturnSampler
from tests.replay.replay_twin import Script, make_script, make_spec

from .sb3_models import HEADS, SILENT, AuxTD3, cartpole, chase, differ, discrete, small

pytestmark = pytest.mark.filterwarnings("ignore:FlattenExtractor has no parameters:UserWarning")  # one test asserts it

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

    def make(self, name: str, latent_dim: int, action_space: spaces.Space[Any]) -> "SmallLatentHead":
        return SmallLatentHead()


class SmallLatentHead(Head):
    """Half the squared length of the latent."""

    def loss(self, batch: Batch, pairs: Pairs, encoded: Encoded, encoders: Encoders) -> tuple[Tensor, Metrics]:
        assert torch.allclose(encoders.target(batch.obs), encoded.latent) and batch.discount.shape == batch.reward.shape
        return 0.5 * encoded.latent.square().sum(1).mean(), {}


def one_linear(**more: Any) -> AuxSAC:
    """A model whose extractor is one matrix, and which makes its first update at step 31."""
    options = small(policy_kwargs={"features_extractor_class": Linear}, learning_starts=30)
    return AuxSAC("MlpPolicy", chase(), **more, **options)


def first_gradient(max_norm: float | None = None, pull: Any = "sum", **heads: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Return the critic's extractor's weight, its gradient as the optimiser sees it, and the batch of a first step."""
    model = one_linear(aux=heads, aux_max_norm=max_norm, pull=pull)
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


@pytest.mark.parametrize("weight", [0.5, 2.0])
def test_a_balanced_gradient_is_as_long_as_the_algorithms_own(weight: float) -> None:
    before, alone, obs = first_gradient(norm=SmallLatent(weight=0.0))
    _, joint, _ = first_gradient(pull="balanced", norm=SmallLatent(weight=weight))
    direction = before @ obs.T @ obs
    expected = weight * alone.norm() * direction / direction.norm()
    torch.testing.assert_close(joint - alone, expected, atol=1e-5, rtol=1e-4)


def test_own_is_an_adam_beside_the_algorithms() -> None:
    rate = 3e-4
    before, alone, obs = first_gradient(norm=SmallLatent(weight=0.0))
    model = one_linear(aux={"norm": SmallLatent(weight=2.0)}, pull="own", learning_rate=rate).learn(31)
    layer: Any = model.critic.features_extractor.layer
    twin = before.clone().requires_grad_()
    for lr, gradient in ((rate, alone), (2.0 * rate, before @ obs.T @ obs / len(obs))):
        twin.grad = gradient
        torch.optim.Adam([twin], lr).step()
    torch.testing.assert_close(layer.weight, twin, atol=1e-6, rtol=1e-5)


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
    model = AuxSAC("MlpPolicy", chase(), aux=["curl"], pull="sum", **small(**shared))
    assert owner(model.policy, model.aux_network()) is model.actor.optimizer
    assert len(model.actor.optimizer.param_groups) == len(model.critic.optimizer.param_groups) == 1
    assert differ(model.learn(40), SAC("MlpPolicy", chase(), **small(**shared)).learn(40))


def test_a_loss_that_is_not_finite_stops_in_one_line() -> None:
    model = AuxSAC("MlpPolicy", chase(), aux={"norm": SmallLatent(weight=float("inf"))}, pull="sum", **small())
    with pytest.raises(FloatingPointError, match="update 1: aux/gradient_norm, aux/grad_ratio_encoder not finite"):
        model.learn(40)


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
    (pairs,), (later,) = (batch.pairs[name].found.values() for name in heads)
    assert torch.equal(pairs.obs[:, 0], batch.obs[:, 0]) and torch.equal(pairs.obs[:, 1] < 3, time < 3)
    for steps, obs, valid in zip(range(1, 5), later.obs, later.valid, strict=True):
        assert torch.equal(valid, (time + steps <= length) & (buffer.last.rows + steps <= buffer.pos))
        assert torch.equal(obs[valid], torch.stack([episode, time + steps], 1)[valid].float())


@pytest.mark.parametrize("horizon", [3, None])
def test_bins_are_unknown_where_a_time_limit_cut_the_window_off(horizon: int | None) -> None:
    heads = {"sup_con_return": {"horizon": horizon, "discount": 1.0}}
    model = AuxSAC("MlpPolicy", Limited(), aux=heads, **small(buffer_size=200, batch_size=256)).learn(100)
    buffer: Any = model.replay_buffer
    episode, time = buffer.last.obs.long().T
    (pairs,) = buffer.pairs(buffer.last)["sup_con_return"].found.values()
    ended = episode < buffer.last.obs[:, 0].max()
    seen = (episode % 2 == 1) | (time < (7 if horizon is None else 5))
    assert torch.equal(pairs.anchor_bin != UNKNOWN, ended & seen) and (ended & ~seen).any() == (horizon is not None)
    for rewarded in (time < 3, time >= 3):  # the third step's reward lies within three steps of the first
        assert len(pairs.anchor_bin[rewarded & ended & seen].unique()) == 1


def test_buffers_have_the_labels_of_our_replay() -> None:
    """The same steps give the same segments and bins as `Replay` makes of them."""
    labels = ReturnLabels("return_threshold", segments=3, horizon=4)
    script = make_script(make_spec(steps=50), {"head": Needs((SameReturn(labels), ReturnBin(labels)))}, end=0.2)
    buffer = make_buffer(script)
    script.run(80)
    rows = torch.arange(100)
    assert buffer._samplers is not None
    mine, other = (samplers._samplers for samplers in (script.replay._samplers, buffer._samplers))
    for request, one in mine.items():
        two: Any = other[request]
        assert torch.equal(one._bins.of(rows), two._bins.of(rows)) and (one._bins.of(rows) != UNKNOWN).any()  # type: ignore[attr-defined]
        if isinstance(one, SameReturnSampler):
            assert one._segments is not None and torch.equal(one._segments._number, two._segments._number)


def test_what_stands_for_a_lost_step_follows_nothing() -> None:
    """SB3 samples the episodes of lost simulators too: what followed their rows ends before the lost step."""
    later, time = LaterSteps((1, 2, 3)), SeenAt()
    script = make_script(make_spec(steps=50), {"head": Needs((later, time))}, end=0.1, death=0.1)
    buffer = make_buffer(script)
    script.run(40)
    rows = torch.arange(80)
    pairs = buffer.pairs(Drawn(None, torch.zeros(80, 4), rows))["head"]  # type: ignore[arg-type]
    found, seen = pairs[later], pairs[time]
    for row, (step, env) in enumerate(divmod(row, 2) for row in range(80)):
        episode, index = script.twin.where[step, env]
        left = len(episode.rewards) - index - episode.dropped  # the last step of a dropped one was lost
        if left:
            assert found.valid[:, row].tolist() == [offset <= left for offset in later.offsets]
            for obs in found.obs[: min(left, 3), row]:
                index += 1
                np.testing.assert_array_equal(obs.numpy(), episode.frames[index])
        else:
            assert (seen.episode == seen.episode[row]).sum() == 1


def make_buffer(script: Script) -> AuxReplayBuffer:
    """Return a buffer that is fed with what the script's replay is fed with."""
    box = spaces.Box(-np.inf, np.inf, (4,)), spaces.Box(-1e6, 1e6, (2,))
    buffer = AuxReplayBuffer(100, *box, device="cpu", n_envs=2)
    buffer.attend(script.replay.needs, Draws.on(torch.device("cpu")))
    script.followers.append(Following(buffer))  # type: ignore[arg-type]
    return buffer


class Following:
    """Feeds what a script feeds to a replay to a buffer of SB3's."""

    def __init__(self, buffer: AuxReplayBuffer) -> None:
        self.buffer, self.obs = buffer, np.zeros((2, 4), np.float32)

    def add(
        self, action: Any, reward: Any, terminated: Any, truncated: Any, frames: Any, resets: Any, died: Any
    ) -> None:
        done = terminated | truncated | died
        cut_off = done & ~terminated
        infos = [{"TimeLimit.truncated": bool(cut), "died": bool(d)} for cut, d in zip(cut_off, died, strict=True)]
        self.buffer.add(self.obs, frames, action, reward, done, infos)
        self.buffer.bury(died)
        self.obs = np.where(done[:, None], resets, frames)


def test_normalised_observations_are_normalised_everywhere() -> None:
    env = VecNormalize(chase(2), norm_reward=False)
    model = AuxSAC("MlpPolicy", env, aux=["return_contrast"], **small()).learn(60)
    buffer: Any = model.replay_buffer
    drawn = buffer.last
    torch.testing.assert_close(buffer._rows.stacks(drawn.rows), drawn.obs)
    step, one = np.divmod(drawn.rows.numpy(), 2)
    assert not np.allclose(buffer.observations[step, one], drawn.obs.numpy())
