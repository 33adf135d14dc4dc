"""The same games on single ALEs, on ale-py's vector environment, and in gymnasium's own stack."""

from collections.abc import Callable
from typing import Any, Literal

import ale_py
import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation
from numpy.typing import NDArray
from scipy.stats import chi2_contingency, chisquare

from rlrep.contract.agent import Agent
from rlrep.contract.env import Step
from rlrep.envs.atari.env import Atari
from rlrep.envs.atari.vector import AtariVector
from rlrep.envs.vector import InlineVector, make_vector
from rlrep.loops.evaluation import Evaluator
from rlrep.process.seeds import Seeds

gymnasium.register_envs(ale_py)


def variant(game: str, protocol: Literal["atari100k", "machado"], **options: Any) -> Atari:
    """Return a protocol without no-ops, which every implementation draws from its own generator."""
    rules = Atari(game, protocol).rules._replace(noop_max=0)
    return Atari(game, "custom", **rules._asdict(), **options)


def make_plain(config: Atari, seed: int) -> gymnasium.Env[Any, Any]:
    """Return gymnasium's own environment with its Atari wrappers, its ALE seeded as ours."""
    name = "".join(word.capitalize() for word in config.rom.split("_"))
    base = gymnasium.make(
        f"ALE/{name}-v5",
        frameskip=1,
        repeat_action_probability=config.rules.sticky,
        full_action_space=config.rules.full_actions,
        max_num_frames_per_episode=config.max_frames,
    )
    inner: Any = base.unwrapped

    def seed_game(_: int | None = None) -> tuple[int, int]:
        inner._np_random = np.random.default_rng(seed)
        inner.ale.setInt("random_seed", seed)
        return 0, seed

    inner.seed_game = seed_game
    wrapped = AtariPreprocessing(base, noop_max=config.rules.noop_max, frame_skip=config.frame_skip)
    return FrameStackObservation(wrapped, config.frame_stack)


class Twin:
    """The plain stack with a life's loss, clipping and score added as a protocol has them."""

    def __init__(self, config: Atari, seed: int) -> None:
        self.config, self.env = config, make_plain(config, seed)
        self.ale: Any = self.env.unwrapped.ale  # type: ignore[attr-defined]
        self.stack, self.score = np.array(self.env.reset(seed=seed)[0]), 0.0

    def step(self, action: int) -> tuple[NDArray[Any], float, bool, bool, float]:
        before = self.ale.lives()
        obs, reward, terminated, truncated, _ = self.env.step(action)
        self.score += float(reward)
        ended = terminated or truncated
        self.stack = np.concatenate([self.stack[1:], obs[-1:]])
        final = self.stack
        lost = self.config.rules.life_loss and not ended and 0 < self.ale.lives() < before
        if lost:
            self.stack = np.repeat(obs[-1:], len(obs), axis=0)
        score = self.score if ended else np.nan
        return final, float(np.clip(float(reward), -1, 1)), terminated or lost, truncated, score


def advance(vector: Any, actions: NDArray[np.int64]) -> Step:
    vector.step_async(actions)
    step: Step = vector.step_wait()
    return step


CASES = [
    ("breakout", "atari100k", {}),
    ("breakout", "machado", {}),
    ("road_runner", "atari100k", {}),
    ("road_runner", "machado", {}),
    ("qbert", "atari100k", {"max_frames": 1000}),
    ("pong", "machado", {"max_frames": 202}),
]


@pytest.mark.parametrize(("game", "protocol", "options"), CASES)
def test_all_three_show_the_same_game(game: str, protocol: Any, options: dict[str, Any]) -> None:
    config, seeds = variant(game, protocol, **options), [3, 2**31 - 1]
    ours: list[Any] = [make_vector(config, seeds, workers=False), config.vector(seeds) or AtariVector(config, seeds)]
    obs = [vector.reset(seeds) for vector in ours]
    twins = [Twin(config, seed) for seed in seeds]
    assert all(np.array_equal(each, np.stack([twin.stack for twin in twins])) for each in obs)
    random, running = np.random.default_rng(0), [True, True]
    lives_lost = ended = 0
    while any(running):
        actions = random.integers(ours[0].single_action_space.n, size=2)
        steps = [advance(vector, actions) for vector in ours]
        for i in np.flatnonzero(running):
            frames, *rest = twins[i].step(int(actions[i]))
            for step in steps:
                assert np.array_equal(step.final_obs[i], frames)
                found = (step.reward[i], step.terminated[i], step.truncated[i], step.score[i])
                assert np.array_equal(np.array(found, float), np.array(rest, float), equal_nan=True)
                running[i] = np.isnan(step.score[i])
                if running[i]:
                    assert np.array_equal(step.obs[i], twins[i].stack), "begun anew where a life was lost"
            lives_lost += bool(running[i] and rest[1])
            ended += not running[i]
    assert ended == 2 and (lives_lost > 0) == (protocol == "atari100k")
    ours[1].close()


