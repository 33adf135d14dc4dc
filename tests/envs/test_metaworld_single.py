"""Meta-World's MT1 as a single environment: goals of its own, action repeat, pixels, exact state, settings."""

import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_env_sb3

from rlrep.config.compose import compose_run
from rlrep.envs.metaworld.families import ML1, ML10, ML45, MT10
from rlrep.envs.metaworld.simulator import Simulator
from rlrep.envs.metaworld.single import MT1, MT1Env
from rlrep.envs.metaworld.tasks import goals
from rlrep.settings import ConfigError


def actions(count: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).uniform(-1, 1, (count, 4)).astype(np.float32)


def check_resume(config: MT1, steps: int) -> None:
    """Save in a second episode, load into a twin of another seed, compare the rest of it and the next episode."""
    env, twin = config.make(7), config.make(8)
    env.reset(seed=3)
    env.step(actions(1)[0])
    obs, _ = env.reset()
    for action in actions(steps):
        obs, *_ = env.step(action)
    assert np.array_equal(twin.load_state(env.state()), obs)
    for action in actions(3, seed=1):
        one, two = env.step(action), twin.step(action)
        assert np.array_equal(one[0], two[0]) and one[1:] == two[1:]
    assert np.array_equal(env.reset()[0], twin.reset()[0])
    assert env.labels() == twin.labels()
    env.close()
    twin.close()


@pytest.mark.filterwarnings("ignore")
def test_checkers_pass() -> None:
    check_env(MT1("door-close-v3", horizon=10).make(0), skip_render_check=True)
    env = MT1("reach-v3", "pixels", size=40, horizon=6).make(0)
    check_env_sb3(env)
    env.close()


def test_a_scripted_policy_solves_reach_and_the_reward_is_the_packages() -> None:
    from metaworld.policies import SawyerReachV3Policy

    env, policy = MT1("reach-v3", horizon=150).make(0), SawyerReachV3Policy()
    obs, _ = env.reset(seed=1)
    assert obs.dtype == np.float32 and obs.shape == (39,)
    rewards, solved = [], []
    while True:
        obs, reward, terminated, truncated, info = env.step(np.clip(policy.get_action(obs), -1, 1))
        assert not terminated
        rewards.append(reward)
        solved.append(info["success"])
        if truncated:
            break
    assert len(rewards) == 150 and 0 < rewards[0] < 5 < max(rewards) <= 10
    assert solved[0] == 0.0 and max(solved) == 1.0


def test_every_episode_draws_one_of_the_goals_from_the_environments_own_generator() -> None:
    env, known = MT1("reach-v3").make(0), {goal[3:] for goal in goals(("reach-v3",), 0)["reach-v3"]}
    np.random.seed(0)
    drawn = [tuple(env.reset()[0][-3:].tolist()) for _ in range(6)]
    assert np.random.uniform() == np.random.RandomState(0).uniform()
    assert len(set(drawn)) > 3
    assert all(min(np.abs(np.subtract(goal, target)).max() for goal in known) < 1e-6 for target in drawn)
    assert np.array_equal(env.reset(seed=4)[0], MT1("reach-v3").make(9).reset(seed=4)[0])
    assert not np.array_equal(env.reset(seed=4)[0], env.reset(seed=5)[0])


def test_rewards_of_repeated_steps_add_up_and_the_horizon_counts_env_steps() -> None:
    one, two = (MT1("push-v3", action_repeat=repeat, horizon=5).make(0) for repeat in (1, 2))
    one.reset(seed=1)
    two.reset(seed=1)
    action = actions(1)[0]
    parts = [one.step(action) for _ in range(5)]
    whole = [two.step(action) for _ in range(3)]
    assert [step[3] for step in parts] == [False] * 4 + [True] and [step[3] for step in whole] == [False, False, True]
    assert [step[1] for step in whole] == [parts[0][1] + parts[1][1], parts[2][1] + parts[3][1], parts[4][1]]
    assert np.array_equal(whole[-1][0], parts[-1][0])


def test_resume_is_exact() -> None:
    check_resume(MT1("push-v3", action_repeat=2), 9)
    check_resume(MT1("window-open-v3", "pixels", size=32), 4)


def test_pixels_are_stacked_oldest_first_and_upright() -> None:
    env = MT1("push-v3", "pixels", action_repeat=2, size=48).make(0)
    first, _ = env.reset(seed=1)
    assert first.shape == (9, 48, 48) and first.dtype == np.uint8
    assert np.array_equal(first[:3], first[6:])
    second = first
    for _ in range(3):
        before = second
        second, *_ = env.step(np.array([1, 1, -1, 1], np.float32))
        assert np.array_equal(second[:6], before[3:])
    assert not np.array_equal(second[6:], first[6:])
    video = env.render()
    assert video.shape == (256, 256, 3)
    top, bottom = video[:20].mean((0, 1)), video[-20:].mean((0, 1))
    assert np.ptp(top) < 20 < np.ptp(bottom)  # grey sky above, the wooden table below
    env.close()


