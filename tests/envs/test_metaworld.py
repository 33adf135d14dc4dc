"""Meta-World's families: goals of the package's classes, hidden targets, exact state, task switches."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from rlrep.contract.env import Task
from rlrep.envs.metaworld.families import ML1, ML10, ML45, MT10
from rlrep.envs.metaworld.simulator import Simulator
from rlrep.envs.metaworld.tasks import (
    CONSTANT_GOALS,
    HIDDEN_GOALS,
    NAMES,
    PARTLY_HIDDEN_GOALS,
    VISIBLE_GOALS,
    build,
    goals,
)
from rlrep.envs.vector import make_vector

DOCS = Path(__file__).resolve().parents[2] / "docs" / "metaworld.md"


def actions(count: int, seed: int = 0) -> Any:
    """Return actions that drift over the table, and close the grip half of the time."""
    drift = np.random.default_rng(seed).uniform(-0.4, 0.4, (count, 4)).cumsum(0)
    return np.clip(drift, -1, 1).astype(np.float32)


def play(env: Any, played: Any) -> list[Any]:
    return [(obs.tolist(), *rest) for obs, *rest in (env.step(action) for action in played)]


def simulator(name: str, reward_version: str = "v2", *, goal_visible: bool = False) -> Simulator:
    return Simulator(name, goal_visible=goal_visible, reward_version=reward_version)


@pytest.fixture
def untouched_global_generator() -> Iterator[None]:
    before = np.random.get_state(legacy=False)
    yield
    after = np.random.get_state(legacy=False)
    assert np.array_equal(before["state"]["key"], after["state"]["key"])
    assert before["state"]["pos"] == after["state"]["pos"]


def package_tasks(listed: Any) -> list[Any]:
    """Return the goals of the package's tasks, which hold them as pickled bytes, by having an environment take them."""
    envs = {name: build(name) for name in dict.fromkeys(task.env_name for task in listed)}
    return [(envs[task.env_name].set_task(task), envs[task.env_name]._last_rand_vec.tolist())[1] for task in listed]


def test_the_package_has_these_environments_and_benchmarks() -> None:
    from metaworld import env_dict

    assert set(NAMES) == set(env_dict.ALL_V3_ENVIRONMENTS) and len(NAMES) == 50
    assert len(HIDDEN_GOALS) == 23 and len(VISIBLE_GOALS) == 23
    assert ML10().train_names() == tuple(env_dict.ML10_V3["train"])
    assert ML10().test_names() == tuple(env_dict.ML10_V3["test"])
    assert (len(ML45().train_names()), len(ML45().test_names()), len(ML45().names())) == (45, 5, 50)
    assert MT10().train_names() == MT10().test_names() == tuple(env_dict.MT10_V3)


@pytest.mark.usefixtures("untouched_global_generator")
def test_training_goals_are_the_training_goals_of_the_package() -> None:
    """Of the class `metaworld.ML1`; its vector environment of the same name plays the test goals."""
    import metaworld

    package = metaworld.ML1("push-v3", seed=3)
    ours = ML1(task="push-v3", task_seed=3, test_tasks=20).tasks()
    train, test = ([task.parameters["rand_vec"] for task in split] for split in (ours.train, ours.test))
    assert train + test == package_tasks(package.train_tasks + package.test_tasks[:20]) and len(train) == 50
    assert not {tuple(goal) for goal in train} & {tuple(goal) for goal in test}
    assert [len(task.vector) for task in ours.train] == [6] * 50
    theirs, env = build("push-v3"), ML1(task="push-v3", task_seed=3).make(0)
    theirs.set_task(package.train_tasks[7])
    env.set_task(ours.train[7])
    first, _ = theirs.reset()
    assert np.array_equal(env.reset()[0], first.astype(np.float32))
    for action in actions(60):
        obs, reward, _, _, info = theirs.step(action.astype(np.float64))
        mine = env.step(action)
        assert np.array_equal(mine[0], obs.astype(np.float32))
        assert mine[1] == reward and mine[4] == {"success": info["success"]}


@pytest.mark.usefixtures("untouched_global_generator")
def test_goals_come_from_a_generator_of_their_own() -> None:
    first = ML1(task="reach-v3", task_seed=1).tasks()
    np.random.uniform(size=3)
    again = goals.__wrapped__(("reach-v3",), 1)["reach-v3"]
    np.random.seed(0)  # as the fixture found it
    assert [list(goal) for goal in again] == [task.parameters["rand_vec"] for task in first.train]
    assert ML1(task="reach-v3", task_seed=1, train_tasks=3).tasks().train == first.train[:3]
    env = ML1(task="reach-v3").make(0)
    env.reset(seed=5)
    play(env, actions(3))


def test_names_of_several_environments_are_drawn_from_one_stream() -> None:
    """As the package does: an environment's goals depend on those before it."""
    both = goals(("reach-v3", "drawer-close-v3"), 5)
    assert both["reach-v3"] == goals(("reach-v3",), 5)["reach-v3"]
    assert both["drawer-close-v3"] != goals(("drawer-close-v3",), 5)["drawer-close-v3"]


