"""Evaluation in slots: batches of one size, random actions by episode, scores, episodes that follow each other."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from rlrep.config.config import TrainConfig
from rlrep.contract.env import HUMAN_NORMALISED, Array, EnvConfig, Step
from rlrep.loops.evaluation import Evaluator, eval_envs, random_action, summarise
from rlrep.process.seeds import Seeds
from rlrep.settings import UserError
from tests.fakes import EPISODE, FakeAgent, FakeEnvs


class Uneven(FakeEnvs):
    """Episodes of 2 to 6 steps, by their seed; the reward is the action's first entry, or its index."""

    def step_async(self, actions: Array) -> None:
        super().step_async(actions)
        self._actions = actions[:, 0]

    def step_wait(self) -> Step:
        step = super().step_wait()
        self._steps = step.obs[:, 1]
        ended = self._steps >= 2 + self._seeds % 5
        self._steps[ended] = 0
        never = np.zeros(self.num_envs, bool)
        return replace(step, obs=self._obs(), reward=self._actions.astype(np.float32), truncated=ended, died=never)


class Watched(FakeAgent):
    """Records the batches it acts on; its action is the step of the episode."""

    def __init__(self) -> None:
        super().__init__([])
        self.batches: list[Array] = []

    def act(self, obs: Array, *, explore: bool) -> Array:
        assert not explore
        self.batches.append(obs.copy())
        return np.asarray(obs[:, 1:], np.float32)


def run(width: int, *, batch: int = 1, epsilon: float = 0.0, episodes: int = 7) -> tuple[list[Any], Watched, list[str]]:
    agent, calls = Watched(), list[str]()
    evaluator = Evaluator(
        lambda: Uneven(width, calls), agent, Seeds(1), batch=batch, epsilon=epsilon, say=lambda line: None
    )
    return evaluator.run(3, episodes), agent, calls


def test_a_simulator_that_has_finished_takes_the_next_episode() -> None:
    lengths = [2 + Seeds(1).episode(3, k) % 5 for k in range(7)]
    busy = [0, 0, 0]
    for length in lengths:
        busy[busy.index(min(busy))] += length
    episodes, _, calls = run(3)
    assert [episode.length for episode in episodes] == lengths
    assert calls.count("async") == max(busy) < 3 * max(lengths)


def test_results_do_not_depend_on_how_many_run_at_once() -> None:
    for epsilon in (0.0, 0.5):
        expected = run(1, batch=4, epsilon=epsilon)[0]
        assert [episode.index for episode in expected] == list(range(7))
        assert all(run(width, batch=4, epsilon=epsilon)[0] == expected for width in (2, 3, 7, 9))
    assert expected != run(1, batch=4)[0]
    assert len({episode.total_return for episode in expected}) > 3


def test_evaluations_and_their_episodes_have_seeds_of_their_own() -> None:
    seeds = Seeds(0)
    drawn = [seeds.episode(j, k) for j in range(20) for k in range(10)] + seeds.envs(8) + [seeds.agent]
    assert len(set(drawn)) == len(drawn)
    assert Seeds(0).episode(3, 4) == Seeds(0).episode(3, 4) != Seeds(1).episode(3, 4)


def test_an_evaluation_episode_whose_simulator_died_is_run_again() -> None:
    envs = FakeEnvs(2, deaths=(4,))
    evaluator = Evaluator(lambda: envs, FakeAgent([]), Seeds(0), say=print)
    assert [episode.length for episode in evaluator.run(1, 3)] == [EPISODE] * 3


def test_simulators_that_keep_dying_end_an_evaluation() -> None:
    evaluator = Evaluator(lambda: FakeEnvs(2, deaths=tuple(range(1000))), FakeAgent([]), Seeds(0), say=print)
    with pytest.raises(UserError, match="keep dying"):
        evaluator.run(1, 2)


def test_the_policy_always_acts_on_batches_of_one_size() -> None:
    for width, batch, calls_per_step in ((3, 1, 3), (3, 4, 1), (6, 4, 2)):
        _, agent, calls = run(width, batch=batch)
        assert {len(seen) for seen in agent.batches} == {batch}
        assert len(agent.batches) == calls_per_step * calls.count("async")
    assert (agent.batches[1][2:] == 0).all(), "filled up"


def test_a_share_of_the_actions_is_random_and_belongs_to_the_episode() -> None:
    everything = run(2, epsilon=1.0)[0]
    assert all(-episode.length < episode.total_return < episode.length for episode in everything)
    assert run(2, epsilon=1.0, episodes=3)[0] == everything[:3]
    drawn = [random_action(spaces.Discrete(3, start=2), np.random.default_rng(k)) for k in range(60)]
    assert set(drawn) == {2, 3, 4}
    box = spaces.Box(np.array([0, 5], np.float32), np.array([1, 6], np.float32))
    assert box.contains(random_action(box, np.random.default_rng(0)))


def test_a_score_counts_in_place_of_the_rewards() -> None:
    class Scored(FakeEnvs):
        def step_wait(self) -> Step:
            step = super().step_wait()
            return replace(step, score=np.where(step.truncated, 99.0, np.nan).astype(np.float32))

    episodes = Evaluator(lambda: Scored(2), FakeAgent([]), Seeds(0), say=print).run(1, 3)
    assert [episode.total_return for episode in episodes] == [99.0] * 3


def test_how_many_simulators_and_what_levels_are_known() -> None:
    train = TrainConfig(agent_steps=1, eval_episodes=10, eval_envs=16)
    assert eval_envs(train) == 10 and eval_envs(replace(train, final_episodes=100)) == 16

    class Level(EnvConfig):
        random_return, human_return, optimal_return = 2, 6.0, None

    scoring = Level().scoring()
    assert scoring.references == {"random": 2.0, "human": 6.0}
    assert (scoring.scale, scoring.zero, scoring.one) == (HUMAN_NORMALISED, 2.0, 6.0)
    episodes = run(1)[0]
    found = summarise(episodes, {"random": 1.0, "human": 3.0})
    assert found["eval/human_normalised"] == (found["eval/return_mean"] - 1.0) / 2.0
    assert "eval/human_normalised" not in summarise(episodes, {"random": 1.0})
