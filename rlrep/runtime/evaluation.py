"""Evaluation: whole episodes with the deterministic policy, on environments of their own."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .errors import one_line
from .process import Seeds
from .protocols import Agent, Array, Step, VectorEnv
from .video import Video

FINAL = 0
"""Number of the final evaluation; periodic ones count from 1."""
_ATTEMPTS = 3


@dataclass(frozen=True)
class Episode:
    """One evaluation episode. length: agent steps. success: whether ever reached, None where the env has none."""

    index: int
    total_return: float
    length: int
    success: float | None


class Evaluator:
    """Runs episode k of evaluation j from its own seed, so that results do not depend on how many run in parallel."""

    def __init__(
        self,
        make_envs: Callable[[], VectorEnv],
        agent: Agent,
        seeds: Seeds,
        *,
        say: Callable[[str], None],
        check_stop: Callable[[], None] = lambda: None,
    ) -> None:
        self._make_envs, self._agent, self._seeds = make_envs, agent, seeds
        self._say, self._check_stop = say, check_stop
        self._envs: VectorEnv | None = None

    def run(self, evaluation: int, episodes: int, *, video: Path | None = None) -> list[Episode]:
        """Return `episodes` finished episodes, in order; the first is filmed. Raises Stopped if the run is to stop."""
        if self._envs is None:
            self._envs = self._make_envs()
        film = _Film(video, self._say) if video else None
        try:
            return self._run_all(self._envs, evaluation, episodes, film)
        finally:
            if film:
                film.discard_unfinished()

    def close(self) -> None:
        """End the simulators."""
        if self._envs is not None:
            self._envs.close()
            self._envs = None

    def _run_all(self, envs: VectorEnv, evaluation: int, episodes: int, film: "_Film | None") -> list[Episode]:
        missing, done = list(range(episodes)), dict[int, Episode]()
        for _ in range(_ATTEMPTS * episodes):
            if not missing:
                break
            wave = missing[: envs.num_envs]
            done |= self._run_wave(envs, evaluation, wave, film if 0 in wave else None)
            missing = [index for index in missing if index not in done]
        if missing:
            raise RuntimeError(f"evaluation episodes {missing} never finished: their simulators keep dying")
        return [done[index] for index in range(episodes)]

    def _run_wave(
        self, envs: VectorEnv, evaluation: int, wave: Sequence[int], film: "_Film | None"
    ) -> dict[int, Episode]:
        """Run one episode per simulator. A simulator that has finished idles along; one that died loses its episode."""
        padded = [wave[min(i, len(wave) - 1)] for i in range(envs.num_envs)]
        obs = envs.reset([self._seeds.episode(evaluation, index) for index in padded])
        tallies = [_Tally(index) for index in wave]
        if film:
            film.add(envs, wave.index(0))
        while any(tally.running for tally in tallies):
            self._check_stop()
            envs.step_async(self._act(obs))
            step = envs.step_wait()
            obs = step.obs
            for i, tally in enumerate(tallies):
                tally.add(step, i)
            if film and tallies[wave.index(0)].running:
                film.add(envs, wave.index(0))
        if film:
            film.close()
        return {tally.index: tally.episode() for tally in tallies if not tally.died}

    def _act(self, obs: Array) -> Array:
        """Act row by row: a batched product rounds differently for another batch size."""
        return np.concatenate([self._agent.act(obs[i : i + 1], explore=False) for i in range(len(obs))])


class _Tally:
    """Return, length and success of one episode as it runs."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.running, self.died = True, False
        self._return, self._length, self._success = 0.0, 0, math.nan

    def add(self, step: Step, row: int) -> None:
        if not self.running:
            return
        self._return += float(step.reward[row])
        self._length += 1
        self._success = float(np.fmax(self._success, step.success[row]))
        self.died = bool(step.died[row])
        self.running = not (step.terminated[row] or step.truncated[row] or self.died)

    def episode(self) -> Episode:
        return Episode(self.index, self._return, self._length, None if math.isnan(self._success) else self._success)


class _Film:
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
