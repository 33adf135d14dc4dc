"""N environments together: in process and in workers, autoreset, lost workers, exact resume, nothing left behind."""

import os
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlrep.envs.dmc.env import DMC
from rlrep.envs.toy import ToyEnv, ToyPixels, ToyState
from rlrep.envs.vector import WorkerVector, make_vector
from rlrep.envs.vector.losses import MAX_LOSSES

SEEDS = [3, 4]


class BrittleEnv(ToyEnv):
    """A toy that breaks in the way its action asks for."""

    def step(self, action: Any) -> Any:
        if action[0] > 0.9:
            raise OSError("the robot\nis on fire")
        if action[0] < -0.9:
            os.kill(os.getpid(), signal.SIGSEGV)
        return super().step(action)


@dataclass(frozen=True)
class Brittle:
    def make(self, seed: int) -> BrittleEnv:
        return BrittleEnv(seed, terminates=False, size=None, frame_stack=1)


@dataclass(frozen=True)
class Stillborn:
    def make(self, seed: int) -> ToyEnv:
        raise RuntimeError("install the simulator first")


@dataclass(frozen=True)
class Doomed:
    """Its worker dies whenever it steps."""

    def make(self, seed: int) -> "DoomedEnv":
        return DoomedEnv(seed, terminates=False, size=None, frame_stack=1)


class DoomedEnv(ToyEnv):
    def step(self, action: Any) -> Any:
        print("out of luck", file=sys.stderr, flush=True)
        os._exit(3)


def actions_for(count: int, envs: int = 2) -> Any:
    return np.random.default_rng(0).uniform(-0.8, 0.8, (count, envs, 1)).astype(np.float32)


def advance(vector: Any, actions: Any) -> Any:
    vector.step_async(actions)
    return vector.step_wait()


def pids(vector: WorkerVector) -> list[int]:
    return [worker._process.pid for worker in vector._workers]


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.parametrize("config", [ToyPixels(), ToyState(terminates=True)])
def test_workers_and_inline_agree(config: Any) -> None:
    inline, workers = (make_vector(config, SEEDS, workers=flag) for flag in (False, True))
    assert np.array_equal(inline.reset(), workers.reset())
    for actions in actions_for(50):
        one, two = advance(inline, actions), advance(workers, actions)
        for name in ("obs", "final_obs", "reward", "terminated", "truncated", "died"):
            assert np.array_equal(getattr(one, name), getattr(two, name)), name
        assert np.isnan(two.success).all()
    assert workers.frame_stack == config.make(0).frame_stack and workers.action_repeat == 1
    workers.close()


@pytest.mark.parametrize("workers", [False, True])
def test_same_step_autoreset(workers: bool) -> None:
    vector = make_vector(ToyState(), SEEDS, workers=workers)
    obs = vector.reset()
    for step_number in range(1, 41):
        step = advance(vector, np.full((2, 1), 0.1, np.float32))
        ended = step_number % 20 == 0
        assert (step.truncated == ended).all() and not step.terminated.any()
        assert np.allclose(step.final_obs[:, 0], min(1.0, 0.025 * ((step_number - 1) % 20 + 1)))
        assert np.allclose(step.obs[:, 0], 0.0 if ended else step.final_obs[:, 0])
        assert np.array_equal(obs[:, 1], step.final_obs[:, 1]), "the target of the episode that acted"
        obs = step.obs
    vector.close()


@pytest.mark.parametrize("workers", [False, True])
def test_one_environment_starts_again_by_a_seed(workers: bool) -> None:
    vector = make_vector(ToyState(), SEEDS, workers=workers)
    obs = vector.reset(SEEDS)
    advance(vector, np.full((2, 1), 0.5, np.float32))
    again = vector.restart(0, 4)
    step = advance(vector, np.full((2, 1), 0.5, np.float32))
    assert np.array_equal(again, obs[1]), "the episode of that seed"
    assert np.allclose(step.obs[:, 0], [0.125, 0.25]), "the other one goes on"
    vector.close()


