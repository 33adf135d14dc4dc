"""Several environments in one worker process: as those in this process, and what one's end costs the others."""

import os
import signal
from collections import Counter
from typing import Any

import numpy as np
import pytest

from rlrep.envs.toy import ToyState
from rlrep.envs.vector import Pool, WorkerVector, make_vector, pool

from .test_vector import Brittle, Stillborn, actions_for, advance, gone, pids

SEEDS = [3, 4, 5, 6, 7]
LOST = "ignore:environment worker"


TOY = ToyState(terminates=True)


def shared(config: Any = TOY, workers: Pool | None = None) -> WorkerVector:
    """Five environments in two processes: rows 0, 2 and 4, and rows 1 and 3."""
    vector = WorkerVector(config, SEEDS, pool=workers or Pool(2))
    vector._private = workers is None
    vector.reset()
    return vector


def test_many_environments_make_no_more_processes_than_there_are_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_cores", lambda: 1)
    vector = make_vector(ToyState(), SEEDS, workers=True)
    assert isinstance(vector, WorkerVector)
    children = pids(vector)
    assert sorted(Counter(children).values()) == [2, 3], "two processes at least"
    vector.close()
    assert all(map(gone, children))


def test_vectors_share_a_pool_and_end_apart() -> None:
    both = Pool(2)
    first, second = shared(workers=both), shared(Brittle(), workers=both)
    children = {*pids(first), *pids(second)}
    assert len(children) == 2 and {worker.environments for worker in both._workers} == {5}
    for action in actions_for(3, len(SEEDS)):
        first.step_async(action)  # whoever waits first takes in what is the other's
        second.step_async(action)
        assert not second.step_wait().died.any() and not first.step_wait().died.any()
    second.close()
    assert not any(map(gone, children)) and not advance(first, actions_for(1, len(SEEDS))[0]).died.any()
    first.close()
    both.close()
    assert all(map(gone, children))


def test_they_are_as_those_in_this_process_and_their_states_cross() -> None:
    inline, vector = make_vector(TOY, SEEDS, workers=False), shared()
    inline.reset()
    actions = actions_for(50, len(SEEDS))
    for number, action in enumerate(actions):
        if number == 25:
            states = vector.state()
            vector.close()
            vector = shared()
            vector.load_state(states)
        one, two = advance(inline, action), advance(vector, action)
        for name in ("obs", "final_obs", "reward", "terminated", "truncated", "died"):
            assert np.array_equal(getattr(one, name), getattr(two, name)), name
    assert np.array_equal(inline.restart(3, 9), vector.restart(3, 9))
    vector.close()


@pytest.mark.filterwarnings(LOST)
def test_one_that_raises_goes_on_in_a_process_of_its_own_and_the_others_where_they_are() -> None:
    vector, twin = shared(Brittle()), shared(Brittle())
    before, actions = pids(vector), actions_for(6, len(SEEDS))
    actions[2, 3] = 0.95
    for number, action in enumerate(actions):
        step = advance(vector, action)
        assert step.died.tolist() == [number == 2 and row == 3 for row in range(5)]
        usual = advance(twin, np.where(action > 0.9, 0.0, action))
        assert np.array_equal(np.delete(step.obs, 3, 0), np.delete(usual.obs, 3, 0)), "these notice nothing"
    after = pids(vector)
    assert [one == two for one, two in zip(before, after, strict=True)] == [True, True, True, False, True]
    assert after[3] not in before
    for each in (vector, twin):
        each.close()
    assert all(map(gone, {*before, *after}))


@pytest.mark.filterwarnings(LOST)
def test_a_process_that_is_lost_costs_each_of_its_environments_an_episode() -> None:
    vector, actions = shared(Brittle()), actions_for(8, len(SEEDS))
    before = pids(vector)
    advance(vector, actions[0])
    actions[1, 3] = -0.95
    died = [advance(vector, action).died for action in actions[1:4]]
    assert died[0].tolist() == [False, False, False, True, False], "the one before it has stepped already"
    assert died[1].tolist() == [False, True, False, False, False] and not died[2].any()
    assert pids(vector)[::2] == before[::2] and len(set(pids(vector))) == 3
    os.kill(pids(vector)[0], signal.SIGKILL)
    states = vector.state()
    assert [state["lost"] for state in states] == [True, False, True, False, True]
    assert advance(vector, actions[4]).died.tolist() == [True, False, True, False, True]
    assert not advance(vector, actions[5]).died.any()
    vector.close()


def test_what_cannot_be_built_says_why() -> None:
    with pytest.raises(RuntimeError, match="install the simulator first"):
        WorkerVector(Stillborn(), [0, 1, 2], pool=Pool(1))
