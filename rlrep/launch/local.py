"""`launcher=local`: processes of this machine, each on cores (and a GPU) of its own."""

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rlrep.settings import UserError, one_line

from .base import RUNNING, Job, Status, at_a_time, check_jobs
from .remote import start


@dataclass(frozen=True)
class Local:
    """jobs: runs at the same time, the cores shared out among them; auto = one per GPU or, without any, per core."""

    jobs: int | Literal["auto"] = 1
    own_output = True

    def __post_init__(self) -> None:
        check_jobs(self.jobs)

    def make(self, *, jobs: int, device: str, folder: Path) -> "Processes":
        """Return the launcher."""
        gpus, cores = [] if device == "cpu" else visible_gpus(), usable_cores()
        return Processes(split_machine(at_a_time(self.jobs, len(gpus) or len(cores), jobs), cores, gpus))


@dataclass(frozen=True)
class Share:
    """A part of the machine. cores: their numbers; empty where they cannot be chosen. gpu: as CUDA names it."""

    cores: tuple[int, ...]
    threads: int
    gpu: str | None = None

    def environment(self) -> dict[str, str]:
        """Return what tells a process of it."""
        return {"OMP_NUM_THREADS": str(self.threads)} | ({"CUDA_VISIBLE_DEVICES": self.gpu} if self.gpu else {})


def usable_cores() -> list[int]:
    """Return the numbers of the cores that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def visible_gpus() -> list[str]:
    """Return the GPUs of this process as CUDA_VISIBLE_DEVICES names them."""
    import torch

    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    return named[:count] if named[0] else [str(index) for index in range(count)]


def split_machine(width: int, cores: list[int], gpus: list[str]) -> list[Share]:
    """Share cores and GPUs out among `width` processes; where there are fewer of them, several share one."""
    own = [tuple(cores[index::width]) or (cores[index % len(cores)],) for index in range(width)]
    pinned = hasattr(os, "sched_setaffinity")
    return [
        Share(share if pinned else (), len(share), gpus[index % len(gpus)] if gpus else None)
        for index, share in enumerate(own)
    ]


class Processes:
    """Child processes, one per share of the machine."""

    poll_seconds = 0.1

    def __init__(self, shares: list[Share]) -> None:
        self._free, self.width = list(reversed(shares)), len(shares)

    def submit(self, job: Job) -> "Process":
        """Start a process on a share that is free."""
        share = self._free.pop()
        try:
            process = start(job, environment=share.environment() if self.width > 1 else {})
        except OSError as error:
            self._free.append(share)
            raise UserError(f"cannot start {job.command[0]}: {one_line(error)}") from error
        if share.cores:
            _pin(process.pid, share.cores)
        return Process(process, lambda: self._free.append(share))

    def close(self) -> None:
        """Nothing to close."""


def _pin(process: int, cores: tuple[int, ...]) -> None:
    try:
        os.sched_setaffinity(process, cores)
    except ProcessLookupError:  # it has ended already
        return


class Process:
    """One running process."""

    def __init__(self, process: "subprocess.Popen[bytes]", release: Callable[[], None]) -> None:
        self._process, self._release, self._released = process, release, False

    def status(self) -> Status:
        """Look at it; its share of the machine is free once it has ended."""
        code = self._process.poll()
        if code is None:
            return RUNNING
        if not self._released:
            self._released = True
            self._release()
        return Status("ended", code)

    def stop(self, number: int) -> None:
        """Pass a signal on."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait()
