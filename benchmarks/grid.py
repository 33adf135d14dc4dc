"""A grid of training runs: what it consists of, running what is not finished yet, and reading what came out."""

import csv
import shlex
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rlrep.grid.multirun import STOPPING
from rlrep.launch import Local
from rlrep.launch.base import Job
from rlrep.launch.lines import Lines, complain
from rlrep.launch.scheduler import Entry, Scheduler
from rlrep.process.signals import catch_signals

from .machine import ROOT


@dataclass(frozen=True)
class Run:
    """One training run. words: its command line without `seed` and `out`; module: what is run with them."""

    task: str
    arm: str
    seed: int
    words: tuple[str, ...]
    module: str = "rlrep.train"

    def folder(self, work: Path) -> Path:
        """Return the run folder under `work`."""
        return work / self.task / self.arm.replace(" ", "_") / f"seed{self.seed}"

    def command(self, work: Path) -> list[str]:
        """Return the arguments after `python`."""
        return ["-m", self.module, *self.words, f"seed={self.seed}", f"out={self.folder(work)}"]

    def finished(self, work: Path) -> bool:
        """Whether the run's final evaluation is there."""
        return any(row.kind == "final" for row in read_evaluations(self.folder(work) / "eval.csv"))


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of one run: the mean return of its episodes. seconds: training time until then."""

    agent_steps: int
    env_steps: int
    seconds: float
    kind: str
    episodes: int
    mean_return: float


def read_evaluations(path: Path) -> list[Evaluation]:
    """Read an eval.csv, one entry per evaluation in order; none if the file is not there.

    Of episodes of adaptation to a task, the last ones count.
    """
    if not path.exists():
        return []
    groups = defaultdict[tuple[int, int, float, str], list[float]](list)
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
        known = max((int(row.get("adaptation") or 0) for row in rows), default=0)
        for row in rows:
            if int(row.get("adaptation") or 0) < known:
                continue
            key = int(float(row["agent_steps"])), int(float(row["env_steps"])), float(row["wall_seconds"]), row["kind"]
            groups[key].append(float(row["return"]))
    return [Evaluation(*key, len(returns), float(np.mean(returns))) for key, returns in groups.items()]


def run_all(runs: Sequence[Run], work: Path, *, jobs: int) -> list[Run]:
    """Run what is not finished, `jobs` at a time, each on cores of its own. Returns the runs that failed.

    Raises SystemExit after a signal, once all that runs has saved.
    """
    waiting = [run for run in runs if not run.finished(work)]
    print(f"{len(runs) - len(waiting)} of {len(runs)} runs are finished", flush=True)
    by_job = {job_of(run, work): run for run in waiting}
    entries = [Entry(job) for job in by_job]
    launcher = Local(jobs).make(jobs=len(entries), device="auto", folder=work)
    with catch_signals(STOPPING) as stop:
        scheduler = Scheduler(
            launcher, stop, Lines(entries), lambda job: ("done" if by_job[job].finished(work) else "waiting", "")
        )
        code = scheduler.run(entries)
    complain(entries)
    if stop.signal_number is not None:
        raise SystemExit(code)
    return [by_job[entry.job] for entry in entries if entry.state != "done"]


def job_of(run: Run, work: Path) -> Job:
    """Return a run as a launcher takes it, its log beside its folder."""
    name, log = f"{run.task} {run.arm} seed {run.seed}", run.folder(work).with_suffix(".log")
    return Job(name, (sys.executable, *run.command(work)), log, {"PYTHONPATH": str(ROOT)})


def show(runs: Sequence[Run], work: Path) -> None:
    """Print every run's command."""
    for run in runs:
        print(shlex.join(["python", *run.command(work)]) + ("  # finished" if run.finished(work) else ""))
