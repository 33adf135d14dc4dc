"""One session of any run: open its folder, build its parts, go on where it stood, and say how it ended."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch

from rlrep.config.config import Device, LoggerConfig
from rlrep.contract.agent import Rows
from rlrep.process.machine import keep_large_blocks, pick_device, set_threads
from rlrep.process.output import spare_output
from rlrep.process.progress import Reporter, Silent, make_reporter
from rlrep.process.signals import StopRequest, catch_signals
from rlrep.record import versions
from rlrep.record.checkpoint import Checkpoints, fitting, load_newest
from rlrep.record.folder import lock_folder, resolve_tree, write_config
from rlrep.record.logs import RunLog
from rlrep.settings import Stopped, UserError
from rlrep.ssl.learner import world

from .callbacks import Callbacks
from .distributed import check_stop, first_alone, process_group, wait_for_all
from .loop import Cadence, Loop, Outlets, Records, Work
from .opened import Opened, look_into, open_run

if TYPE_CHECKING:  # runs without environments load nothing of them
    from rlrep.envs.vector import Pool


class Timing(Cadence, Protocol):
    """How often a loop logs and saves, and who is called as it goes on."""

    @property
    def callbacks(self) -> Sequence[str] | None: ...


class Config(Protocol):
    """What a session reads of a run's config."""

    @property
    def out(self) -> str: ...
    @property
    def device(self) -> Device: ...
    @property
    def logger(self) -> LoggerConfig: ...
    @property
    def train(self) -> Timing: ...


@dataclass(frozen=True)
class Site:
    """Where and for whom a run is built. stack: ends what was started. pool: of worker processes, None = its own."""

    opened: Opened
    device: torch.device
    stop: StopRequest
    stack: ExitStack
    pool: "Pool | None" = None


MakeReporter = Callable[[ExitStack, int, int, str], Reporter]
"""From the stack that closes it, the length of a run, how much of it is done, and the unit of both."""


class Job(ABC):
    """A kind of run: how it is built and what is said of it. The methods are called in this order, once each.

    counted: what `Counters.agent_steps` counts, a key of its rows. shown: the unit of its progress bar, another such
    key. columns: of eval.csv.
    """

    config: Config
    counted: str
    shown: str
    columns: Sequence[str]
    may_grow: bool = False
    keep_replay: bool = False

    def check_stored(self, folder: Path, stored: Mapping[str, Any]) -> None:  # noqa: B027  (nothing, by default)
        """Raise UserError if what the first session settled is none of what may be settled."""

    @abstractmethod
    def prepare(self, site: Site) -> None:
        """Build what stands before a checkpoint is read: environments, data."""

    @abstractmethod
    def settled(self) -> dict[str, Any]:
        """Return what this session settles, by dotted path of the option, for `config.yaml`."""

    @abstractmethod
    def build(self, *, restored: bool) -> None:
        """Build what learns. restored: from a checkpoint."""

    @abstractmethod
    def scale(self) -> tuple[int, int]:
        """Return the length of the progress bar, and how much of it one of what is `counted` is."""

    @abstractmethod
    def headline(self) -> list[str]:
        """Return the lines a session begins with."""

    @abstractmethod
    def work(self, outlets: Outlets) -> Work:
        """Return what the loop drives."""

    def rings(self) -> Mapping[str, Rows]:
        """Return the replay's columns, by name."""
        return {}

    def start(self, work: Any) -> None:  # noqa: B027
        """Begin a fresh run."""

    def resumed(self) -> str:
        """Return what is to be known of a run that goes on."""
        return ""

    @abstractmethod
    def places(self) -> list[str]:
        """Return what a finished run leaves that one looks at first, in its folder."""


