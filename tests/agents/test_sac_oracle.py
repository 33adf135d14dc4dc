"""Our SAC update against Stable-Baselines3's: same weights, batches and noise give the same functions."""

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import SAC as ReferenceSAC
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from torch import Tensor, nn

from rlrep.agents.sac import SAC, SACConfig
from rlrep.agents.sac.update import Due
from rlrep.contract.agent import AgentSpec
from rlrep.nn import IdentityConfig
from rlrep.replay import Batch
from rlrep.views import NoChange

STATES, ACTIONS, ROWS = 5, 2, 64
OBSERVATION = spaces.Box(-np.inf, np.inf, (STATES,), np.float32)
ACTION = spaces.Box(-1, 1, (ACTIONS,), np.float32)
SETTINGS = SACConfig(
    hidden_dim=32,
    batch_size=ROWS,
    capacity=100,
    lr=3e-4,
    alpha_lr=3e-4,
    alpha_beta1=0.9,
    initial_temperature=1.0,
    temperature_loss="log_alpha",
    critic_tau=0.005,
    actor_every=1,
    target_every=1,
    log_std_bound="clamp",
    log_std_range=(-20.0, 2.0),
    init="torch",
)


class Still(gymnasium.Env[np.ndarray[Any, Any], np.ndarray[Any, Any]]):
    """Only its spaces matter."""

    observation_space, action_space = OBSERVATION, ACTION

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return np.zeros(STATES, np.float32), {}

    def step(self, action: Any) -> Any:
        return np.zeros(STATES, np.float32), 0.0, False, False, {}


def linears(module: nn.Module) -> list[nn.Linear]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Linear)]


@torch.no_grad()
def copy_weights(ours: SAC, theirs: ReferenceSAC) -> None:
    """Give the reference our weights: its policy has one output layer each for mean and log standard deviation."""
    pairs: list[tuple[Any, Any]] = [(theirs.critic, ours.nets.q), (theirs.critic_target, ours.nets.target_q.module)]
    for target, source in pairs:
        for member, network in enumerate(target.q_networks):
            for layer, own in zip(linears(network), source.layers, strict=True):
                layer.weight.copy_(own.weight[member].T)
                layer.bias.copy_(own.bias[member, 0])
    first, second, last = linears(ours.nets.actor)
    actor: Any = theirs.actor
    outputs = ((actor.mu, slice(ACTIONS)), (actor.log_std, slice(ACTIONS, None)))
    for layer, own in zip(linears(actor.latent_pi), (first, second), strict=True):
        layer.load_state_dict(own.state_dict())
    for output, part in outputs:
        output.weight.copy_(last.weight[part])
        output.bias.copy_(last.bias[part])


def draw_batch(generator: torch.Generator) -> tuple[Tensor, ...]:
    obs, next_obs = torch.randn(2, ROWS, STATES, generator=generator).unbind()
    action = 2 * torch.rand(ROWS, ACTIONS, generator=generator) - 1
    done = (torch.rand(ROWS, generator=generator) < 0.1).float()
    return obs, action, next_obs, done, obs[:, 0] + action[:, 0]


def test_many_updates_agree_with_stable_baselines3(monkeypatch: pytest.MonkeyPatch) -> None:
    parts: dict[str, Any] = {"frame_stack": 1, "num_envs": 1, "device": torch.device("cpu"), "seed": 0, "aux": {}}
    ours = SETTINGS.make(
        AgentSpec(OBSERVATION, ACTION, **parts, encoder=IdentityConfig(), augment=NoChange(), compile="off")
    )
    theirs = ReferenceSAC(
        "MlpPolicy", Still(), device="cpu", learning_starts=1, policy_kwargs={"net_arch": [32, 32]}, batch_size=ROWS
    )
    theirs.learn(2)  # sets up its logger; the moments of its one update are dropped
    for optimiser in (theirs.actor.optimizer, theirs.critic.optimizer, theirs.ent_coef_optimizer):
        optimiser.state.clear()  # type: ignore[union-attr]
    theirs.log_ent_coef.data.zero_()  # type: ignore[union-attr]
    copy_weights(ours, theirs)
    generator = torch.Generator().manual_seed(0)
    for update in range(30):
        obs, action, next_obs, done, reward = draw_batch(generator)
        shared = ReplayBufferSamples(obs, action, next_obs, done[:, None], reward[:, None])
        monkeypatch.setattr(theirs.replay_buffer, "sample", lambda *args, shared=shared, **options: shared)
        torch.manual_seed(update)
        theirs.train(gradient_steps=1, batch_size=ROWS)
        torch.manual_seed(update)  # the reference draws for the current action first, then for the next one
        noise = torch.stack([torch.normal(torch.zeros(ROWS, ACTIONS), 1.0) for _ in range(2)]).flip(0)
        ours.updates += 1
        ours.step(Batch(obs, action, reward, 0.99 * (1 - done), next_obs), noise, Due(actor=True, targets=True))
    obs, action, *_ = draw_batch(generator)
    mean, log_std, _ = theirs.actor.get_action_dist_params(obs)
    torch.testing.assert_close(ours.nets.q(obs, action), torch.cat(theirs.critic(obs, action), 1).T, atol=2e-3, rtol=0)
    targets = torch.cat(theirs.critic_target(obs, action), 1).T
    torch.testing.assert_close(ours.nets.target_q(obs, action), targets, atol=2e-4, rtol=0)
    torch.testing.assert_close(torch.cat(ours.nets.actor(obs)), torch.cat([mean, log_std]), atol=2e-3, rtol=0)
    torch.testing.assert_close(ours.nets.log_alpha.reshape(1), theirs.log_ent_coef, atol=1e-5, rtol=0)
    assert (torch.cat([mean, log_std]) - torch.cat(_untrained(obs))).abs().max() > 1e-2  # they have moved


def _untrained(obs: Tensor) -> tuple[Tensor, Tensor]:
    parts: dict[str, Any] = {"frame_stack": 1, "num_envs": 1, "device": torch.device("cpu"), "seed": 0, "aux": {}}
    fresh = SETTINGS.make(
        AgentSpec(OBSERVATION, ACTION, **parts, encoder=IdentityConfig(), augment=NoChange(), compile="off")
    )
    mean, log_std = fresh.nets.actor(obs)
    return mean, log_std
