"""Grids of pretraining runs in which every arm has words of its own, on the launcher of `rlrep.bench`."""

import argparse
import csv
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rlrep.config.pretrain_compose import compose_pretraining
from rlrep.grid.multirun import conduct
from rlrep.launch.base import Job
from rlrep.launch.lines import Lines, complain
from rlrep.launch.scheduler import Entry

from . import result
from .machine import ROOT, cores


@dataclass(frozen=True)
class Run:
    """One pretraining run. task: the data. words: its command line without `seed` and `out`."""

    task: str
    arm: str
    seed: int
    words: tuple[str, ...]

    def folder(self, work: Path) -> Path:
        """Return the run folder under `work`."""
        return work / self.task / self.arm.replace(" ", "_") / f"seed{self.seed}"

    def command(self, work: Path) -> list[str]:
        """Return the arguments after `python`."""
        return ["-m", "rlrep.pretrain", *self.words, f"seed={self.seed}", f"out={self.folder(work)}"]

    def finished(self, work: Path) -> bool:
        """Whether the last probes are there."""
        return any(row["kind"] == "final" for row in read_rows(self.folder(work) / "eval.csv"))


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read an eval.csv; none if it is not there."""
    if not path.exists():
        return []
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def run_all(runs: Sequence[Run], work: Path, *, jobs: int) -> list[Run]:
    """Run what is not finished, `jobs` at a time, each on cores of its own. Returns the runs that failed.

    Raises SystemExit after a signal, once all that runs has saved.
    """
    waiting = [run for run in runs if not run.finished(work)]
    print(f"{len(runs) - len(waiting)} of {len(runs)} runs are finished", flush=True)
    if not waiting:
        return []
    by_job = {job_of(run, work): run for run in waiting}
    entries = [Entry(job) for job in by_job]
    settings = compose_pretraining([*waiting[0].words, f"root={work}", f"launcher.jobs={jobs}"]).config
    code = conduct(
        entries, settings, Lines(entries), lambda job: ("done" if by_job[job].finished(work) else "waiting", "")
    )
    complain(entries, code)
    if code >= 128:
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


def command_line(doc: str | None, name: str) -> argparse.ArgumentParser:
    """Return the options of a grid, whose runs go to runs/benchmarks/NAME."""
    made = result.command_line(doc)
    made.add_argument("--work", type=Path, default=Path("runs") / "benchmarks" / name, help="folder of the runs")
    made.add_argument("--jobs", type=int, default=cores(), help="runs at a time, the cores shared out among them")
    made.add_argument("--dry-run", action="store_true", help="list the commands and stop")
    made.add_argument("--collect", action="store_true", help="write the results of the finished runs, run nothing")
    made.add_argument("--only", default="", help="run only what has this in TASK/ARM/seedN; write nothing for a part")
    made.add_argument("words", nargs="*", metavar="KEY=VALUE", help="more options for every run (named in the JSON)")
    return made