@spare_output()
def run(job: Job, tree: Mapping[str, Any], *, again: str, afterwards: str = "") -> None:
    """Run, or continue, a job.

    tree: its config, as composed. again: the command that continues it. afterwards: the last line of a finished run.
    Raises UserError (one line), Stopped (after saving, when a signal came).
    """
    set_threads()
    keep_large_blocks()
    folder = Path(job.config.out)
    with ExitStack() as stack:
        device = stack.enter_context(process_group(pick_device(job.config.device)))
        say = partial(print, flush=True) if _is_first() else Silent().say
        if _is_first():
            stack.enter_context(lock_folder(folder))
            opened = open_run(folder, tree, job)
        wait_for_all()
        if not _is_first():
            opened = look_into(folder)
        if opened.is_finished:
            say(f"this run is finished{opened.size(job.counted)}: see {folder}, or choose another seed= or out=")
            return
        stop = stack.enter_context(catch_signals())
        try:
            ready(job, Site(opened, device, stop, stack), tree, _make_reporter).run()
        except Stopped:
            say(f"stopped, saved in {folder}; to go on: {again}")
            raise
    say("\n".join([left_behind(job), *([afterwards] if afterwards else [])]))


def left_behind(job: Job) -> str:
    """Return the last line of a finished run: what one looks at first."""
    folder = Path(job.config.out)
    return f"done: {'  '.join(str(folder / place) for place in job.places() if (folder / place).exists())}"


def _is_first() -> bool:
    return world()[0] == 0


def ready(job: Job, site: Site, tree: Mapping[str, Any], report: MakeReporter) -> Loop:
    """Build a run, resume it where there is a checkpoint, and return its loop."""
    folder, config = site.opened.folder, job.config
    callbacks = _callbacks(config.train.callbacks or ())
    job.prepare(site)
    checkpoints = Checkpoints(folder / "checkpoints")
    loaded = first_alone(lambda: load_newest(checkpoints))  # it may put a damaged one aside
    start = loaded[0].step if loaded else 0
    job.build(restored=loaded is not None)
    final, (total, scale) = resolve_tree(tree, job.settled()), job.scale()
    reporter = report(site.stack, total, start * scale, job.shown.replace("_", " "))
    site.stack.callback(callbacks.end, reporter.say)
    for line in job.headline():
        reporter.say(line)
    log = _open_log(job, site, final, start * scale, reporter) if _is_first() else None
    records = Records(log, checkpoints) if log else None
    ask = partial(check_stop, site.stop, device=site.device)
    work = job.work(Outlets(folder, records, reporter, ask, wait_for_all))
    loop = Loop(work, config.train, rings=job.rings(), keep_replay=job.keep_replay, callbacks=callbacks)
    if loaded is None:
        job.start(work)
    else:
        with fitting(loaded[0].path):
            loop.check_state(loaded[1], start)
            checkpoints.restore_rings(loaded[0], job.rings())
            loop.load_state(loaded[1])
        reporter.say(f"continuing at {work.where}{job.resumed()}")
    if log:
        write_config(folder, final)
        versions.record(folder, site.device, at={job.counted: start}, say=reporter.say)
        log.begin(loaded[1]["logs"] if loaded else None)
    return loop


def _callbacks(names: Sequence[str]) -> Callbacks:
    if names and world()[1] > 1:
        raise UserError("train.callbacks is of runs of one process, torchrun started several: leave one of them out")
    return Callbacks(names)


def _make_reporter(stack: ExitStack, total: int, done: int, unit: str) -> Reporter:
    reporter = make_reporter(total, done, unit) if _is_first() else Silent()
    stack.callback(reporter.close)
    stack.enter_context(_warnings_to(reporter))
    return reporter


def _open_log(job: Job, site: Site, tree: Mapping[str, Any], step: int, reporter: Reporter) -> RunLog:
    folder, logger = site.opened.folder, job.config.logger
    log = RunLog(folder, logger, tree, step=step, step_key=job.shown, columns=job.columns, say=reporter.say)
    site.stack.callback(log.close)
    return log


@contextmanager
def _warnings_to(reporter: Reporter) -> Iterator[None]:
    """Show warnings (a simulator that was restarted) as lines of the run."""
    with warnings.catch_warnings():
        warnings.filterwarnings("always", module=r"rlrep\.envs")  # each loss, not only the first
        warnings.showwarning = lambda message, *_: reporter.say(f"warning: {message}")
        yield
