"""Small models of Stable-Baselines3's algorithms with heads, for tests."""

from functools import partial
from typing import Any

import gymnasium
import torch
from gymnasium import spaces
from stable_baselines3 import DDPG, TD3
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import Tensor

from rlrep.agents.sb3 import AuxMixin, MLPExtractor
from rlrep.envs.toy import ToyState


def small(**more: Any) -> dict[str, Any]:
    """Return options of a small model that learns early (a dict of its own: SB3 writes into policy_kwargs)."""
    policy = {"net_arch": [8], "features_extractor_class": MLPExtractor, **more.pop("policy_kwargs", {})}
    options = {"learning_starts": 20, "buffer_size": 36, "batch_size": 8, "seed": 3, "device": "cpu"}
    return {**options, "policy_kwargs": policy, **more}


def discrete(**more: Any) -> dict[str, Any]:
    return small(train_freq=1, target_update_interval=7, **more)


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


class Random(gymnasium.Env[Any, Any]):
    """Observations drawn from a space, episodes of seven steps, a reward at every third."""

    def __init__(self, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]) -> None:
        self.observation_space, self.action_space = observation_space, action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.time = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.time += 1
        return self.observation_space.sample(), float(self.time % 3 == 0), False, self.time >= 7, {}


def random(observation_space: spaces.Space[Any], count: int = 1) -> DummyVecEnv:
    """Return an environment with these observations; they are the same in every test."""
    observation_space.seed(1)
    return DummyVecEnv([partial(Random, observation_space, spaces.Box(-1, 1, (2,)))] * count)
