"""Tasks and context rewards through vector environments: in process, in workers, after a death and after a resume."""

import os
import signal
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from rlrep.contract.env import Task
from rlrep.envs.atari.vector import AtariVector
from rlrep.envs.toy import ToyEnv, ToyState
from rlrep.envs.vector import WorkerVector, make_vector

SEEDS = [3, 4]


class SidedEnv(ToyEnv):
    """The chase with its target where the task says; odd steps hide the reward from the context."""

    _task, _playing = 0.5, 0.5

    def set_task(self, task: Task) -> None:
        self._task = float(task.parameters["target"])

    def reset(self, **keywords: Any) -> Any:
        super().reset(**keywords)
        self._playing = self._target = self._task
        return self._observe(), {}

    def step(self, action: Any) -> Any:
        obs, _, terminated, truncated, info = super().step(action)
        hidden = {"context_reward": 0.5} if self._steps % 2 else {}
        return obs, self._target, terminated, truncated, info | hidden

    def state(self) -> Any:
        return super().state() | {"task": self._task}

    def load_state(self, state: Any) -> Any:
        self._task = state["task"]
        return super().load_state(state)


@dataclass(frozen=True)
class Sided:
    def make(self, seed: int) -> SidedEnv:
        return SidedEnv(seed, terminates=False, size=None, frame_stack=1)


def task(target: float) -> Task:
    return Task(f"target {target}", {"target": target, "list": [1, 2.5]}, (target,))


def advance(vector: Any) -> Any:
    vector.step_async(np.full((vector.num_envs, 1), 0.1, np.float32))
    return vector.step_wait()


def kill(vector: WorkerVector, index: int) -> None:
    os.kill(vector._workers[index]._process.pid, signal.SIGKILL)


@pytest.mark.parametrize("workers", [False, True])
def test_a_task_begins_with_the_next_episode_and_stays(workers: bool) -> None:
    vector = make_vector(Sided(), SEEDS, workers=workers)
    vector.reset()
    vector.set_task(1, task(-0.25))
    assert advance(vector).reward.tolist() == [0.5, 0.5], "the running episode keeps its task"
    assert vector.restart(1, 7)[1] == np.float32(-0.25)
    for _ in range(45):  # over two autoresets
        assert advance(vector).reward.tolist() == [0.5, -0.25]
    assert vector.reset(SEEDS)[:, 1].tolist() == [0.5, -0.25]
    vector.close()


@pytest.mark.parametrize("workers", [False, True])
def test_the_context_reward_is_the_steps_own(workers: bool) -> None:
    vector = make_vector(Sided(), SEEDS, workers=workers)
    vector.reset()
    found = [advance(vector).context_reward for _ in range(3)]
    assert np.array_equal(found, [[0.5, 0.5], [np.nan, np.nan], [0.5, 0.5]], equal_nan=True)
    vector.close()
    plain = make_vector(ToyState(), SEEDS, workers=workers)
    plain.reset()
    assert np.isnan(advance(plain).context_reward).all()
    plain.close()


@pytest.mark.filterwarnings("ignore:environment worker")
@pytest.mark.parametrize("resumed", [False, True])
def test_a_dead_workers_replacement_gets_its_task_again(resumed: bool) -> None:
    vector = make_vector(Sided(), SEEDS, workers=True)
    vector.set_task(0, task(-0.75))
    vector.reset()
    advance(vector)
    if resumed:
        states = vector.state()
        vector.close()
        vector = make_vector(Sided(), SEEDS, workers=True)
        vector.load_state(states)
    assert isinstance(vector, WorkerVector)
    kill(vector, 0)
    step = advance(vector)
    assert step.died.tolist() == [True, False] and np.isnan(step.context_reward[0])
    assert step.obs[:, 1].tolist() == [-0.75, 0.5]
    assert advance(vector).reward.tolist() == [-0.75, 0.5]
    vector.close()


@pytest.mark.filterwarnings("ignore:environment worker")
def test_a_worker_that_dies_as_it_gets_a_task_begins_with_it_and_its_loss_is_told() -> None:
    vector = make_vector(Sided(), SEEDS, workers=True)
    assert isinstance(vector, WorkerVector)
    vector.reset()
    kill(vector, 1)
    vector.set_task(1, task(0.125))
    step = advance(vector)
    assert step.died.tolist() == [False, True] and step.obs[1, 1] == 0.125
    kill(vector, 0)
    vector.set_task(0, task(-0.5))
    assert vector.restart(0, 1)[1] == -0.5 and not advance(vector).died.any(), "no episode of it was lost"
    vector.close()


@pytest.mark.parametrize("workers", [False, True])
def test_tasks_cross_from_one_kind_to_the_other(workers: bool) -> None:
    vector = make_vector(Sided(), SEEDS, workers=workers)
    vector.set_task(0, task(-0.25))
    vector.reset()
    twin = make_vector(Sided(), SEEDS, workers=not workers)
    obs = twin.load_state(vector.state())
    assert obs[:, 1].tolist() == [-0.25, 0.5] and twin.state()[0]["task"] == vector.state()[0]["task"]
    assert np.array_equal(advance(vector).obs, advance(twin).obs)
    vector.close()
    twin.close()


@pytest.mark.parametrize("workers", [False, True])
def test_an_environment_without_tasks_says_so(workers: bool) -> None:
    vector = make_vector(ToyState(), SEEDS, workers=workers)
    with pytest.raises(ValueError, match=r"ToyEnv has no tasks \(no set_task\): choose a family"):
        vector.set_task(0, task(0.5))
    vector.close()
    with pytest.raises(ValueError, match="Atari games have no tasks"):
        AtariVector.set_task(None, 0, task(0.5))  # type: ignore[arg-type]
