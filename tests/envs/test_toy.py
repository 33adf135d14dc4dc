"""The toy chase: contract of an environment, known optimum, exact resume."""

from typing import Any

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_env_sb3

from rlrep.envs.toy import EPISODE_STEPS, ToyEnv, ToyPixels, ToyState

CONFIGS = [ToyState(), ToyState(terminates=True), ToyPixels(), ToyPixels(terminates=True, size=20, frame_stack=2)]


def run(env: ToyEnv, policy: Any) -> tuple[float, bool, bool, int]:
    env.reset()
    total, steps = 0.0, 0
    while True:
        _, reward, terminated, truncated, _ = env.step(policy(env))
        total, steps = total + reward, steps + 1
        if terminated or truncated:
            return total, terminated, truncated, steps


def chase(env: ToyEnv) -> Any:
    """The best policy, read off a state observation: at full speed to the target, then rest."""
    agent, target = env._agent, env._target
    return np.array([np.clip((target - agent) / 0.25, -1, 1)], np.float32)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("config", CONFIGS)
def test_checkers_pass(config: ToyState | ToyPixels) -> None:
    check_env(config.make(0), skip_render_check=True)
    check_env_sb3(config.make(0))


@pytest.mark.parametrize("config", CONFIGS)
def test_optimal_return_is_reached_and_never_passed(config: ToyState | ToyPixels) -> None:
    env, optimal = config.make(3), config.scoring().references["optimal"]
    best = [run(env, chase) for _ in range(8)]
    assert {total for total, *_ in best} == {optimal} == {env.optimal_return}
    random = np.random.default_rng(0)
    others = [run(env, lambda _: random.uniform(-1, 1, 1).astype(np.float32))[0] for _ in range(100)]
    assert max(others) <= optimal
    assert np.mean(others) < 0.7 * optimal
    assert 0 < np.mean([total > 0 for total in others]) < 1, "rewards are sparse, yet random actions find some"


def test_ends_by_truncation_or_by_termination() -> None:
    _, terminated, truncated, steps = run(ToyState().make(0), chase)
    assert (terminated, truncated, steps) == (False, True, EPISODE_STEPS)
    _, terminated, truncated, steps = run(ToyState(terminates=True).make(0), chase)
    assert (terminated, truncated, steps) == (True, False, 3)
    _, terminated, truncated, _ = run(ToyState(terminates=True).make(0), lambda _: np.zeros(1, np.float32))
    assert (terminated, truncated) == (False, True)


@pytest.mark.parametrize("config", CONFIGS)
def test_state_round_trip_is_exact(config: ToyState | ToyPixels) -> None:
    env, other = config.make(1), config.make(2)
    actions = np.random.default_rng(0).uniform(-1, 1, (60, 1)).astype(np.float32)
    obs, _ = env.reset()
    for action in actions[:2]:
        obs, *_ = env.step(action)
    assert np.array_equal(other.load_state(env.state()), obs)
    for action in actions:
        one, two = env.step(action), other.step(action)
        assert np.array_equal(one[0], two[0]) and one[1:4] == two[1:4]
        if one[2] or one[3]:
            assert np.array_equal(env.reset()[0], other.reset()[0])


def test_reset_seed_fixes_the_episode() -> None:
    env, other = ToyState().make(0), ToyState().make(5)
    for _ in range(7):
        other.reset()
    sides = set()
    for seed in range(12):
        assert np.array_equal(env.reset(seed=seed)[0], other.reset(seed=seed)[0])
        sides.add(env._target)
    assert len(sides) == 2


def test_frames_tell_the_position_and_are_stacked_oldest_first() -> None:
    env = ToyPixels(size=16, frame_stack=3).make(0)
    obs, _ = env.reset()
    assert np.array_equal(obs[:3], obs[3:6]) and np.array_equal(obs[3:6], obs[6:])
    after, *_ = env.step(np.array([0.1], np.float32))
    assert np.array_equal(after[:6], obs[3:]) and not np.array_equal(after[6], obs[6])
    assert np.array_equal(after[7], obs[7]), "the target stays"
    with pytest.raises(ValueError, match="size"):
        ToyPixels(size=2)
