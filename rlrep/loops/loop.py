"""The one loop of every run: step, log, evaluate, save, stop, in a fixed order. What a step is, its work says."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rlrep.contract.agent import Rows
from rlrep.contract.callback import Callback, Row
from rlrep.contract.env import Tree
from rlrep.process.progress import Reporter
from rlrep.process.seeds import load_random_state, random_state
from rlrep.record.checkpoint import Checkpoints, check_state
from rlrep.record.logs import RunLog
from rlrep.settings import Stopped, UserError

from .callbacks import Call, CallbackFailed, Callbacks
from .counters import Counters, crossed
from .evaluation import FINAL, Evaluation
from .perf import Stopwatch


@dataclass(frozen=True)
class Records:
    """What a run writes."""

    log: RunLog
    checkpoints: Checkpoints


@dataclass(frozen=True)
class Outlets:
    """Where a run's results go, who is told, and who may stop it.

    records: None in every process of a run but the first. check_stop: raises Stopped; takes the updates made.
    wait: until all processes of the run are here.
    """

    folder: Path
    records: Records | None
    reporter: Reporter
    check_stop: Callable[[int], None]
    wait: Callable[[], None] = lambda: None


class Cadence(Protocol):
    """How often a loop logs and saves, in what `Counters.agent_steps` counts."""

    @property
    def log_every(self) -> int: ...
    @property
    def checkpoint_every(self) -> int: ...


class Learns(Protocol):
    """What a loop asks of an agent or a method."""

    @property
    def updates(self) -> int: ...
    def metrics(self) -> dict[str, float]: ...
    def nonfinite(self) -> list[str]: ...


class Work(ABC):
    """What a run does: its smallest step, what is evaluated and what is kept of it.

    learns: what learns. counters: where the run stands. total: agent steps (or updates) after which it is over.
    lr: the option to lower where a loss is not finite.
    """

    lr: str

    def __init__(self, learner: Learns, total: int, outlets: Outlets) -> None:
        self.learns, self.total, self.outlets = learner, total, outlets
        self.counters, self.watch = Counters(), Stopwatch()

    @property
    def updates(self) -> int:
        """Updates made."""
        return self.learns.updates

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        return self.counters.agent_steps >= self.total

    @property
    @abstractmethod
    def progress(self) -> int:
        """How far it is, in the unit of the progress bar."""

    @property
    @abstractmethod
    def where(self) -> str:
        """Where it stands, as a person says it."""

    @property
    def note(self) -> str:
        """What the progress bar shows beside."""
        return ""

    @abstractmethod
    def step(self) -> bool:
        """Do the smallest thing after which a run may stop, log or save; return whether a row of metrics is due."""

    @abstractmethod
    def position(self) -> dict[str, float]:
        """Return what every row begins with."""

    @abstractmethod
    def metrics(self) -> dict[str, float]:
        """Return what is to be logged since the last call."""

    @abstractmethod
    def due(self) -> int:
        """Return the number of the last evaluation that is due by now; 0 before the first."""

    def kind(self, number: int) -> str:
        """Return what an evaluation is called."""
        return "final" if number == FINAL else "periodic"

    @abstractmethod
    def evaluate(self, number: int) -> Evaluation:
        """Make an evaluation."""

    @abstractmethod
    def evaluated(self, number: int) -> None:
        """An evaluation has been written."""

    def save_beside(self) -> None:  # noqa: B027  (nothing, unless a work says so)
        """Write what goes with a checkpoint. Raises OSError."""

    @abstractmethod
    def shape(self) -> Tree:
        """Return the part of `state` that is shaped alike in a fresh run and in any later one."""

    def state(self) -> Tree:
        """Return what a resumed run needs, beside counters, logs and random streams."""
        return self.shape()

    def check(self, state: Tree) -> None:  # noqa: B027
        """Raise ValueError, saying why, if the rest of a state is not of this run."""

    @abstractmethod
    def load_state(self, state: Tree) -> None:
        """Continue from a checkpoint."""

    def check_finite(self) -> None:
        """Raise UserError if a loss of the last update is not finite."""
        terms = self.learns.nonfinite()
        if terms:
            raise UserError(
                f"update {self.learns.updates}: {', '.join(terms)} not finite; {self._keep_batch()}the last "
                f"checkpoint before it is kept: try a lower {self.lr}"
            )

    def _keep_batch(self) -> str:
        """Save the last batch, if there is anything to look at, and say where."""
        return ""


class Loop:
    """One run from its first (or resumed) step to its final evaluation.

    rings: the replay's columns, by name. keep_replay: also once the run is finished, so that a longer one can go on.
    callbacks: the user's own code, called before anything is saved that it belongs to.
    """

    def __init__(
        self,
        work: Work,
        cadence: Cadence,
        *,
        rings: Mapping[str, Rows] | None = None,
        keep_replay: bool = False,
        callbacks: Callbacks | None = None,
    ) -> None:
        self.work, self.outlets, self._cadence = work, work.outlets, cadence
        self._callbacks = callbacks or Callbacks()
        self._rings, self._keep_replay = rings or {}, keep_replay

    def run(self) -> None:
        """Train to the end. Raises UserError on a loss that is not finite, and, after saving, Stopped if a signal came,
        CallbackFailed if a callback failed."""
        with self.saving():
            self.begin()
            while not self.done:
                before = self.work.counters.agent_steps
                self.stepped(before, row_due=self.work.step())
        self.finish()

    @property
    def done(self) -> bool:
        """Whether nothing but the final evaluation is left to do."""
        return self.work.done or bool(self._callbacks.ended)

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Save, if a signal or a callback ends the block."""
        try:
            yield
        except (Stopped, CallbackFailed):
            self._save(must=True)
            raise

    def begin(self) -> None:
        """Make up for an evaluation that a signal cut short."""
        self._callbacks.begin(self.outlets.folder, self.work.learns)
        self._finish_step()

    def stepped(self, before: int, *, row_due: bool) -> None:
        """What follows a step, which began after `before` agent steps."""
        work = self.work
        self.outlets.reporter.update(work.progress, work.updates, work.note)
        due = row_due or crossed(before, work.counters.agent_steps, self._cadence.log_every)
        row = self._log() if due else None
        if self._callbacks:
            self._tell_of_step(row)
        self._finish_step(before)

    def finish(self) -> None:
        """End the run: save, evaluate, save."""
        with self.saving():
            final = self._finish()
        self._callbacks.tell(final)  # of what a longer run drops again, so that no checkpoint holds what comes of it

    def state(self) -> Tree:
        """Return everything a resumed run needs, the replay's rings and the logs aside."""
        own = {"callbacks": self._callbacks.state()} if self._callbacks else {}
        return {"counters": self.work.counters.state(), "random": random_state(), **own, **self.work.state()}

    def check_state(self, state: Tree, step: int) -> None:
        """Raise ValueError, saying why, if this is no state of this run after `step` steps. Changes nothing."""
        own = {"counters": self.work.counters.state(), "random": random_state(), **self.work.shape()}
        check_state(own, state, step)
        self.work.check(state)

    def load_state(self, state: Tree) -> None:
        """Continue from a checkpoint; the replay's rings are filled already."""
        self.work.counters.load_state(state["counters"])
        if self._callbacks:
            self._callbacks.load_state(state["callbacks"])
        self.work.load_state(state)
        load_random_state(state["random"])

    def _log(self) -> dict[str, float]:
        self.work.check_finite()
        row = {**self.work.position(), **self.work.metrics()}
        if self.outlets.records:
            self.outlets.records.log.metrics(row)
        return row

    def _tell_of_step(self, row: Row | None) -> None:
        """Tell the callbacks of a step and of the row that was written at it, if one was."""
        position = self.work.position()
        logged: list[Call] = [] if row is None else [lambda callback: callback.on_log(row)]
        self._callbacks.tell(*logged, lambda callback: callback.on_step(position))

    def _finish_step(self, before: int | None = None) -> None:
        """What may follow a step, in this order."""
        counters = self.work.counters
        if counters.agent_steps < self.work.total:
            number = self.work.due()
            if number > counters.evaluations:
                told = self._evaluate(number)
                counters.evaluations = number
                self._callbacks.tell(told)
            if before is not None and crossed(before, counters.agent_steps, self._cadence.checkpoint_every):
                self._save()
        self.outlets.check_stop(self.work.updates)

    def _evaluate(self, number: int) -> Call:
        """Evaluate, write what comes out, and return how callbacks are told of it."""
        work, records = self.work, self.outlets.records
        told: Call = _nothing
        if records:
            with work.watch.paused():
                found, kind, position = work.evaluate(number), work.kind(number), work.position()
                rows = [{**position, **row, "kind": kind} for row in found.rows]  # one time stamp for all
                records.log.evaluation(rows, {**position, **found.summary} if found.summary else {})
                if found.health:
                    records.log.metrics({**position, **found.health})
                self.outlets.reporter.say(f"{kind} evaluation at {work.where}: {found.told}")
                work.evaluated(number)
                told = _of_evaluation(rows, {**position, **found.summary, **found.health})
        self.outlets.wait()
        return told

    def _finish(self) -> Call:
        """Save, evaluate for the last time, and mark the run finished, without its replay unless that is to be kept."""
        if ended := self._callbacks.ended:
            self.outlets.reporter.say(f"{ended}: the run ends here, at {self.work.where}")
        logs = self._save()
        told = self._evaluate(FINAL)
        self._save(finished=True, logs=logs)
        return told

    def _save(self, *, must: bool = False, finished: bool = False, logs: Tree = None) -> Tree:
        """Save a checkpoint and return the logs' lengths in it. A full disk is survived if training goes on.

        logs: lengths to remember instead of the present ones: a longer run drops the final evaluation's rows again.
        """
        work, records = self.work, self.outlets.records
        if records is None:
            return None
        work.check_finite()
        try:
            with work.watch.paused():
                work.save_beside()
                state = {**self.state(), "logs": logs or records.log.state()}
                rings = {} if finished and not self._keep_replay else self._rings
                records.checkpoints.save(state, rings, step=work.counters.agent_steps, finished=finished)
                return state["logs"]
        except OSError as error:
            line = f"no checkpoint at {work.where} ({error.strerror or error}): the one before it is intact"
            if must or finished:
                raise UserError(f"{line}; make room and repeat the command") from error
            self.outlets.reporter.say(f"warning: {line}, training goes on")
            return None


def _nothing(callback: Callback) -> None:
    """A call of a callback, of nothing."""


def _of_evaluation(rows: Sequence[Row], summary: Row) -> Call:
    return lambda callback: callback.on_evaluation(rows, summary)
