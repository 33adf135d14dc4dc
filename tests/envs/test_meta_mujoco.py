"""PEARL's families against gymnasium's own robots, and exact state in the middle of an episode."""

import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gymnasium
import mujoco
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from rlrep.contract.env import Task
from rlrep.envs.families import rand_params
from rlrep.envs.families.running import CheetahVel
from rlrep.envs.vector import make_vector

from .meta_families import FAMILIES, RUNNERS, each

OBS_SIZES = [20, 20, 27, 27, 113, 376, 17, 11, 2, 2]


def actions_for(env: Any, count: int) -> Any:
    return np.random.default_rng(1).uniform(-1, 1, (count, *env.action_space.shape)).astype(np.float32)


@pytest.mark.filterwarnings("ignore:.*A Box observation space")
@pytest.mark.parametrize(("name", "size"), list(zip(FAMILIES, OBS_SIZES, strict=True)))
def test_sizes_and_the_interface(name: str, size: int) -> None:
    env = FAMILIES[name].make(0)
    assert env.observation_space.shape == (size,) and (env.frame_stack, env.action_repeat) == (1, 1)
    assert (env.action_space.low == -1).all() and (env.action_space.high == 1).all()
    check_env(env, skip_render_check=True)


def vx(gym: Any, info: Any, task: Task) -> float:
    return float(info["x_velocity"])


def along(gym: Any, info: Any, task: Task) -> float:
    angle = task.parameters["angle"]
    return float(info["x_velocity"] * math.cos(angle) + info["y_velocity"] * math.sin(angle))


def to_goal(gym: Any, info: Any, task: Task) -> float:
    (x, y), goal = gym.data.body("torso").xpos[:2], task.parameters["goal"]
    return float(-abs(x - goal[0]) - abs(y - goal[1]))


def cheetah_obs(gym: Any, obs: Any) -> Any:
    return [*obs, *gym.data.body("torso").xpos]


def raw_obs(gym: Any, obs: Any) -> Any:
    data = gym.data
    parts = [data.qpos[2:], data.qvel, data.cinert, data.cvel, data.qfrc_actuator, data.cfrc_ext]
    return np.concatenate([part.ravel() for part in parts])


def goal_obs(gym: Any, obs: Any) -> Any:
    return [*gym.data.qpos, *gym.data.qvel, *np.clip(gym.data.cfrc_ext, -1, 1).ravel()]


Part = Callable[[Any, Any, Task], float]
REWARDS: dict[str, tuple[str, Part, Callable[[Any, Any], float]]] = {
    "cheetah_dir": (
        "HalfCheetah-v5",
        lambda g, i, t: t.parameters["direction"] * vx(g, i, t),
        lambda a, i: -0.05 * a @ a,
    ),
    "cheetah_vel": (
        "HalfCheetah-v5",
        lambda g, i, t: -abs(vx(g, i, t) - t.parameters["speed"]),
        lambda a, i: -0.05 * a @ a,
    ),
    "ant_dir": ("Ant-v5", along, lambda a, i: 1 - 0.5 * a @ a + i["reward_contact"]),
    "ant_dir_random": ("Ant-v5", along, lambda a, i: 1 - 0.5 * a @ a + i["reward_contact"]),
    "ant_goal": ("Ant-v5", to_goal, lambda a, i: -0.1 * a @ a + i["reward_contact"]),
    "humanoid_dir": (
        "Humanoid-v5",
        lambda g, i, t: 0.25 * along(g, i, t) * 0.015 / 0.003,
        lambda a, i: 5 - 0.1 * (0.4 * a) @ (0.4 * a) + i["reward_contact"],
    ),
    "walker_rand_params": ("Walker2d-v5", vx, lambda a, i: 1 - 0.001 * a @ a),
    "hopper_rand_params": ("Hopper-v5", vx, lambda a, i: 1 - 0.001 * a @ a),
}
OBSERVATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "cheetah_dir": cheetah_obs,
    "cheetah_vel": cheetah_obs,
    "ant_goal": goal_obs,
    "humanoid_dir": raw_obs,
}
NEVER_END = ("cheetah_dir", "cheetah_vel", "ant_goal")


def gymnasium_twin(name: str, task: Task) -> Any:
    """Return gymnasium's robot with the task's body and the step lengths of PEARL's code, on the same episode."""
    gym: Any = gymnasium.make(REWARDS[name][0]).unwrapped
    if "rand_params" in name:
        gym.model.opt.timestep, gym.frame_skip = 0.004, 4
        for parameter, factors in task.parameters.items():
            getattr(gym.model, parameter)[:] *= np.array(factors)
        mujoco.mj_setConst(gym.model, gym.data)
    return gym


