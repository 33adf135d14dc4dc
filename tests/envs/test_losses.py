"""Simulators that raise, hang, give NaN or cannot be saved: an episode is lost, never the run, and never in silence."""

import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlrep.envs.vector import make_vector
from rlrep.envs.vector.checked import BadEnvironment
from rlrep.envs.vector.losses import MAX_LOSSES, EnvironmentFailed, Patience
from rlrep.loops.evaluation import Evaluator, most_steps
from rlrep.process.seeds import Seeds
from rlrep.settings import UserError
from tests import runs
from tests.fakes import FakeAgent

from .people import STEPS, Peoples
from .test_vector import advance, gone, pids

STILL = np.zeros((2, 2), np.float32)
BOTH = pytest.mark.parametrize("workers", [False, True])


def warned(vector: Any, steps: int) -> tuple[list[str], list[int]]:
    """Return what was warned of in so many steps, and how often environment 0 was lost and environment 1 was."""
    died = np.zeros(2, int)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(steps):
            died += advance(vector, STILL).died
    return [str(warning.message) for warning in caught], died.tolist()


@BOTH
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("raise", r"PeoplesEnv: step 3 of an episode: KeyError: 'joint lost' (people.py:"),
        ("nan", "PeoplesEnv: step 3 of an episode returned an observation that is not finite: ["),
        ("nan_reward", "PeoplesEnv: step 3 of an episode returned the reward nan"),
    ],
)
def test_a_simulator_that_fails_now_and_then_costs_its_episodes(workers: bool, fault: str, words: str) -> None:
    vector = make_vector(Peoples(fault=fault, at=13), [0, 1], workers=workers)
    vector.reset([0, 1])
    lines, died = warned(vector, 40)
    assert died == [3, 3], "at step 13 of each of its lives"
    assert len(lines) == 1 and words in lines[0] and "its episode is dropped; more of the same" in lines[0]
    assert np.isfinite(vector.state()[0]["restarts"]) and [state["restarts"] for state in vector.state()] == [3, 3]
    vector.close()


@BOTH
def test_one_that_never_ends_an_episode_is_given_up(workers: bool) -> None:
    vector = make_vector(Peoples(fault="raise_always"), [0, 1], workers=workers)
    vector.reset([0, 1])
    with pytest.raises(EnvironmentFailed, match=rf"was lost {MAX_LOSSES} times in a row.*joint lost"):
        warned(vector, 100)
    vector.close()


@BOTH
def test_a_reset_that_fails_by_its_seed_begins_another_episode(workers: bool) -> None:
    """In evaluation seeds are given, and the same command would meet the same seed for ever."""
    vector = make_vector(Peoples(fault="bad_seed"), [0, 1], workers=workers)
    with pytest.warns(RuntimeWarning, match=r"PeoplesEnv: reset\(\): no such level"):
        first = vector.reset([7, 1])
    with pytest.warns(RuntimeWarning):
        again = make_vector(Peoples(fault="bad_seed"), [0, 1], workers=False).reset([7, 1])
    assert np.array_equal(first, again), "another one, but always the same"
    assert not advance(vector, STILL).died.any()
    vector.close()


@BOTH
def test_a_broken_promise_is_no_loss(workers: bool) -> None:
    vector = make_vector(Peoples(fault="four"), [0, 1], workers=workers)
    vector.reset([0, 1])
    with pytest.raises(BadEnvironment, match="returned 4 values"):
        advance(vector, STILL)
    vector.close()


@pytest.mark.parametrize(("fault", "workers"), [("spin", False), ("sleep", False), ("spin", True), ("sleep", True)])
def test_one_that_hangs_is_lost_after_the_timeout(fault: str, workers: bool) -> None:
    vector = make_vector(Peoples(fault=fault, at=13), [0, 1], workers=workers, patience=Patience(1.0))
    vector.reset([0, 1])
    began = time.monotonic()
    lines, died = warned(vector, 14)
    assert died == [1, 1] and all("was lost (no answer for" in line for line in lines) and len(lines) == 2
    assert time.monotonic() - began < 30
    assert not advance(vector, STILL).died.any(), "the replacements go on"
    vector.close()