def test_the_target_is_seen_in_the_pixels_and_drawing_it_changes_nothing() -> None:
    world = Simulator("push-v3", goal_visible=True, reward_version="v2")
    frames = []
    for goal in ([0.0, 0.62, 0.02, x, 0.85, 0.015] for x in (-0.09, 0.09)):
        world.begin(goal)
        before = world.state()["physics"].copy()
        frames.append(world.frame(84, shadows="off").astype(int))
        assert np.array_equal(world.state()["physics"], before)
    changed = np.abs(frames[0] - frames[1]).max(2) > 60
    assert 2 <= changed.sum() <= 40  # a small green ball, here and there
    world.close()


@pytest.mark.parametrize(("name", "marker"), [("sweep-v3", "goal"), ("pick-out-of-hole-v3", "goal")])
def test_markers_are_drawn_where_the_target_is(monkeypatch: pytest.MonkeyPatch, name: str, marker: str) -> None:
    world = Simulator(name, goal_visible=True, reward_version="v2")
    world.begin(goals((name,), 0)[name][0])
    world.step(actions(1)[0])
    data, seen = world._env.data, []

    class Spy:
        def frame(self) -> Any:
            seen.append(data.site(marker).xpos.copy())
            return np.zeros((8, 8, 3), np.uint8)

    monkeypatch.setattr(world, "_renderer", lambda *_: Spy())
    before = data.site_xpos.copy()
    world.frame(8)
    assert seen[0] == pytest.approx(world.target())
    assert np.array_equal(data.site_xpos, before)


WITHOUT_GL = """
from rlrep.envs.metaworld.single import MT1
print(MT1("reach-v3").make(0).reset()[0].shape)
try:
    MT1("reach-v3", "pixels").make(0)
except RuntimeError as error:
    print(error)
"""


def test_without_gl_states_work_and_pixels_say_what_to_install() -> None:
    environment = {**os.environ, "MUJOCO_GL": "disable"}
    answer = subprocess.run(
        [sys.executable, "-c", WITHOUT_GL], env=environment, capture_output=True, text=True, check=True
    )
    shape, line = answer.stdout.splitlines()
    assert shape == "(39,)"
    assert line.startswith("cannot render pixels: no working OpenGL") and "apt-get install libegl1" in line


def composed(words: Sequence[str]) -> Any:
    return compose_run(words).config


def test_settings_of_the_families() -> None:
    push = composed(["env=metaworld_push"])
    assert isinstance(push.env, ML1) and push.env.task == "push-v3" and push.env.horizon == 500
    assert (push.agent.latent_dim, push.agent.reward_scale, push.agent.tasks_per_iteration) == (7, 10.0, 15)
    assert push.train.updates_per_step * 15 * 2000 == pytest.approx(4000, abs=0.01)
    assert composed(["env=metaworld_reach", "env.horizon=200"]).env.horizon == 200
    assert composed(["env=metaworld_pick_place"]).env.task == "pick-place-v3"
    for name, kind in (("ml10", ML10), ("ml45", ML45), ("mt10", MT10)):
        assert type(composed([f"env=metaworld_{name}"]).env) is kind


def test_settings_of_single_environments() -> None:
    state = composed(["env=metaworld_mt1", "env.task=push-v3"])
    pixels = composed(["env=metaworld_mt1", "env.task=push-v3", "env.obs=pixels"])
    assert isinstance(state.env.make(0), MT1Env) and not state.env.in_workers and pixels.env.in_workers
    assert (state.env.action_repeat, pixels.env.action_repeat, pixels.env.frame_stack) == (1, 2, 3)
    assert type(state.augment) is not type(pixels.augment)
    asked = composed(["env=metaworld_mt1", "env.task=push-v3", "env.obs=pixels", "env.action_repeat=4"])
    assert asked.env.action_repeat == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["env=metaworld_push", "env.obs=pixels"], "env.obs=pixels is not a choice: valid: state"),
        (["env=metaworld_mt1"], "env.task has no value yet"),
        (["env=metaworld_mt1", "env.task=pish-v3"], "env.task=pish-v3 is unknown: did you mean push-v3"),
        (["env=metaworld_mt1", "env.task=push-v3", "env.camera=corner9"], "env.camera=corner9 is not a choice"),
        (["env=metaworld_mt1", "env.task=push-v3", "env.horizon=501"], "env.horizon must be 1 to 500"),
    ],
)
def test_wrong_settings_are_one_line(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        compose_run(words)
    assert message in str(error.value) and "\n" not in str(error.value)
