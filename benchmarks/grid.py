"""A grid of training runs: what it consists of, running what is not finished yet, and reading what came out."""

import csv
import os
import shlex
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue

import numpy as np

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
    """Run what is not finished, `jobs` at a time, each on cores of its own. Returns the runs that failed."""
    waiting = [run for run in runs if not run.finished(work)]
    print(f"{len(runs) - len(waiting)} of {len(runs)} runs are finished", flush=True)
    free = Queue[list[int]]()
    for share in split_cores(jobs):
        free.put(share)
    stop = threading.Event()

    def one(run: Run) -> Run | None:
        cores = free.get()
        try:
            return None if stop.is_set() or run_one(run, work, cores) else run
        finally:
            free.put(cores)

    with ThreadPoolExecutor(free.qsize()) as pool:
        try:
            return [run for run in pool.map(one, waiting) if run is not None]
        except KeyboardInterrupt:
            stop.set()
            raise


def split_cores(jobs: int) -> list[list[int]]:
    """Share the cores of this process out among `jobs` (at most as many as there are cores)."""
    cores = sorted(os.sched_getaffinity(0))
    jobs = min(jobs, len(cores))
    return [cores[index::jobs] for index in range(jobs)]


def run_one(run: Run, work: Path, cores: list[int]) -> bool:
    """Run one command on `cores`, its output to a log beside its folder. Returns whether it finished."""
    folder = run.folder(work)
    folder.parent.mkdir(parents=True, exist_ok=True)
    print(f"start  {run.task} {run.arm} seed {run.seed}", flush=True)
    environment = {**os.environ, "OMP_NUM_THREADS": str(len(cores)), "PYTHONPATH": str(ROOT)}
    pinned = ["taskset", "--cpu-list", ",".join(map(str, cores)), sys.executable, *run.command(work)]
    with open(folder.with_suffix(".log"), "a") as log:
        done = subprocess.run(pinned, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)
    finished = done.returncode == 0 and run.finished(work)
    print(f"{'done ' if finished else 'FAILED'}  {run.task} {run.arm} seed {run.seed}  ({log.name})", flush=True)
    return finished


def show(runs: Sequence[Run], work: Path) -> None:
    """Print every run's command."""
    for run in runs:
        print(shlex.join(["python", *run.command(work)]) + ("  # finished" if run.finished(work) else ""))