def test_results_are_not_overwritten_by_the_next_step() -> None:
    vector = make_vector(ToyPixels(), SEEDS, workers=True)
    vector.reset()
    first = advance(vector, np.full((2, 1), 0.5, np.float32))
    before = first.obs.copy()
    advance(vector, np.full((2, 1), 0.5, np.float32))
    assert np.array_equal(first.obs, before)
    vector.close()


@pytest.mark.parametrize("workers", [False, True])
def test_reset_with_seeds_repeats_the_episodes(workers: bool) -> None:
    vector = make_vector(ToyState(), [0, 1, 2, 3], workers=workers)
    sides = [tuple(vector.reset([10, 11, 12, 13])[:, 1]) for _ in range(3)]
    assert len(set(sides)) == 1
    assert len({tuple(vector.reset()[:, 1]) for _ in range(8)}) > 1
    vector.close()


def test_a_killed_worker_is_replaced_and_its_episode_dropped() -> None:
    vector = make_vector(ToyState(), SEEDS, workers=True)
    assert isinstance(vector, WorkerVector)
    vector.reset()
    actions = actions_for(10)
    advance(vector, actions[0])
    os.kill(pids(vector)[1], signal.SIGKILL)
    with pytest.warns(RuntimeWarning, match=r"worker 1 was lost \(SIGKILL\); restart 1, its episode is dropped"):
        step = advance(vector, actions[1])
    assert step.died.tolist() == [False, True] == step.truncated.tolist() and not step.terminated.any()
    assert step.reward[1] == 0 and step.obs[1, 0] == 0, "the new episode's first observation"
    assert step.obs[0, 0] != 0
    for action in actions[2:]:
        step = advance(vector, action)
        assert not step.died.any() and (step.obs[:, 0] != 0).all()
    vector.close()


def test_a_worker_killed_while_idle_is_reported_by_the_next_step() -> None:
    vector = make_vector(ToyState(), SEEDS, workers=True)
    assert isinstance(vector, WorkerVector)
    vector.reset()
    advance(vector, actions_for(1)[0])
    os.kill(pids(vector)[0], signal.SIGKILL)
    with pytest.warns(RuntimeWarning, match="worker 0 was lost"):
        states = vector.state()
    twin = make_vector(ToyState(), SEEDS, workers=True)
    twin.load_state(states)
    for vectors in (vector, twin):
        step = advance(vectors, np.full((2, 1), 0.3, np.float32))
        assert step.died.tolist() == [True, False], "also after a resume"
        assert step.obs[0, 0] == 0
        vectors.close()


