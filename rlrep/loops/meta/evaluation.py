"""Adaptation to tasks of evaluation: some episodes each, the belief about the task growing from one to the next."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from rlrep.config.config import TrainConfig
from rlrep.config.simulators import wait
from rlrep.contract.agent import MetaAgent
from rlrep.contract.env import Array, Step, Task, VectorEnv
from rlrep.contract.meta import Trajectory
from rlrep.process.seeds import Seeds
from rlrep.settings import UserError

from ..evaluation import MOST_LOST, Evaluates, Evaluation, Film, in_batches, most_steps
from .health import Health, measure
from .picture import Pictures
from .slots import Track

PROBED = 64
"""Transitions in a context of the probe, at most."""


@dataclass
class Attempt:
    """One task, begun from the prior. number: among all attempts. rows: of eval.csv, one per episode."""

    number: int
    task: int
    random: np.random.Generator
    seeds: list[int]
    episodes: list[Trajectory] = field(default_factory=list)
    rows: list[dict[str, float | str | None]] = field(default_factory=list)


@dataclass
class _Slot:
    attempt: Attempt
    latent: Array
    track: Track


class MetaEvaluator(Evaluates):
    """Plays `train.adaptation_episodes` and then `train.test_episodes` on every task, each attempt from its own seeds.

    The belief knows the episodes before, those of the test aside. What comes out does not depend on how many
    simulators play.
    """

    def __init__(
        self,
        make_envs: Callable[[], VectorEnv],
        agent: MetaAgent,
        tasks: Sequence[Task],
        train: TrainConfig,
        seeds: Seeds,
        *,
        pictures: Pictures | None,
        say: Callable[[str], None],
        check_stop: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(make_envs, say, check_stop)
        self._agent, self._tasks, self._train, self._seeds, self._pictures = agent, tasks, train, seeds, pictures

    def evaluate(
        self, number: int, episodes: int, *, references: Mapping[str, float], video: Path | None
    ) -> Evaluation:
        """Make `episodes` attempts at every task. Raises Stopped if the run is to stop.

        video: shows the last episode of the first attempt.
        """
        attempts = self.run(number, episodes, video=video)
        rows = [row for attempt in attempts for row in attempt.rows]
        self._say_cut([int(str(row["length"])) for row in rows])
        health = self._health(number, attempts)
        if self._pictures is not None:
            self._pictures.draw(rows, health, self._tasks)
        last = [row for row in rows if row["adaptation"] == self._train.adaptation_episodes]
        return Evaluation(rows, summarise(rows, last), len(last), {} if health is None else health.metrics)

    def run(self, number: int, repeats: int, *, video: Path | None = None) -> list[Attempt]:
        """Return the finished attempts, task after task."""
        attempts = [self._attempt(number, index, index // repeats) for index in range(repeats * len(self._tasks))]
        with self._stage(video) as (envs, film):
            _Round(envs, self._agent, self._tasks, self._train, film).play(attempts, self._check_stop)
        return attempts

    def _attempt(self, number: int, index: int, task: int) -> Attempt:
        count = self._train.adaptation_episodes + self._train.test_episodes
        seeds = [self._seeds.episode(number, index * count + k) for k in range(count)]
        return Attempt(index, task, np.random.default_rng(seeds), seeds)

    def _health(self, number: int, attempts: Sequence[Attempt]) -> Health | None:
        """Look at the first attempt at each task."""
        firsts = {attempt.task: attempt for attempt in reversed(attempts)}
        chosen = [firsts[task] for task in sorted(firsts)]
        first, last = ([attempt.episodes[k] for attempt in chosen] for k in (0, -1))
        return measure(self._agent, first, last, size=PROBED, seed=self._seeds.episode(number, 0))


class _Round:
    """Attempts under way. A simulator that has finished one takes the next that waits."""

    def __init__(
        self, envs: VectorEnv, agent: MetaAgent, tasks: Sequence[Task], train: TrainConfig, film: Film | None
    ) -> None:
        self._envs, self._agent, self._tasks, self._train, self._film = envs, agent, tasks, train, film
        self._slots: list[_Slot | None] = [None] * envs.num_envs
        self._obs = np.array(envs.reset([0] * envs.num_envs))
        self._waiting: deque[Attempt] = deque()
        self._lost = 0

    def play(self, attempts: Sequence[Attempt], check_stop: Callable[[], None]) -> None:
        """Finish all attempts. Raises UserError if simulators keep dying."""
        self._waiting.extend(attempts)
        for row in range(len(self._slots)):
            self._slots[row] = self._next(row)
        while any(self._slots):
            check_stop()
            self._step(len(attempts))

    def _step(self, attempts: int) -> None:
        action = self._act()
        self._envs.step_async(action)
        step = wait(self._envs)
        self._obs = np.array(step.obs)
        for row, slot in enumerate(self._slots):
            if slot is None:
                continue
            if step.died[row]:
                self._lost += 1
                if self._lost >= MOST_LOST * attempts:
                    raise UserError("the episodes of an evaluation never finish: their simulators keep dying")
                self._begin(slot, row)
                continue
            slot.track.add(action[row], step, row)
            self._record(slot, row, step)
            if step.terminated[row] or step.truncated[row] or len(slot.track) == most_steps(self._envs):
                self._end(slot, row, terminated=bool(step.terminated[row]))

    def _act(self) -> Array:
        agent, random = self._agent, [None if slot is None else slot.attempt.random for slot in self._slots]
        zero = np.zeros(agent.latent_dim, np.float32)
        latents = np.stack([zero if slot is None else slot.latent for slot in self._slots])
        if self._train.eval_policy == "deterministic":
            return in_batches(agent.act, self._train.eval_batch, self._obs, latents)
        shape = self._envs.single_action_space.shape or ()
        noise = np.stack([np.zeros(shape) if r is None else r.standard_normal(shape) for r in random])
        return in_batches(agent.act, self._train.eval_batch, self._obs, latents, noise.astype(np.float32))

    def _next(self, row: int) -> _Slot | None:
        if not self._waiting:
            return None
        attempt = self._waiting.popleft()
        self._envs.set_task(row, self._tasks[attempt.task])
        slot = _Slot(attempt, np.zeros(0, np.float32), Track.begin(self._obs[row]))
        self._begin(slot, row)
        return slot

    def _begin(self, slot: _Slot, row: int) -> None:
        """Begin the attempt's next episode (again, where its simulator died)."""
        attempt = slot.attempt
        self._obs[row] = self._envs.restart(row, attempt.seeds[len(attempt.rows)])
        noise = attempt.random.standard_normal(self._agent.latent_dim).astype(np.float32)
        train = self._train
        explored = len(attempt.episodes) >= train.exploration_episodes
        known = attempt.episodes[: train.adaptation_episodes] if explored else []
        slot.latent = self._agent.test_latent(self._tasks[attempt.task], known, noise)
        slot.track = Track.begin(self._obs[row])

    def _end(self, slot: _Slot, row: int, *, terminated: bool) -> None:
        attempt, track = slot.attempt, slot.track
        attempt.rows.append(
            {
                "episode": attempt.number * len(attempt.seeds) + len(attempt.rows),
                "return": track.total_return,
                "length": len(track),
                "success": None if np.isnan(track.success) else track.success,
                "task": self._tasks[attempt.task].name,
                "adaptation": min(len(attempt.rows), self._train.adaptation_episodes),
            }
        )
        attempt.episodes.append(track.trajectory(terminated=terminated))
        if len(attempt.rows) == len(attempt.seeds):
            self._slots[row] = self._next(row)
        else:
            self._begin(slot, row)

    def _record(self, slot: _Slot, row: int, step: Step) -> None:
        """Film the last episode of the first attempt."""
        if self._film is None or slot.attempt.number or len(slot.attempt.rows) + 1 < len(slot.attempt.seeds):
            return
        if step.terminated[row] or step.truncated[row]:
            self._film.close()
        else:
            self._film.add(self._envs, row)


def summarise(
    rows: Sequence[Mapping[str, float | str | None]], last: Sequence[Mapping[str, float | str | None]]
) -> dict[str, float]:
    """Return an evaluation's metrics. rows: of all episodes. last: of those after all adaptation."""
    returns = column(last, "return")
    found = {
        "eval/return_mean": float(returns.mean()),
        "eval/return_std": float(returns.std()),
        "eval/length": float(column(last, "length").mean()),
    }
    if last[0]["success"] is not None:
        found["eval/success"] = float(column(last, "success").mean())
    for known in sorted({int(str(row["adaptation"])) for row in rows}):
        played = [row for row in rows if row["adaptation"] == known]
        found[f"eval/return_after_{known}"] = float(column(played, "return").mean())
    return found


def column(rows: Sequence[Mapping[str, float | str | None]], name: str) -> Array:
    """Return a column of numbers."""
    return np.array([float(str(row[name])) for row in rows])