def test_no_op_starts_have_one_distribution() -> None:
    """Uniform on 0 to 29 (as in Kaixhin's Rainbow) here and in ale-py; gymnasium draws from 1 to 30."""
    config, count = Atari("breakout"), 150
    single = config.make(0)
    single.reset(seed=1)
    vector = AtariVector(config, list(range(8)))
    vector.reset(list(range(8)))
    plain = make_plain(config, 5)
    plain.reset(seed=5)

    def single_start() -> list[int]:
        single.reset()
        return [single._ale.getEpisodeFrameNumber()]

    def vector_start() -> list[int]:
        return [int(frames) for frames in vector._env.reset()[1]["episode_frame_number"]]

    def plain_start() -> list[int]:
        return [int(plain.reset()[1]["episode_frame_number"]) - 1]

    tables = [histogram(draw, count) for draw in (single_start, vector_start, plain_start)]
    assert all(table.sum() == count and chisquare(table).pvalue > 1e-4 for table in tables)
    assert chi2_contingency(np.stack(tables)).pvalue > 1e-4
    vector.close()


def histogram(draw: Callable[[], list[int]], count: int) -> NDArray[np.int64]:
    drawn: list[int] = []
    while len(drawn) < count:
        drawn += draw()
    assert set(drawn) <= set(range(30))
    return np.bincount(drawn[:count], minlength=30)


def test_a_start_with_no_ops_is_the_single_games_start_with_as_many_and_is_filmed_in_colour() -> None:
    config = Atari("breakout", "custom", sticky=0.25, life_loss=False)
    vector, single = AtariVector(config, [0, 0]), config.make(8)
    vector.reset([7, 8])
    random = np.random.default_rng(0)
    first = vector.restart(1, 8)
    assert np.array_equal(first, single.begin(vector._screens[1]._noops))
    for step_number in range(60):
        actions = random.integers(4, size=2)
        step, expected = advance(vector, actions), single.step(actions[1])
        assert np.array_equal(step.obs[1], expected[0]) and not step.terminated.any()
        if step_number % 20 == 5:
            assert np.array_equal(vector.render(1), single.render())
    assert vector.render(0).shape == (210, 160, 3)
    vector.close()


def test_the_vector_begins_new_games_within_the_step() -> None:
    config = Atari("breakout", backend="vector", num_envs=2)
    vector = config.vector([3, 4])
    assert isinstance(vector, AtariVector) and vector.gives_score and vector.num_envs == 2
    vector.reset([3, 4])
    scores = 0
    for _ in range(250):
        step = advance(vector, np.ones(2, np.int64))
        for i in np.flatnonzero(step.terminated):
            assert (step.obs[i] == step.obs[i, -1]).all(), "the stack begins anew"
        scores += int((~np.isnan(step.score)).sum())
    assert scores >= 2 and vector.render(0).shape == (84, 84, 3), "a game whose seed is unknown is shown in gray"
    vector.close()


def test_the_vector_says_that_a_resume_lost_its_games() -> None:
    config = Atari("freeway", backend="vector")
    vector, again = (AtariVector(config, [seed]) for seed in (3, 4))
    first = vector.reset([3])
    assert np.array_equal(first, again.reset([3])) and not np.array_equal(first, again.reset([6]))
    obs = again.load_state(vector.state())
    step = advance(again, np.ones(1, np.int64))
    assert step.died.all() and step.truncated.all() and np.isnan(step.score).all() and np.array_equal(step.obs, obs)
    assert not np.array_equal(obs, first) and not advance(again, np.ones(1, np.int64)).died.any()
    assert np.array_equal(vector.load_state(vector.state()), obs), "the same new games each time"
    assert not np.array_equal(vector.load_state(vector.state()), obs), "other ones after another resume"
    for each in (vector, again):
        each.close()


class Reader:
    """An agent whose action depends on every pixel, and which is fast."""

    def act(self, obs: NDArray[np.uint8], *, explore: bool) -> NDArray[np.int64]:
        assert not explore and len(obs) == 4
        weights = np.arange(1, obs[0].size + 1, dtype=np.int64) % 251
        return np.asarray((obs.reshape(len(obs), -1).astype(np.int64) @ weights) // 7 % 9, np.int64)


def test_evaluation_does_not_depend_on_how_many_games_run_at_once() -> None:
    config = Atari("ms_pacman", max_frames=480).evaluation()

    def results(envs: Any) -> list[Any]:
        agent: Agent = Reader()  # type: ignore[assignment]
        evaluator = Evaluator(lambda: envs, agent, Seeds(1), batch=4, epsilon=0.1, say=print)
        found = evaluator.run(2, 5)
        evaluator.close()
        return found

    expected = results(AtariVector(config, [0]))
    assert expected == results(AtariVector(config, [0] * 3)) == results(AtariVector(config, [0] * 6))
    assert len({(episode.total_return, episode.length) for episode in expected}) > 2


def test_evaluation_is_the_same_on_either_backend() -> None:
    rules = Atari("road_runner").rules._replace(noop_max=0, sticky=0.25)
    config = Atari("road_runner", "custom", **rules._asdict(), max_frames=1200, training=False)
    agent: Agent = Reader()  # type: ignore[assignment]
    vectors: list[Any] = [AtariVector(config, [0, 0]), InlineVector(config, [0])]
    single, many = (Evaluator(lambda v=v: v, agent, Seeds(0), batch=4, say=print).run(1, 3) for v in vectors)  # type: ignore[misc]
    assert single == many and isinstance(vectors[0].single_action_space, spaces.Discrete)
