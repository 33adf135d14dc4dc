"""`launcher=fleet`: all runs in one process per GPU, their updates computed as one."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rlrep.files import open_plain
from rlrep.process.signals import PARENT_VARIABLE
from rlrep.settings import UserError

from .base import RUNNING, WAITING, Job, Status
from .local import visible_gpus

TRAINS = "rlrep.train"
"""The entry point whose runs can make up a fleet."""
CONDUCTOR = "rlrep.commands.fleet"


@dataclass(frozen=True)
class Fleet:
    """size: runs at a time in each process; auto = as many as there is free memory for. The rest follow."""

    size: int | Literal["auto"] = "auto"
    own_output = False

    def __post_init__(self) -> None:
        if self.size != "auto" and self.size < 1:
            raise ValueError(f"size must be auto or at least 1, not {self.size}")

    def make(self, *, jobs: int, device: str, folder: Path) -> "Fleets":
        """Return the launcher."""
        gpus = [] if device == "cpu" else visible_gpus()
        if not gpus:
            print("launcher=fleet: no GPU is used here, so that runs gain little from going together", flush=True)
        return Fleets(self.size, max(1, jobs), gpus, folder)


@dataclass
class Run:
    """A run of a fleet."""

    job: Job
    fleets: "Fleets"
    process: "Process | None" = None
    state: Status = WAITING

    def status(self) -> Status:
        """Start what waits, and read what the process says."""
        self.fleets.start()
        if self.process is not None and self.state.state != "ended":
            self.process.read()
        return self.state

    def stop(self, number: int) -> None:
        """Pass a signal on, to the whole process."""
        if self.process is not None:
            self.process.signal(number)

    def kill(self) -> None:
        """End the whole process at once."""
        if self.process is not None:
            self.process.kill()


@dataclass
class Fleets:
    """A process for each GPU, or a single one. What is submitted together goes together.

    width: all jobs; how many of them train at a time is found out when they are built.
    """

    size: int | Literal["auto"]
    width: int
    gpus: list[str]
    folder: Path
    poll_seconds: float = 0.2
    _waiting: list[Run] = field(default_factory=list)

    def submit(self, job: Job) -> Run:
        """Let a run take part. Raises UserError if it is none of an agent."""
        if job.command[1:3] != ("-m", TRAINS):
            raise UserError(f"launcher=fleet is for {TRAINS}: use another launcher for {job.command[2]}")
        run = Run(job, self)
        self._waiting.append(run)
        return run

    def start(self) -> None:
        """Start processes for the runs that wait."""
        waiting, self._waiting = self._waiting, []
        shares = [waiting[index :: len(self.gpus) or 1] for index in range(len(self.gpus) or 1)]
        for index, share in enumerate(shares):
            if share:
                place = {"CUDA_VISIBLE_DEVICES": self.gpus[index]} if self.gpus else {}
                Process(self, share, place)

    def close(self) -> None:
        """Nothing to close."""


class Process:
    """The process of some runs; it tells by lines of JSON which of them have begun and ended."""

    def __init__(self, fleets: Fleets, runs: list[Run], place: dict[str, str]) -> None:
        fleets.folder.mkdir(parents=True, exist_ok=True)
        self._runs, self._signalled, self._rest = runs, False, b""
        self._log = fleets.folder / "fleet.log"
        asked = {"size": fleets.size, "runs": [_described(run.job) for run in runs]}
        with open(open_plain(self._log, os.O_WRONLY | os.O_APPEND | os.O_CREAT), "ab") as errors:
            self._process = subprocess.Popen(
                (sys.executable, "-m", CONDUCTOR),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, **place, PARENT_VARIABLE: str(os.getpid())},
                start_new_session=True,
            )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._told = self._process.stdout.fileno()
        os.set_blocking(self._told, False)
        for run in runs:
            run.process = self
        try:
            self._process.stdin.write(json.dumps(asked).encode())
            self._process.stdin.close()
        except OSError:  # it is gone already, as `read` will find
            pass

    def read(self) -> None:
        """Take in what it has said, and how it ended."""
        over = self._process.poll() is not None  # asked first: what it said before is read below
        try:
            while chunk := os.read(self._told, 1 << 16):
                self._rest += chunk
        except BlockingIOError:
            pass
        *lines, self._rest = self._rest.split(b"\n")
        for line in lines:
            said = json.loads(line)
            run = self._runs[said["run"]]
            run.state = RUNNING if said["code"] is None else Status("ended", said["code"])
        if over:
            self._ended(self._process.returncode)

    def _ended(self, code: int) -> None:
        """Settle the runs that it has not told the end of."""
        for run in self._runs:
            if run.state.state != "ended":
                run.state = Status("ended", code or None, f"the fleet's process ended, see {self._log}")

    def signal(self, number: int) -> None:
        """Pass a signal on, once for all its runs."""
        if not self._signalled and self._process.poll() is None:
            self._signalled = True
            self._process.send_signal(number)

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait()


def _described(job: Job) -> dict[str, Any]:
    return {"words": job.command[3:], "log": str(job.log)}
