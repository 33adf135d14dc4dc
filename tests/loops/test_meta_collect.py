"""Collecting by task: stages in order, whole episodes, fresh contexts, lost simulators, exact resume."""

from typing import Any

import numpy as np
import pytest

from rlrep.contract.meta import Job, Stage
from rlrep.loops.meta.collect import Collector
from rlrep.loops.perf import Stopwatch

from .meta_fakes import TASKS, MetaFake, TaskEnvs, length_of

PRIOR = Stage(5, informed=False, context=True)
EXTRA = Stage(9, informed=True, context=False)
JOBS = [Job(task, (PRIOR, EXTRA)) for task in (2, 0, 3, 1)]


def make(width: int = 2, deaths: tuple[int, ...] = ()) -> tuple[Collector, MetaFake, TaskEnvs]:
    envs, agent = TaskEnvs(width, deaths), MetaFake()
    collector = Collector(envs, agent, TASKS, seed=0, watch=Stopwatch())
    collector.start(list(range(width)))
    return collector, agent, envs


def collect(width: int = 2, deaths: tuple[int, ...] = ()) -> tuple[int, MetaFake, TaskEnvs]:
    """Return the agent steps that all jobs took."""
    collector, agent, envs = make(width, deaths)
    collector.give(JOBS)
    made = 0
    while not collector.idle:
        made += collector.step()
    return made, agent, envs


def episodes_of(stage: Stage, task: int) -> int:
    return -(-stage.steps // length_of(task))


def of_task(agent: MetaFake, task: int, *kinds: str) -> list[Any]:
    """Return what the agent was told about a task, in order."""
    return [call for call in agent.calls if call[0] in kinds and call[1] == task]


@pytest.mark.parametrize("width", [1, 2, 3, 7])
def test_each_job_plays_its_stages_in_order_and_in_whole_episodes(width: int) -> None:
    made, agent, _ = collect(width)
    expected = {task: [True] * episodes_of(PRIOR, task) + [False] * episodes_of(EXTRA, task) for task in range(4)}
    for task in range(4):
        seen = [(episode, context) for number, episode, context in agent.seen if number == task]
        assert [context for _, context in seen] == expected[task]
        for episode, _ in seen:
            assert episode.obs.tolist() == [[task, step] for step in range(length_of(task) + 1)]
            assert len(episode) == length_of(task) and episode.terminated is (task % 2 == 1)
            assert episode.obs.dtype == episode.reward.dtype == np.float32
    assert made == sum(len(stages) * length_of(task) for task, stages in expected.items())


def test_a_jobs_context_is_forgotten_once_and_its_latents_are_drawn_episode_by_episode() -> None:
    _, agent, _ = collect()
    for task in range(4):
        told = of_task(agent, task, "begin", "latent", "observe")
        first, more = episodes_of(PRIOR, task), episodes_of(EXTRA, task)
        pairs = [call for on in [False] * first + [True] * more for call in (("latent", on), ("observe", not on))]
        assert [(call[0], *call[2:]) for call in told] == [("begin",), *pairs]


def test_each_simulator_acts_by_the_latent_of_its_episode_and_idle_ones_by_zeros() -> None:
    _, agent, envs = collect(3)
    drawn = 0
    for call in agent.calls:
        if call[0] == "act":
            for (task, _), (whose, number) in zip(call[1], call[2], strict=True):
                assert (whose == task and 0 < number <= drawn) or (whose, number) == (0, 0)
        drawn += call[0] == "latent"
    assert envs.given == [(0, "task 2"), (1, "task 0"), (2, "task 3"), (0, "task 1")]
    last = [call for call in agent.calls if call[0] == "act"][-1]
    assert (last[2][:, 1] == 0).sum() == 2, "one was left working"


def test_actions_are_drawn_and_rewards_go_with_them() -> None:
    _, agent, _ = collect()
    for task, episode, _ in agent.seen:
        assert len(np.unique(episode.action)) == len(episode), "each action has noise of its own"
        assert np.abs(episode.action - task).mean() < 3
        assert np.allclose(episode.reward, episode.action[:, 0], atol=0.01)
        shown = episode.reward / 2 if task == 3 else episode.reward
        assert np.allclose(episode.context_reward, shown)


def test_returns_are_those_that_count_at_the_test() -> None:
    collector, agent, _ = make(1)
    collector.give([Job(3, (Stage(1, informed=False, context=True),))])
    while not collector.idle:
        collector.step()
    (_, episode, _), ((total, length),) = agent.seen[0], collector.returns
    assert length == 6 and total == pytest.approx(episode.context_reward.sum(), rel=1e-5)
    assert total == pytest.approx(episode.reward.sum() / 2, rel=1e-5)


@pytest.mark.parametrize("deaths", [(2, 4), (10,), (3, 9, 14)])
def test_the_episode_of_a_lost_simulator_is_dropped_and_played_again(deaths: tuple[int, ...]) -> None:
    whole, expected, _ = collect()
    made, agent, _ = collect(deaths=deaths)
    assert made > whole
    for task in range(4):
        seen, wanted = ([(len(e), context) for t, e, context in a.seen if t == task] for a in (agent, expected))
        assert seen == wanted, "as many whole episodes as without the loss"
        assert all(e.obs[:, 1].tolist() == list(range(len(e) + 1)) for t, e, _ in agent.seen)


def test_jobs_that_come_in_while_others_run_wait_their_turn() -> None:
    collector, agent, _ = make(1)
    collector.give(JOBS[:1])
    collector.give(JOBS[1:2])
    assert [call for call in agent.calls if call[0] == "begin"] == [("begin", 2)]
    while not collector.idle:
        collector.step()
    assert [task for task, *_ in agent.seen] == [2, 2, 2] + [0] * 5
    assert collector.step() == 0 and len(agent.seen) == 8, "an idle one throws away what it does"


@pytest.mark.parametrize("stopped", [0, 1, 3, 8, 13, 20])
def test_a_stopped_collection_goes_on_exactly(stopped: int) -> None:
    _, expected, _ = collect()
    collector, agent, envs = make()
    collector.give(JOBS)
    for _ in range(stopped):
        collector.step()
    state, simulators, told = collector.state(), envs.state(), agent.state()
    again, other, elsewhere = make()
    other.load_state(told)
    again.load_state(state, elsewhere.load_state(simulators))
    while not again.idle:
        again.step()
    seen = agent.seen + other.seen
    assert len(seen) == len(expected.seen)
    for (task, ours, context), (task_too, theirs, context_too) in zip(seen, expected.seen, strict=True):
        assert (task, context) == (task_too, context_too)
        assert all(np.array_equal(getattr(ours, name), getattr(theirs, name)) for name in vars(ours))
    assert again.returns == expected_returns()


def expected_returns() -> list[tuple[float, int]]:
    collector, *_ = make()
    collector.give(JOBS)
    while not collector.idle:
        collector.step()
    return collector.returns