@pytest.mark.parametrize("name", RUNNERS)
def test_steps_equal_gymnasiums_and_rewards_their_formula(name: str) -> None:
    env, task = RUNNERS[name].make(0), RUNNERS[name].tasks().test[1]
    env.set_task(task)
    gym, (_, gain, costs) = gymnasium_twin(name, task), REWARDS[name]
    observe = OBSERVATIONS.get(name, lambda gym, obs: obs[: env.obs_size])
    obs, theirs = env.reset(seed=7)[0], gym.reset(seed=7)[0]
    assert np.array_equal(obs, np.asarray(observe(gym, theirs), np.float32)), "the same first state by the same seed"
    for count, action in enumerate(actions_for(env, 60)):
        obs, reward, terminated, truncated, _ = env.step(action)
        theirs, _, fell, _, info = gym.step(action * gym.action_space.high[0])
        assert np.allclose(obs, observe(gym, theirs), rtol=1e-4, atol=1e-4), count
        assert reward == pytest.approx(gain(gym, info, task) + costs(action.astype(float), info), abs=1e-5)
        assert terminated == (fell and name not in NEVER_END) and not truncated
        if terminated:
            break
    assert count >= 4


BOUNDS: dict[str, list[tuple[int, float, float]]] = {  # coordinate, last value that stands, first that does not
    "ant_dir": [(2, 0.2, 0.199), (2, 1.0, 1.001)],
    "humanoid_dir": [(2, 1.0, 0.999), (2, 2.0, 2.001)],
    "walker_rand_params": [(1, 0.801, 0.8), (1, 1.999, 2.0), (2, 0.999, 1.0), (2, -0.999, -1.0)],
    "hopper_rand_params": [(1, 0.701, 0.7), (2, 0.199, 0.2), (2, -0.199, -0.2), (3, 99.9, 100.0), (3, 0.0, math.nan)],
}


@pytest.mark.parametrize(("name", "bounds"), BOUNDS.items())
def test_where_a_robot_has_fallen(name: str, bounds: list[tuple[int, float, float]]) -> None:
    env = RUNNERS[name].make(0)
    for coordinate, inside, outside in bounds:
        env.reset(seed=0)
        for value, fallen in ((inside, False), (outside, True)):
            env._data.qpos[coordinate] = value
            assert env._fallen() is fallen, (coordinate, value)


@pytest.mark.parametrize("name", [*BOUNDS, *NEVER_END])
def test_a_fall_ends_the_episode_and_the_horizon_cuts_it(name: str) -> None:
    env = replace(RUNNERS[name], horizon=3).make(0)
    stand = np.zeros(env.action_space.shape, np.float32)
    for last in (False, True):
        env.reset(seed=0)
        for _ in range(2 if last else 0):
            assert env.step(stand)[2:4] == (False, False)
        env._data.qpos[2] = 3.0  # a height or an angle
        assert env.step(stand)[2:4] == (name in BOUNDS, last and name in NEVER_END), "a fall on the last step is no cut"
    env.reset(seed=0)
    assert [env.step(stand)[2:4] for _ in range(3)] == [(False, False), (False, False), (False, True)]


def model_arrays(env: Any) -> dict[str, Any]:
    found = {name: getattr(env._model, name) for name in dir(env._model) if not name.startswith("_")}
    return {name: np.array(value) for name, value in found.items() if isinstance(value, np.ndarray)}


def changed(one: dict[str, Any], two: dict[str, Any]) -> set[str]:
    return {name for name in one if not np.array_equal(one[name], two[name], equal_nan=True)}


@pytest.mark.parametrize("name", ["walker_rand_params", "hopper_rand_params"])
def test_bodies_change_with_the_task_and_come_back_exactly(name: str) -> None:
    family = FAMILIES[name]
    first, other = family.tasks().train[:2]
    env = family.make(0)
    model, data, before = env._model, env._data, model_arrays(env)
    ones = Task("as built", {k: np.ones_like(v).tolist() for k, v in rand_params.originals(env.robot).items()})
    for task, expected in ((other, set(rand_params.BASES)), (ones, set(rand_params.BASES)), (first, set())):
        env.set_task(task)
        assert not changed(model_arrays(env), before) or task is not other, "not before the reset"
        env.reset()
        assert changed(model_arrays(env), before) >= expected and bool(expected) == bool(
            changed(model_arrays(env), before)
        )
        if task is ones:
            plain = type("Plain", (), {"_model": env.robot.load()})
            assert not changed(model_arrays(env), model_arrays(plain)), "the file's, constants too"
    assert env._model is model and env._data is data, "nothing was rebuilt"


@pytest.mark.parametrize("name", ["walker_rand_params", "hopper_rand_params"])
def test_another_body_moves_otherwise(name: str) -> None:
    env, ends = FAMILIES[name].make(0), []
    for task in FAMILIES[name].tasks().train[:3]:
        env.set_task(task)
        env.reset(seed=3)
        ends.append(np.stack([env.step(action)[0] for action in actions_for(env, 4)]))
    assert np.abs(ends[0] - ends[1]).max() > 0.01 and np.abs(ends[1] - ends[2]).max() > 0.01