def test_replacements_are_seeded_reproducibly() -> None:
    def targets_after_death(seed: int) -> list[float]:
        vector = make_vector(ToyState(), [seed], workers=True)
        assert isinstance(vector, WorkerVector)
        vector.reset()
        os.kill(pids(vector)[0], signal.SIGKILL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            targets = [float(advance(vector, np.zeros((1, 1), np.float32)).obs[0, 1])]
        targets += [float(vector.reset()[0, 1]) for _ in range(12)]
        vector.close()
        return targets

    one, again, other = targets_after_death(5), targets_after_death(5), targets_after_death(6)
    assert one == again != other


def test_a_worker_that_keeps_dying_stops_the_run() -> None:
    vector = make_vector(Doomed(), [0], workers=True)
    vector.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(RuntimeError, match=rf"worker 0 was lost {MAX_LOSSES} times.*exit code 3: out of luck$"):
            for _ in range(MAX_LOSSES):
                assert advance(vector, np.zeros((1, 1), np.float32)).died.all()
    vector.close()


def test_errors_inside_an_environment_arrive_as_one_line() -> None:
    with pytest.raises(RuntimeError, match=r"^install the simulator first$"):
        make_vector(Stillborn(), SEEDS, workers=True)
    with pytest.raises(ValueError, match="did you mean cheetah"):
        make_vector(DMC("cheeta", "run"), [0], workers=True)
    vector = make_vector(Brittle(), SEEDS, workers=True)
    vector.reset()
    line = r"lost \(BrittleEnv: step 1 of an episode: OSError: the robot is on fire \(test_vector.py:\d+\)\)"
    with pytest.warns(RuntimeWarning, match=line):
        assert advance(vector, np.array([[1.0], [0.0]], np.float32)).died.tolist() == [True, False]
    vector.close()


def test_a_crash_tells_its_signal() -> None:
    vector = make_vector(Brittle(), SEEDS, workers=True)
    vector.reset()
    with pytest.warns(RuntimeWarning, match="worker 0 was lost .SIGSEGV: "):
        assert advance(vector, np.array([[-1.0], [0.0]], np.float32)).died.tolist() == [True, False]
    vector.close()


@pytest.mark.parametrize("workers", [False, True])
@pytest.mark.parametrize("config", [ToyPixels(), DMC("cartpole", "swingup", "pixels", 8, size=32)])
def test_resume_is_exact(config: Any, workers: bool) -> None:
    vector = make_vector(config, SEEDS, workers=workers)
    vector.reset()
    actions = actions_for(40)
    for action in actions[:25]:
        obs = advance(vector, action).obs
    states = vector.state()
    rest = [advance(vector, action) for action in actions[25:]]
    vector.close()
    twin = make_vector(config, SEEDS, workers=not workers)
    assert np.array_equal(twin.load_state(states), obs)
    for action, step in zip(actions[25:], rest, strict=True):
        again = advance(twin, action)
        assert np.array_equal(step.obs, again.obs) and np.array_equal(step.reward, again.reward)
    twin.close()


def test_close_leaves_nothing_and_may_be_repeated() -> None:
    files = set(os.listdir("/proc/self/fd"))
    vector = make_vector(ToyPixels(), SEEDS, workers=True)
    assert isinstance(vector, WorkerVector)
    vector.reset()
    started = pids(vector)
    vector.step_async(np.zeros((2, 1), np.float32))
    vector.close()
    vector.close()
    assert all(not Path(f"/proc/{pid}").exists() for pid in started), "no process, no zombie"
    assert set(os.listdir("/proc/self/fd")) <= files


PARENT = """
import sys, time, os, signal
import numpy as np
from rlrep.envs.toy import ToyState
from rlrep.envs.vector import make_vector
if __name__ == "__main__":
    vector = make_vector(ToyState(), [0, 1], workers=True)
    vector.reset()
    pids = [worker._process.pid for worker in vector._workers]
    torch = any("torch" in open(f"/proc/{pid}/maps").read() for pid in pids)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell has it ignored
    try:
        print(*pids, torch, flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        vector.step_async(np.zeros((2, 1), np.float32))
        print("died", vector.step_wait().died.any(), flush=True)
        os.kill(os.getpid(), 9)
"""


def test_workers_survive_ctrl_c_and_end_with_their_parent(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [os.getcwd(), *sys.path]))}
    parent = subprocess.Popen(
        [sys.executable, str(script)], env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert parent.stdout is not None
    *children, has_torch = parent.stdout.readline().split()
    assert has_torch == "False", "a worker imports no torch"
    for pid in (parent.pid, *map(int, children)):
        os.kill(pid, signal.SIGINT)
    assert parent.stdout.readline().split() == ["died", "False"]
    assert parent.wait(10) == -signal.SIGKILL
    deadline = time.monotonic() + 10
    while not all(gone(int(pid)) for pid in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert all(gone(int(pid)) for pid in children)


def test_a_config_of_the_main_script_is_refused_with_the_remedy() -> None:
    local = type("Local", (ToyState,), {"__module__": "__main__"})
    with pytest.raises(ValueError, match=r"move it to a module or set env\.workers=inline"):
        make_vector(local(), [0], workers=True)
