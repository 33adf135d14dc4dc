"""What every training loop does alike: log, evaluate, save, stop, in a fixed order."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from safetensors.torch import save

from rlrep.config.config import Length, TrainConfig
from rlrep.contract.agent import Trainee
from rlrep.contract.env import Array, Tree, VectorEnv
from rlrep.process.progress import Reporter
from rlrep.process.seeds import load_random_state, random_state
from rlrep.process.signals import StopRequest
from rlrep.record.checkpoint import Checkpoints, check_state
from rlrep.record.curve import Curve
from rlrep.record.files import replace_file
from rlrep.record.logs import RunLog
from rlrep.settings import Stopped, UserError

from .counters import Counters, crossed
from .evaluation import FINAL, Evaluation
from .meter import EpisodeMeter
from .perf import Stopwatch


class Evaluates(Protocol):
    """Plays evaluation episodes; see `Evaluator`."""

    def evaluate(
        self, number: int, episodes: int, *, references: Mapping[str, float], video: Path | None
    ) -> Evaluation: ...
    def close(self) -> None: ...


A = TypeVar("A", bound=Trainee, covariant=True)
E = TypeVar("E", bound=Evaluates, covariant=True)


@dataclass(frozen=True)
class Parts(Generic[A, E]):
    """What a loop works with.

    check_every_update: look for NaN after each update, not only when logging (a GPU would wait each time).
    video_path: from (evaluation, env_steps) to a file; None = not filmed.
    """

    envs: VectorEnv
    agent: A
    evaluator: E
    log: RunLog
    curve: Curve
    checkpoints: Checkpoints
    reporter: Reporter
    stop: StopRequest
    folder: Path
    check_every_update: bool
    video_path: Callable[[int, int], Path | None]


class BaseLoop(ABC, Generic[A, E]):
    """One run from its first (or resumed) step to its final evaluation. A subclass says what one step is."""

    def __init__(self, parts: Parts[A, E], train: TrainConfig, length: Length, *, keep_replay: bool) -> None:
        self.parts, self.train, self.length = parts, train, length
        self._keep_replay = keep_replay
        self.counters = Counters()
        self._meter = EpisodeMeter(length.num_envs, gives_score=parts.envs.gives_score)
        self._watch = Stopwatch()
        self._obs: Array | None = None
        self._idle: set[str] = set()  # heads that were warned of

    @abstractmethod
    def start(self, env_seeds: list[int]) -> None:
        """Begin a fresh run."""

    @abstractmethod
    def _step(self) -> None:
        """Do the smallest thing after which a run may stop, log or save."""

    @property
    def _done(self) -> bool:
        return self.counters.agent_steps >= self.length.agent_steps

    def run(self) -> None:
        """Train to the end. Raises Stopped after saving if a signal came, UserError on a loss that is not finite."""
        if self._obs is None:
            raise RuntimeError("call start() or load_state() first")
        try:
            self._finish_step()
            while not self._done:
                before = self.counters.agent_steps
                self._step()
                self._log_if_due(before)
                self._finish_step(before)
            self._finish()
        except Stopped:
            self._save(must=True)
            raise

    def state(self) -> Tree:
        """Return everything a resumed run needs, the replay's rings aside."""
        return {
            "counters": self.counters.state(),
            "meter": self._meter.state(),
            "logs": self.parts.log.state(),
            "random": random_state(),
            "envs": self.parts.envs.state(),
            "agent": self.parts.agent.state(),
        }

    def check_state(self, state: Tree, step: int) -> None:
        """Raise ValueError, saying why, if this is no state of this run after `step` agent steps. Changes nothing."""
        own = {
            "counters": self.counters.state(),
            "meter": self._meter.state(),
            "random": random_state(),
            "agent": self.parts.agent.state(),
        }
        check_state(own, state, step)
        envs = state.get("envs")
        if not isinstance(envs, list) or len(envs) != self.length.num_envs:
            raise ValueError(f"state.envs is not of {self.length.num_envs} environments")

    def load_state(self, state: Tree) -> None:
        """Continue from a checkpoint; the replay's rings are filled already."""
        self.counters.load_state(state["counters"])
        self._meter.load_state(state["meter"])
        self.parts.agent.load_state(state["agent"])
        self._obs = self.parts.envs.load_state(state["envs"])
        load_random_state(state["random"])

    @property
    def env_steps(self) -> int:
        """Simulator steps made."""
        return self.counters.agent_steps * self.length.action_repeat

    def _check_finite(self) -> None:
        terms = self.parts.agent.nonfinite()
        if not terms:
            return
        path = self.parts.folder / "nonfinite_batch.safetensors"
        batch = {name: tensor.cpu().contiguous() for name, tensor in self.parts.agent.last_batch().items()}
        replace_file(path, save(batch))
        raise UserError(
            f"update {self.parts.agent.updates}: {', '.join(terms)} not finite; the batch is in {path}, "
            f"the last checkpoint before it is kept: try a lower agent.lr"
        )

    def _log_if_due(self, before: int) -> None:
        self.parts.reporter.update(self.env_steps, self.parts.agent.updates, self._meter.note)
        if crossed(before, self.counters.agent_steps, self.train.log_every):
            self._log()

    def _log(self) -> None:
        self._check_finite()
        perf = self._watch.report(env_steps_per_call=self.length.num_envs * self.length.action_repeat)
        learnt = self.parts.agent.metrics()
        self._warn_of_idle_heads(learnt)
        self.parts.log.metrics({**self._position(), **self._meter.metrics(), **learnt, **perf})

    def _warn_of_idle_heads(self, metrics: Mapping[str, float]) -> None:
        """Say once of each head that found no valid sample: its loss is zero, and the run one without it."""
        idle = {key.split("/")[1] for key, value in metrics.items() if key.endswith("/valid") and value == 0}
        for name in sorted(idle - self._idle):
            self.parts.reporter.say(
                f"warning: aux.{name} had nothing to learn from since the last log: episodes are too short for its "
                f"windows (aux.{name}.window); it learns as soon as there are longer ones"
            )
        self._idle |= idle

    def _finish_step(self, before: int | None = None) -> None:
        """What may follow a step, in this order; a resumed run makes up for an evaluation that a signal cut short."""
        now = self.counters.agent_steps
        if now < self.length.agent_steps:
            self._evaluate_if_due()
            if before is not None and crossed(before, now, self.train.checkpoint_every):
                self._save()
        self.parts.stop.check()

    def _evaluate_if_due(self) -> None:
        every = self.train.eval_every
        number = self.env_steps // every if every else 0
        if number > self.counters.evaluations:
            self._evaluate(number, "periodic")
            self.counters.evaluations = number

    def _evaluate(self, number: int, kind: str) -> None:
        with self._watch.paused():
            video = self.parts.video_path(number, self.env_steps)
            count = (self.train.final_episodes if number == FINAL else None) or self.train.eval_episodes
            references = self.parts.curve.references
            found = self.parts.evaluator.evaluate(number, count, references=references, video=video)
            summary, position = dict(found.summary), self._position()  # one time stamp for all
            best = self.parts.curve.best() if number == FINAL else None
            if best:
                summary["eval/best_return_mean"] = max(best[1], summary["eval/return_mean"])
            self.parts.log.evaluation(
                [{**position, **row, "kind": kind} for row in found.rows], {**position, **summary}
            )
            if found.health:
                self.parts.log.metrics({**position, **found.health})
            self.parts.reporter.say(
                f"{kind} evaluation at {self.env_steps} env steps: {_told(summary, found.episodes, best)}"
            )
            self.parts.curve.refresh(force=kind == "final")

    def _finish(self) -> None:
        """Save, evaluate for the last time, and mark the run finished, without its replay unless that is to be kept."""
        logs = self._save()
        self._evaluate(FINAL, "final")
        self._save(finished=True, logs=logs)

    def _save(self, *, must: bool = False, finished: bool = False, logs: Tree = None) -> Tree:
        """Save a checkpoint and return the logs' lengths in it. A full disk is survived if training goes on.

        logs: lengths to remember instead of the present ones: a longer run drops the final evaluation's rows again.
        """
        self._check_finite()
        rings = {} if finished and not self._keep_replay else self.parts.agent.rings
        try:
            with self._watch.paused():
                state = self.state()
                state["logs"] = logs or state["logs"]
                self.parts.checkpoints.save(state, rings, step=self.counters.agent_steps, finished=finished)
                return state["logs"]
        except OSError as error:
            line = (
                f"no checkpoint at {self.env_steps} env steps ({error.strerror or error}): the one before it is intact"
            )
            if must or finished:
                raise UserError(f"{line}; make room and repeat the command") from error
            self.parts.reporter.say(f"warning: {line}, training goes on")
            return None

    def _position(self) -> dict[str, float]:
        return {
            "agent_steps": self.counters.agent_steps,
            "env_steps": self.env_steps,
            "updates": self.parts.agent.updates,
            "wall_seconds": round(self.counters.elapsed_seconds(), 3),
        }


def _told(summary: Mapping[str, float], episodes: int, best: tuple[float, float] | None) -> str:
    """Say what an evaluation found; beside the final one's result, never in its place, the best periodic one's."""
    mean, deviation = summary["eval/return_mean"], summary["eval/return_std"]
    line = f"return {mean:.1f} (sd {deviation:.1f}) over {episodes} episodes"
    if "eval/human_normalised" in summary:
        line += f", human-normalised {summary['eval/human_normalised']:.3f}"
    if best and best[1] > mean:
        line += f" (best over training: {best[1]:.1f} at {best[0]:.0f} env steps)"
    return line
