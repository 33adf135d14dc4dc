"""Evaluation: whole episodes with the deterministic policy, on environments of their own."""

import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from gymnasium import spaces

from rlrep.config.config import TrainConfig
from rlrep.config.simulators import wait
from rlrep.contract.agent import Agent
from rlrep.contract.env import Array, Step, VectorEnv
from rlrep.process.machine import cores
from rlrep.process.seeds import Seeds
from rlrep.record.video import Video
from rlrep.settings import UserError, one_line

FINAL = 0
"""Number of the final evaluation; periodic ones count from 1."""
MOST_LOST = 3
"""Lost simulators per episode of an evaluation, before it is given up."""
MOST_ENV_STEPS = 108_000
"""Of an evaluation episode, which then counts as it stands: half an hour of Atari, the longest episode in use."""
_MOST_ENVS = 8


@dataclass(frozen=True)
class Episode:
    """One evaluation episode. length: agent steps. success: whether ever reached, None where the env has none."""

    index: int
    total_return: float
    length: int
    success: float | None


@dataclass(frozen=True)
class Evaluation:
    """Rows of eval.csv (where the run stands aside), metrics of the `episodes` that count for them, what else came out,
    for metrics.jsonl, and what a person is told."""

    rows: list[dict[str, float | str | None]]
    summary: dict[str, float]
    episodes: int
    health: dict[str, float] = field(default_factory=dict)
    told: str = ""


class Evaluates(ABC):
    """Plays evaluation episodes on simulators, started when they are first needed. check_stop: may raise Stopped."""

    def __init__(
        self, make_envs: Callable[[], VectorEnv], say: Callable[[str], None], check_stop: Callable[[], None]
    ) -> None:
        self._make_envs, self._say, self._check_stop = make_envs, say, check_stop
        self._envs: VectorEnv | None = None

    @abstractmethod
    def evaluate(
        self, number: int, episodes: int, *, references: Mapping[str, float], video: Path | None
    ) -> Evaluation:
        """Play evaluation `number` and sum it up. references: see `summarise`. video: where one episode is filmed."""

    @contextmanager
    def _stage(self, video: Path | None) -> Iterator[tuple[VectorEnv, "Film | None"]]:
        """Give simulators and a film, of which nothing is left unless it was finished."""
        if self._envs is None:
            self._envs = self._make_envs()
        film = Film(video, self._say) if video else None
        try:
            yield self._envs, film
        finally:
            if film:
                film.discard_unfinished()

    def _say_cut(self, lengths: Sequence[int]) -> None:
        """Warn if episodes of these agent steps went on for longer than any does."""
        assert self._envs is not None
        most = most_steps(self._envs)
        cut = sum(length >= most for length in lengths)
        if cut:
            self._say(
                f"warning: {cut} of {len(lengths)} evaluation episodes were cut after {most} agent steps: does the "
                f"environment end them (gymnasium.wrappers.TimeLimit)?"
            )

    def close(self) -> None:
        """End the simulators."""
        if self._envs is not None:
            self._envs.close()
            self._envs = None