@pytest.mark.slow
def test_goals_of_all_environments_are_the_packages() -> None:
    import metaworld

    package = metaworld.MT50(seed=7)
    names = tuple(dict.fromkeys(task.env_name for task in package.train_tasks))
    ours = goals(names, 7)
    assert [list(goal) for name in names for goal in ours[name]] == package_tasks(package.train_tasks)


def test_targets_are_hidden_in_ml_and_seen_in_mt10(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("reach-v3", "push-v3")  # the first of the ten, whose models would take seconds to load
    monkeypatch.setattr(MT10, "train_names", lambda self: names)
    monkeypatch.setattr(MT10, "test_names", lambda self: names)
    hidden, seen = ML1(task="reach-v3").make(0), MT10(train_tasks=2, test_tasks=1).make(0)
    assert hidden.observation_space.shape == (39,) and seen.observation_space.shape == (41,)
    assert not any(obs[-3:].any() for obs in [hidden.reset()[0], *(hidden.step(a)[0] for a in actions(3))])
    tasks = MT10(train_tasks=2, test_tasks=1).tasks()
    assert len(tasks.train) == 4 and tasks.test == tasks.train[::2]
    seen.set_task(tasks.train[3])
    obs = seen.step(seen.reset()[0][:4])[0]
    assert obs.dtype == np.float32
    assert obs[36:39] == pytest.approx(seen._simulator.target(), abs=1e-6)
    assert obs[39:].tolist() == [0, 1] == list(tasks.train[3].vector[6:])


def test_a_task_takes_effect_at_the_next_reset_and_simulators_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[str] = []
    family = ML10(train_tasks=2)
    monkeypatch.setattr(ML10, "train_names", lambda self: ("reach-v3", "drawer-close-v3"))
    monkeypatch.setattr(ML10, "test_names", lambda self: ("door-close-v3",))
    tasks = family.tasks()

    def build_and_note(name: str, reward_version: str) -> Any:
        built.append(name)
        return build(name, reward_version)

    monkeypatch.setattr("rlrep.envs.metaworld.simulator.build", build_and_note)
    env = family.make(0)
    first, _ = env.reset()
    env.set_task(tasks.train[2])
    assert env.step(actions(1)[0])[0] == pytest.approx(first, abs=0.05)  # still the first task
    closed, _ = env.reset()
    assert not np.allclose(closed, first, atol=0.01)
    assert np.array_equal(env.reset()[0], closed)  # the same task again, which says where things start
    env.set_task(tasks.train[0])
    assert np.array_equal(env.reset()[0], first)
    env.set_task(tasks.test[0])
    env.reset()
    assert built == ["reach-v3", "drawer-close-v3", "door-close-v3"]
    assert {len(task.vector) for task in (*tasks.train, *tasks.test)} == {6 + 3}
    with pytest.raises(ValueError, match="task t is of push-v3; this family has reach-v3, drawer-close-v3"):
        env.set_task(Task("t", {"env": "push-v3", "rand_vec": [0.0] * 6}))


def check_exact(name: str, reward_version: str) -> None:
    """Save in the middle of an episode, load into a simulator that has played another goal, compare all that follows.

    Also: an episode does not depend on those before it.
    """
    one, two = simulator(name, reward_version), simulator(name, reward_version)
    this, other = goals((name,), 0)[name][:2]
    played = actions(60)
    first, start = one.begin(this), [one.step(action) for action in played[:35]]
    state = json.loads(json.dumps(one.state(), default=lambda array: array.tolist()))
    two.begin(other)
    for action in played[:10]:
        two.step(action)
    two.load(this, state)
    for action in played[35:]:
        assert_same(one.step(action), two.step(action), name)
    assert np.array_equal(two.begin(this), first), name
    for action, step in zip(played, start, strict=False):
        assert_same(step, two.step(action), name)


def assert_same(one: Any, two: Any, name: str) -> None:
    assert np.array_equal(one[0], two[0]) and one[1:] == two[1:], name


@pytest.mark.parametrize(
    ("name", "reward_version"),
    [("push-v3", "v2"), ("bin-picking-v3", "v2"), ("door-open-v3", "v1"), ("stick-pull-v3", "v1")],
)
def test_state_is_restored_bit_for_bit(name: str, reward_version: str) -> None:
    check_exact(name, reward_version)


@pytest.mark.slow
@pytest.mark.parametrize("reward_version", ["v1", "v2"])
def test_state_of_all_environments_is_restored_bit_for_bit(reward_version: str) -> None:
    for name in NAMES:
        check_exact(name, reward_version)


def test_a_family_resumes_in_the_middle_of_an_episode_with_another_task_waiting() -> None:
    family = ML1(task="reach-v3", horizon=12)
    env, twin = family.make(0), family.make(1)
    tasks = family.tasks().train
    env.set_task(tasks[4])
    env.reset()
    play(env, actions(7))
    env.set_task(tasks[5])
    state = env.state()
    obs = env.step(actions(1)[0])[0]
    twin.load_state(state)
    assert np.array_equal(twin.step(actions(1)[0])[0], obs)
    assert play(env, actions(4)) == play(twin, actions(4))
    assert np.array_equal(env.reset()[0], twin.reset()[0])
    assert play(env, actions(2)) == play(twin, actions(2))


def test_an_episode_is_truncated_at_the_horizon_and_never_terminated() -> None:
    env = ML1(task="reach-v3", horizon=200).make(0)
    env.reset()
    ends = [(terminated, truncated) for _, _, terminated, truncated, _ in play(env, actions(200))]
    assert ends == [(False, False)] * 199 + [(False, True)]
    assert ML1(task="reach-v3").horizon == 500


def test_tasks_are_set_in_workers() -> None:
    family = ML1(task="door-close-v3", num_envs=2, train_tasks=3)
    assert family.in_workers
    tasks = family.tasks().train
    inline, workers = (make_vector(family, [0, 1], workers=where) for where in (False, True))
    found = []
    for vector in (inline, workers):
        vector.reset([0, 1])
        vector.set_task(1, tasks[2])
        vector.restart(1, 3)
        vector.step_async(actions(2))
        step = vector.step_wait()
        found.append([step.obs.tolist(), step.reward.tolist(), step.success.tolist()])
        vector.close()
    assert found[0] == found[1] and found[0][0][0] != found[0][0][1]
    assert found[0][2] == [0.0, 0.0]


def test_a_goal_that_the_environment_rejects_is_an_error_not_a_loop() -> None:
    push = simulator("push-v3")
    with pytest.raises(ValueError, match=r"push-v3 rejects the goal .* object and target are too near"):
        push.begin([0.0, 0.7, 0.02, 0.0, 0.8, 0.01])
    with pytest.raises(ValueError, match="push-v3 has goals of 6 numbers, not 3"):
        push.begin([0.0, 0.7, 0.02])


@pytest.mark.filterwarnings("ignore")
def test_the_checker_passes() -> None:
    check_env(ML1(task="reach-v3", horizon=20).make(0), skip_render_check=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "pusk"}, "env.task=pusk is unknown: did you mean push-v3?"),
        ({"task": "zzz"}, "env.task=zzz is unknown: valid: assembly-v3, basketball-v3"),
        ({"task": "push-v3", "horizon": 501}, "env.horizon must be 1 to 500, got 501"),
        ({"task": "push-v3", "horizon": 0}, "env.horizon must be 1 to 2,147,483,647, got 0"),
        ({"task": "push-v3", "train_tasks": 51}, "env.train_tasks must be 1 to 50"),
        ({"task": "push-v3", "task_seed": 2**32}, "env.task_seed must be 0 to 4,294,967,294"),
    ],
)
def test_wrong_options_are_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        ML1(**options)
    assert "\n" not in str(error.value)