@BOTH
def test_a_request_to_stop_reaches_a_run_whose_environment_hangs(workers: bool) -> None:
    asked: list[bool] = []
    patience = Patience(None, lambda: bool(asked), grace=0.5)
    vector = make_vector(Peoples(fault="spin", at=2), [0, 1], workers=workers, patience=patience)
    vector.reset([0, 1])
    assert warned(vector, 1)[1] == [0, 0]
    asked.append(True)
    assert warned(vector, 1)[1] == [1, 1]
    vector.close()


HANGING = """
import os
import numpy as np
from rlrep.envs.vector import make_vector
from tests.envs.people import Peoples
vector = make_vector(Peoples(fault="spin", at=1), [0, 1], workers=True)
vector.reset([0, 1])
vector.step_async(np.zeros((2, 2), np.float32))
print(*(worker._process.pid for worker in vector._workers), flush=True)
vector.step_wait()
"""


def test_workers_that_hang_end_with_their_killed_parent() -> None:
    paths = {"PYTHONPATH": os.pathsep.join(filter(None, [os.getcwd(), *sys.path]))}
    command = [sys.executable, "-c", HANGING]
    parent = subprocess.Popen(command, env={**os.environ, **paths}, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    children = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(children) == 2 and not any(map(gone, children))
    parent.kill()
    parent.wait(10)
    deadline = time.monotonic() + 20
    while not all(map(gone, children)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert all(map(gone, children))


@BOTH
def test_the_state_behind_gymnasiums_wrappers_is_exact(workers: bool) -> None:
    config, push = Peoples(fault="limited"), np.full((2, 1), 0.5, np.float32)
    vector = make_vector(config, [0, 1], workers=workers)
    vector.reset([0, 1])
    assert vector.exact and [advance(vector, push).truncated.all() for _ in range(7)] == [False] * 6 + [True]
    for _ in range(4):
        advance(vector, push)
    states = vector.state()
    rest = [advance(vector, push) for _ in range(10)]
    assert [step.truncated.all() for step in rest[:3]] == [False, False, True], "the limit goes on"
    vector.close()
    twin = make_vector(config, [0, 1], workers=not workers)
    twin.load_state(states)
    for step in rest:
        again = advance(twin, push)
        assert np.array_equal(step.final_obs, again.final_obs) and np.array_equal(step.reward, again.reward)
        assert np.array_equal(step.truncated, again.truncated)
    twin.close()


@BOTH
@pytest.mark.parametrize("config", [Peoples(), Peoples(fault="counted")], ids=["no_state", "a_wrapper_with_state"])
def test_without_a_state_a_new_episode_begins_and_the_old_one_is_told_lost(workers: bool, config: Peoples) -> None:
    vector = make_vector(config, [0, 1], workers=workers)
    still = np.zeros((2, *(vector.single_action_space.shape or ())), np.float32)
    vector.reset([0, 1])
    for _ in range(3):
        advance(vector, still)
    assert not vector.exact and all(state["env"] is None for state in vector.state())
    twin = make_vector(config, [0, 1], workers=workers)
    obs = twin.load_state(vector.state())
    step = advance(twin, still)
    assert step.died.all() and np.array_equal(step.obs, obs) and not advance(twin, still).died.any()
    for each in (vector, twin):
        each.close()


def test_pids_of_replaced_workers_differ() -> None:
    vector: Any = make_vector(Peoples(fault="raise", at=13), [0, 1], workers=True)
    vector.reset([0, 1])
    before = pids(vector)
    warned(vector, 14)
    assert not set(before) & set(pids(vector)), "a process whose simulator raised is not trusted again"
    vector.close()


def test_an_evaluation_episode_that_never_ends_is_cut(monkeypatch: Any) -> None:
    monkeypatch.setattr("rlrep.loops.evaluation.MOST_ENV_STEPS", 25)
    said: list[str] = []
    vector: Any = make_vector(Peoples(fault="endless"), [0], workers=False)
    agent: Any = FakeAgent([])
    agent.act = lambda obs, explore: np.zeros((len(obs), 2), np.float32)
    episodes = Evaluator(lambda: vector, agent, Seeds(0), say=said.append).run(1, 3)
    assert most_steps(vector) == 25 and [episode.length for episode in episodes] == [25] * 3
    assert said == [line for line in said if "3 of 3 evaluation episodes were cut after 25 agent steps" in line] != []


@pytest.fixture
def peoples(tmp_path: Path) -> list[str]:
    """Return the flags of a folder with `env=peoples`."""
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "peoples.yaml").write_text("# @package _global_\nenv:\n  _target_: tests.envs.people.Peoples\n")
    return ["--config-dir", str(tmp_path), "env=peoples"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["env.fault=make"], r"cannot make the environment: AttributeError: no such joint \(people.py:\d+\)"),
        (["env.fault=reset_alone"], r"PeoplesEnv: reset\(\) returned an array of shape \(2,\), expected"),
        (["env.fault=unsavable"], "the environment's state.. cannot be saved: .*simulator is a object"),
        (["env.fault=silent"], r"Silent: state\(\) failed: OSError: the robot does not answer"),
        (["env.fault=silent", "env.in_workers=true"], r"Silent: state\(\) failed: OSError: the robot does not answer"),
        (["env.fault=raise_always"], "the environment failed: .*in a row.*joint lost.*mend it"),
        (["env.see=channels_last"], "encoder=mlp needs flat states"),
        (["env.see=channels_last", "env.obs=pixels", "augment=random_crop"], "augment=RandomCrop does not fit"),
    ],
)
def test_a_run_ends_in_one_line(tmp_path: Path, peoples: list[str], words: list[str], line: str, capsys: Any) -> None:
    assert runs.run(tmp_path / "run", *peoples, *words) != 0
    errors = runs.lines(capsys.readouterr().err)
    assert len(errors) == 1, errors
    with pytest.raises(UserError, match=line):
        raise UserError(errors[0])