@each
def test_a_task_begins_with_the_next_episode(name: str) -> None:
    one, two = (FAMILIES[name].make(0) for _ in range(2))
    first, other = FAMILIES[name].tasks().train[:2]
    two.set_task(other)
    for env in (one, two):
        env.reset(seed=1)
    action = actions_for(one, 1)[0]
    rewards = [env.step(action)[1] for env in (one, two)]
    one.set_task(other)
    assert one.state()["playing"]["name"] == first.name and one.state()["task"]["name"] == other.name
    for env in (one, two):
        env.reset(seed=1)
    assert one.step(action)[1] == two.step(action)[1] == rewards[1] != rewards[0]


@each
def test_a_state_is_exact_with_the_task_to_come(name: str) -> None:
    family = FAMILIES[name]
    env, twin = family.make(0), family.make(9)
    tasks = family.tasks()
    twin.set_task(tasks.train[0])
    twin.reset()
    env.set_task(tasks.train[1])
    env.reset(seed=5)
    actions = actions_for(env, 40)
    for action in actions[:4]:
        obs, *_ = env.step(action)
    env.set_task(tasks.test[0])
    state = env.state()

    def play(env: Any) -> list[Any]:
        found: list[Any] = []
        for action in actions[4:]:
            found.append(env.step(action))
            if found[-1][2] or found[-1][3]:
                found.append(env.reset()[0])
        return [np.array(env.reset()[0]), *found, env.step(actions[0])]

    rest = play(env)
    assert np.array_equal(twin.load_state(state), obs)
    for one, two in zip(rest, play(twin), strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("workers", [False, True])
@pytest.mark.parametrize(
    "name",
    [
        n if n in ("walker_rand_params", "sparse_point_robot") else pytest.param(n, marks=pytest.mark.slow)
        for n in FAMILIES
    ],
)
def test_vectors_agree_and_resume_exactly(name: str, workers: bool) -> None:
    family = FAMILIES[name]
    tasks = family.tasks()
    one = make_vector(family, [3, 4], workers=workers)
    one.set_task(1, tasks.test[1])
    obs = one.reset([3, 4])
    actions = np.random.default_rng(2).uniform(-1, 1, (30, 2, *one.single_action_space.shape)).astype(np.float32)  # type: ignore[misc]

    def advance(vector: Any, action: Any) -> Any:
        vector.step_async(action)
        return vector.step_wait()

    for action in actions[:13]:
        obs = advance(one, action).obs
    two = make_vector(family, [0, 0], workers=not workers)
    assert np.array_equal(two.load_state(one.state()), obs)
    for action in actions[13:]:
        a, b = advance(one, action), advance(two, action)
        for field in ("obs", "final_obs", "reward", "terminated", "truncated", "context_reward"):
            assert np.array_equal(getattr(a, field), getattr(b, field), equal_nan=field == "context_reward"), field
    one.close()
    two.close()


def test_a_picture_of_the_robot_leaves_its_episode_alone() -> None:
    env, twin = (CheetahVel().make(0) for _ in range(2))
    for action in actions_for(env, 5):
        frame = env.render()
        one, two = env.step(action), twin.step(action)
        assert np.array_equal(one[0], two[0]) and one[1] == two[1]
    assert frame.shape == (256, 256, 3) and frame.std() > 10 and not np.array_equal(frame, env.render())
    env.close()


WITHOUT_GL = """
from rlrep.envs.families.running import CheetahVel
env = CheetahVel().make(0)
print(env.reset()[0].shape)
try:
    env.render()
except RuntimeError as error:
    print(error)
"""


@pytest.mark.parametrize(
    "missing",
    [
        {"__EGL_VENDOR_LIBRARY_FILENAMES": "/nonexistent"},
        {"__EGL_VENDOR_LIBRARY_FILENAMES": "/nonexistent", "MUJOCO_GL": "egl"},
        {"MUJOCO_GL": "disable"},
    ],
)
def test_without_gl_episodes_run_and_pictures_say_what_to_install(missing: dict[str, str]) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "MUJOCO_GL"}
    answer = subprocess.run(
        [sys.executable, "-c", WITHOUT_GL], env={**environment, **missing}, capture_output=True, text=True, check=True
    )
    shape, line = answer.stdout.splitlines()
    assert shape == "(20,)" and line.startswith("cannot render pixels: no working OpenGL") and "libegl1" in line


def test_importing_the_families_loads_neither_simulator_nor_torch() -> None:
    heavy = "{'mujoco', 'dm_control', 'torch'}"
    code = f"import sys, rlrep.envs.families; print(sorted({heavy} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
