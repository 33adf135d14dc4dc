"""The suite tasks: observations, limits, seeds, exact resume, pixels against dm_control's own, failure messages."""

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_env_sb3

from rlrep.envs.dmc.env import DMC, DMCEnv
from rlrep.envs.render import gl

CURL_TASKS = [
    ("cartpole", "swingup"),
    ("reacher", "easy"),
    ("cheetah", "run"),
    ("finger", "spin"),
    ("ball_in_cup", "catch"),
    ("walker", "walk"),
]


def actions_for(env: DMCEnv, count: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).uniform(-1, 1, (count, *(env.action_space.shape or ()))).astype(np.float32)


def same(one: Any, two: Any) -> bool:
    return np.array_equal(one[0], two[0]) and one[1:4] == two[1:4]


def check_resume(config: DMC, steps: int, ahead: int) -> None:
    """Save in a second episode, load into another process's twin, compare the rest of it and the next reset."""
    env, twin = config.make(7), config.make(7)
    actions = actions_for(env, steps + ahead)
    env.reset(seed=3)
    env.step(actions[0])
    obs, _ = env.reset()
    for action in actions[:steps]:
        obs, *_ = env.step(action)
    assert np.array_equal(twin.load_state(env.state()), obs)
    for action in actions[steps:]:
        assert same(env.step(action), twin.step(action))
    assert np.array_equal(env.reset()[0], twin.reset()[0])
    env.close()
    twin.close()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("config", [DMC("walker", "walk", "pixels", 2), DMC("lqr", "lqr_2_1", "state")])
def test_checkers_pass(config: DMC) -> None:
    env = config.make(0)
    check_env(env, skip_render_check=True)
    check_env_sb3(env)
    env.close()


def test_pixels_are_stacked_oldest_first() -> None:
    env = DMC("cheetah", "run", action_repeat=4, frame_stack=3, size=64).make(0)
    first, _ = env.reset()
    assert first.shape == (9, 64, 64) and first.dtype == np.uint8
    assert np.array_equal(first[:3], first[6:])
    second, *_ = env.step(np.ones(6, np.float32))
    assert np.array_equal(second[:6], first[3:]) and not np.array_equal(second[6:], first[6:])
    assert env.render().shape == (256, 256, 3)
    env.close()


def test_rewards_of_repeated_steps_add_up() -> None:
    one, four = (DMC("walker", "walk", "state", repeat).make(0) for repeat in (1, 4))
    one.reset(seed=1)
    four.reset(seed=1)
    action = actions_for(one, 1)[0]
    parts = [one.step(action) for _ in range(4)]
    whole = four.step(action)
    assert whole[1] == pytest.approx(sum(part[1] for part in parts), abs=1e-9) and whole[1] > 0
    assert np.array_equal(whole[0], parts[-1][0])


def test_actions_reach_the_bounds_of_the_task() -> None:
    env = DMC("quadruped", "walk", "state").make(0)
    spec = env._suite_env.action_spec()
    assert spec.maximum.max() > 1, "this task's bounds are not -1 and 1"
    env.reset()
    for sign, bound in ((-1.0, spec.minimum), (1.0, spec.maximum)):
        env.step(np.full(env.action_space.shape or (), sign, np.float32))
        assert np.allclose(env._suite_env.physics.control(), bound)