def test_a_run_says_what_it_makes_of_an_environment(tmp_path: Path, peoples: list[str], capsys: Any) -> None:
    words = ["env.see=channels_last", "env.act=wide", "env.obs=pixels", "augment.size=16", "image_size=16"]
    assert runs.run(tmp_path / "run", *peoples, *words) == 0
    said = capsys.readouterr().out
    assert "PeoplesEnv: observations uint8 (16, 20, 3) in [0, 255] -> frames uint8 (3, 16, 20)" in said
    assert "PeoplesEnv: actions float64 (1, 2) in [-2, 10] <- (2,) in [-1, 1], rescaled" in said
    assert "frames of 16x20 pixels are cropped to 16x16 (augment=none)" in said
    assert "a resumed run begins new episodes, and is not the same bit for bit" in said


def test_a_run_without_states_goes_on_in_new_episodes(tmp_path: Path, peoples: list[str], capsys: Any) -> None:
    out = tmp_path / "run"
    process = runs.start(out, *peoples, "train.agent_steps=400", "train.eval_every=0")
    while not list(out.glob("checkpoints/0*")):
        time.sleep(0.05)
        assert process.poll() is None, process.communicate()
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    done = int(sorted(out.glob("checkpoints/0*"))[-1].name.split("_")[-1])
    assert runs.run(out, *peoples, "train.agent_steps=400", "train.eval_every=0") == 0
    assert f"continuing at {done} env steps, in new episodes" in capsys.readouterr().out
    lengths = [row["train/episode_length"] for row in runs.metrics(out) if "train/episode_length" in row]
    assert lengths and all(length == STEPS for length in lengths), "the cut episode is in no mean"