def unexplained(name: str, under: Sequence[tuple[float, ...]]) -> tuple[float, float]:
    """Return the target's standard deviation over goals, and the share that the first observation does not explain."""
    world = simulator(name)
    seen = [(world.begin(goal)[:18], world.target()) for goal in under]
    obs, target = (np.array(part, np.float64) for part in zip(*seen, strict=True))
    moving = obs[:, obs.std(0) > 1e-4]
    count = len(under)
    design = np.c_[moving - moving.mean(0), np.ones(count)]
    rest = target - design @ np.linalg.lstsq(design, target, rcond=1e-6)[0]
    variance = ((target - target.mean(0)) ** 2).sum() / count
    return float(np.sqrt(variance)), float((rest**2).sum() / (count - design.shape[1]) / max(variance, 1e-12))


def check_visibility(name: str, under: Sequence[tuple[float, ...]]) -> None:
    spread, rest = unexplained(name, under)
    if name in CONSTANT_GOALS:
        assert spread < 1e-6, name
    elif name in VISIBLE_GOALS:
        assert spread > 1e-3 and rest < 0.01, name
    elif name in PARTLY_HIDDEN_GOALS:
        assert 0.01 < rest < 0.5, name
    else:
        assert name in HIDDEN_GOALS and spread > 1e-3 and rest > 0.8, name


@pytest.mark.parametrize("name", ["push-v3", "door-open-v3", "hammer-v3"])
def test_which_environments_hide_their_goals(name: str) -> None:
    check_visibility(name, goals((name,), 0)[name][:25])


@pytest.mark.slow
def test_which_of_all_environments_hide_their_goals() -> None:
    for name in NAMES:
        check_visibility(name, goals((name,), 0)[name] + goals((name,), 1)[name])


def test_the_documented_table_is_the_codes() -> None:
    rows = dict(re.findall(r"^\| `([\w-]+-v3)` \| (\w+) \|", DOCS.read_text(), re.MULTILINE))
    groups = {
        "hidden": HIDDEN_GOALS,
        "visible": VISIBLE_GOALS,
        "constant": CONSTANT_GOALS,
        "partly": PARTLY_HIDDEN_GOALS,
    }
    assert rows == {name: group for group, names in groups.items() for name in names}


def test_importing_the_configs_loads_no_simulator() -> None:
    names = "rlrep.envs.metaworld"
    code = f"import sys, {names}; print({{'mujoco', 'metaworld'}} & set(sys.modules))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "set()"