@pytest.mark.parametrize("repeat", [1, 3, 8])
def test_time_limit_truncates_at_1000_env_steps(repeat: int) -> None:
    env = DMC("pendulum", "swingup", "state", repeat).make(0)
    env.reset()
    agent_steps, truncated = 0, False
    while not truncated:
        _, _, terminated, truncated, _ = env.step(np.zeros(1, np.float32))
        assert not terminated
        agent_steps += 1
    assert agent_steps == -(-1000 // repeat)


def test_end_of_the_task_terminates() -> None:
    env = DMC("lqr", "lqr_2_1", "state").make(0)
    env.reset()
    physics = env._suite_env.physics
    physics.data.qpos[:] = physics.data.qvel[:] = 1e-9
    physics.forward()
    _, _, terminated, truncated, _ = env.step(np.zeros(1, np.float32))
    assert (terminated, truncated) == (True, False)


@pytest.mark.parametrize("domain, task", [("reacher", "easy"), ("lqr", "lqr_6_2"), ("manipulator", "bring_ball")])
def test_reset_seed_fixes_the_episode_whatever_came_before(domain: str, task: str) -> None:
    env, other = DMC(domain, task, "state").make(0), DMC(domain, task, "state").make(9)
    actions = actions_for(env, 20)
    other.reset()
    for action in actions[:5]:
        other.step(action)
    assert np.array_equal(env.reset(seed=4)[0], other.reset(seed=4)[0])
    assert all(same(env.step(action), other.step(action)) for action in actions)
    assert not np.array_equal(env.reset()[0], env.reset()[0])


@pytest.mark.parametrize(
    "config",
    [
        DMC("reacher", "easy", "pixels", 4, size=48),
        DMC("quadruped", "escape", "state", 2),
        DMC("lqr", "lqr_2_1", "state"),
        DMC("point_mass", "hard", "pixels", 2, size=32),
    ],
)
def test_resume_is_exact(config: DMC) -> None:
    check_resume(config, steps=20, ahead=10)


@pytest.mark.slow
@pytest.mark.parametrize("domain, task", gl.load_suite().ALL_TASKS)
def test_resume_is_exact_on_every_task(domain: str, task: str) -> None:
    check_resume(DMC(domain, task, "state", 2), steps=60, ahead=25)


def test_resume_before_the_first_reset() -> None:
    env, twin = (DMC("acrobot", "swingup", "state").make(seed) for seed in (1, 2))
    twin.load_state(env.state())
    assert np.array_equal(env.reset()[0], twin.reset()[0])


@pytest.mark.parametrize("shadows, most", [("exact", 0.0), ("fast", 0.1)])
def test_pixels_match_those_of_dm_control(shadows: Any, most: float) -> None:
    differences = []
    for domain, task in CURL_TASKS:
        env = DMC(domain, task, size=84, shadows=shadows).make(1)
        env.reset()
        for action in actions_for(env, 4):
            obs, *_ = env.step(action)
            theirs = env._suite_env.physics.render(84, 84, camera_id=0).transpose(2, 0, 1)
            differences.append(np.abs(obs[-3:].astype(float) - theirs).mean())
            assert differences[-1] <= most
        env.close()
    assert np.mean(differences) <= (0.0 if shadows == "exact" else 0.02)


@pytest.mark.parametrize(
    "config, most",
    [
        (DMC("quadruped", "escape", size=84, shadows="exact", camera=2), 0.0),  # draws a new terrain per episode
        (DMC("dog", "stand", size=84, shadows="fast"), 0.1),  # has a skin, which leaves GL buffers bound
    ],
)
def test_pixels_match_in_a_second_episode(config: DMC, most: float) -> None:
    env = config.make(0)
    env.reset()
    obs, _ = env.reset()
    theirs = env._suite_env.physics.render(84, 84, camera_id=config.camera).transpose(2, 0, 1)
    assert np.abs(obs[-3:].astype(float) - theirs).mean() <= most
    env.close()


@pytest.mark.slow
@pytest.mark.parametrize("domain, task", gl.load_suite().ALL_TASKS)
def test_exact_pixels_equal_those_of_dm_control_on_every_task(domain: str, task: str) -> None:
    env = DMC(domain, task, shadows="exact").make(0)
    env.reset()
    obs, *_ = env.step(actions_for(env, 1)[0])
    assert np.array_equal(obs[-3:], env._suite_env.physics.render(84, 84, camera_id=0).transpose(2, 0, 1))
    env.close()


def test_no_shadows_differs_and_equal_scenes_give_equal_pixels() -> None:
    frames = {}
    for shadows in ("exact", "off"):
        env = DMC("walker", "walk", shadows=shadows).make(0)
        frames[shadows] = env.reset(seed=2)[0].astype(float)
        assert np.array_equal(frames[shadows], env.reset(seed=2)[0])
        env.close()
    assert np.abs(frames["exact"] - frames["off"]).mean() > 1


def test_unknown_names_are_answered_with_the_valid_ones() -> None:
    with pytest.raises(ValueError, match=r"env.domain=chetah is unknown: did you mean cheetah\? valid: acrobot"):
        DMC("chetah", "run", "state").make(0)
    with pytest.raises(ValueError, match=r"env.task=runs is unknown: did you mean run\? valid: run, stand, walk"):
        DMC("walker", "runs", "state").make(0)
    with pytest.raises(ValueError, match=r"env.camera=5 does not exist; this model has -1 \(free\) to 1"):
        DMC("walker", "walk", camera=5).make(0)
    with pytest.raises(ValueError, match=r"env\.action_repeat must be 1 to 1,024"):
        DMC("walker", "walk", action_repeat=0)


WITHOUT_GL = """
from rlrep.envs.dmc.env import DMC
print(DMC("walker", "walk", "state").make(0).reset()[0].shape)
try:
    DMC("walker", "walk").make(0)
except RuntimeError as error:
    print(error)
"""


@pytest.mark.parametrize("missing", [{"__EGL_VENDOR_LIBRARY_FILENAMES": "/nonexistent"}, {"MUJOCO_GL": "disable"}])
def test_without_gl_states_work_and_pixels_say_what_to_install(missing: dict[str, str]) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "MUJOCO_GL"}
    answer = subprocess.run(
        [sys.executable, "-c", WITHOUT_GL], env={**environment, **missing}, capture_output=True, text=True, check=True
    )
    shape, line = answer.stdout.splitlines()
    assert shape == "(24,)"
    assert line.startswith("cannot render pixels: no working OpenGL")
    assert "apt-get install libegl1 libgl1-mesa-dri" in line and "MUJOCO_GL=osmesa" in line


def test_importing_the_config_loads_neither_simulator_nor_torch() -> None:
    heavy = "{'mujoco', 'dm_control', 'torch'}"
    code = f"import sys, rlrep.envs.dmc, rlrep.envs.vector; print(sorted({heavy} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