class Evaluator(Evaluates):
    """Runs episode k of evaluation j from its own seed, so that results do not depend on how many run in parallel.

    batch: observations that the policy acts on at once, see `TrainConfig`. epsilon: share of random actions.
    """

    def __init__(
        self,
        make_envs: Callable[[], VectorEnv],
        agent: Agent,
        seeds: Seeds,
        *,
        batch: int = 1,
        epsilon: float = 0.0,
        say: Callable[[str], None],
        check_stop: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(make_envs, say, check_stop)
        self._agent, self._seeds, self._batch, self._epsilon = agent, seeds, batch, epsilon

    def run(self, evaluation: int, episodes: int, *, video: Path | None = None) -> list[Episode]:
        """Return `episodes` finished episodes, in order; the first is filmed. Raises Stopped if the run is to stop."""
        seeds = [self._seeds.episode(evaluation, index) for index in range(episodes)]
        with self._stage(video) as (envs, film):
            played = self._run_all(_Round(envs, seeds, film))
        self._say_cut([episode.length for episode in played])
        return played

    def evaluate(
        self, number: int, episodes: int, *, references: Mapping[str, float], video: Path | None
    ) -> Evaluation:
        played = self.run(number, episodes, video=video)
        return Evaluation([_row(episode) for episode in played], summarise(played, references), len(played))

    def _run_all(self, round_: "_Round") -> list[Episode]:
        while not round_.finished:
            self._check_stop()
            round_.step(self._act(round_))
        return round_.episodes()

    def _act(self, round_: "_Round") -> Array:
        actions = in_batches(partial(self._agent.act, explore=False), self._batch, round_.obs)
        for row, tally in enumerate(round_.tallies if self._epsilon else ()):
            if tally.random.random() < self._epsilon:
                actions[row] = random_action(round_.action_space, tally.random)
        return actions


def most_steps(envs: VectorEnv) -> int:
    """Return the agent steps after which an episode of an evaluation is cut."""
    return -(-MOST_ENV_STEPS // envs.action_repeat)


def in_batches(act: Callable[..., Array], size: int, *inputs: Array) -> Array:
    """Return `act(*inputs)` `(N, ...)` from batches of one size, the last filled up: a product of another size rounds
    differently."""
    count = len(inputs[0])
    filled = [np.concatenate([x, np.zeros((-count % size, *x.shape[1:]), x.dtype)]) for x in inputs]
    return np.concatenate([act(*(x[i : i + size] for x in filled)) for i in range(0, len(filled[0]), size)])[:count]


class _Round:
    """One evaluation under way. A simulator that has finished its episode takes the next one that waits."""

    def __init__(self, envs: VectorEnv, seeds: Sequence[int], film: "Film | None") -> None:
        self._envs, self._seeds, self._film = envs, seeds, film
        self.action_space = envs.single_action_space
        self._waiting, self._done, self._lost = deque(range(len(seeds))), dict[int, Episode](), 0
        self.tallies = [self._next() for _ in range(envs.num_envs)]
        self.obs = np.array(envs.reset([tally.seed for tally in self.tallies]))
        if film:
            film.add(envs, 0)

    @property
    def finished(self) -> bool:
        return len(self._done) == len(self._seeds)

    def episodes(self) -> list[Episode]:
        return [self._done[index] for index in range(len(self._seeds))]

    def step(self, actions: Array) -> None:
        self._envs.step_async(actions)
        step = wait(self._envs)
        self.obs = np.array(step.obs)
        for row, tally in enumerate(self.tallies):
            if tally.running:
                self._take(step, row, tally)

    def _next(self) -> "_Tally":
        """Return the next episode, a resting one if none waits."""
        index = self._waiting.popleft() if self._waiting else None
        return _Tally(index, self._seeds[index or 0], most_steps(self._envs))

    def _take(self, step: Step, row: int, tally: "_Tally") -> None:
        tally.add(step, row)
        film = self._film if tally.index == 0 else None
        if not tally.running:
            if film:
                film.close()
            self._finish(row, tally)
        elif film:
            film.add(self._envs, row)

    def _finish(self, row: int, tally: "_Tally") -> None:
        """Book an episode, or have it run again if its simulator died, and start the next."""
        assert tally.index is not None
        if tally.died:
            self._lose(tally.index)
        else:
            self._done[tally.index] = tally.episode()
        self.tallies[row] = self._next()
        if self.tallies[row].running:
            self.obs[row] = self._envs.restart(row, self.tallies[row].seed)

    def _lose(self, index: int) -> None:
        self._waiting.append(index)
        self._lost += 1
        if self._lost >= MOST_LOST * len(self._seeds):
            missing = sorted(set(range(len(self._seeds))) - self._done.keys())
            raise UserError(f"evaluation episodes {missing} never finished: their simulators keep dying")


class _Tally:
    """Return, length and success of one episode as it runs; `index=None` rests."""

    def __init__(self, index: int | None, seed: int, most_steps: int) -> None:
        self.index, self.seed, self._most = index, seed, most_steps
        self.random = np.random.default_rng(seed)
        self.running, self.died = index is not None, False
        self._return, self._length, self._success = 0.0, 0, math.nan

    def add(self, step: Step, row: int) -> None:
        self._return += float(step.reward[row])
        self._length += 1
        self._success = float(np.fmax(self._success, step.success[row]))
        self.died = bool(step.died[row])
        over = step.terminated[row] or step.truncated[row] or self._length == self._most
        self.running = not (over or self.died)
        if not math.isnan(step.score[row]):
            self._return = float(step.score[row])

    def episode(self) -> Episode:
        assert self.index is not None
        return Episode(self.index, self._return, self._length, None if math.isnan(self._success) else self._success)


class Film:
    """A video that may fail (no GL, no encoder) without failing the evaluation."""

    def __init__(self, path: Path, say: Callable[[str], None]) -> None:
        self._say = say
        self._video: Video | None = Video(path)

    def add(self, envs: VectorEnv, index: int) -> None:
        if self._video is not None:
            self._try(lambda video: video.add(envs.render(index)))

    def close(self) -> None:
        if self._video is not None:
            self._try(Video.close)
        self._video = None

    def discard_unfinished(self) -> None:
        if self._video is not None:
            self._video.discard()

    def _try(self, action: Callable[[Video], None]) -> None:
        assert self._video is not None
        try:
            action(self._video)
        except Exception as error:  # rendering depends on drivers, encoding on a program: neither is worth a run
            self._say(f"warning: no video ({one_line(error)})")
            self._video.discard()
            self._video = None


def _row(episode: Episode) -> dict[str, float | str | None]:
    return {
        "episode": episode.index,
        "return": episode.total_return,
        "length": episode.length,
        "success": episode.success,
    }


def summarise(episodes: Sequence[Episode], references: Mapping[str, float]) -> dict[str, float]:
    """Return an evaluation's metrics. references: with `random` and `human`, the mean between them is among these."""
    returns = np.array([episode.total_return for episode in episodes])
    metrics = {
        "eval/return_mean": float(returns.mean()),
        "eval/return_std": float(returns.std()),
        "eval/length": float(np.mean([episode.length for episode in episodes])),
    }
    low, high = references.get("random"), references.get("human")
    if low is not None and high is not None and low != high:
        metrics["eval/human_normalised"] = (metrics["eval/return_mean"] - low) / (high - low)
    successes = [episode.success for episode in episodes if episode.success is not None]
    return {**metrics, "eval/success": float(np.mean(successes))} if successes else metrics


def random_action(space: spaces.Space[Any], random: np.random.Generator) -> Any:
    """Return a uniformly random action."""
    if isinstance(space, spaces.Discrete):
        return int(space.start + random.integers(space.n))
    box = cast(spaces.Box, space)
    return random.uniform(box.low, box.high).astype(box.dtype)


def eval_envs(train: TrainConfig) -> int:
    """Return how many simulators evaluate."""
    most = max(train.eval_episodes, train.final_episodes or 0)
    return min(most, train.eval_envs or min(cores(), _MOST_ENVS))
