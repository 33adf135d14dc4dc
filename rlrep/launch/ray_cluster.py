"""`launcher=ray`: tasks of a Ray cluster, or of a Ray of its own on this machine."""

import logging
import math
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from rlrep.settings import UserError, one_line

from .base import RUNNING, Job, Status, at_a_time, check_jobs
from .remote import Command

_CONNECT_SECONDS, _ANSWER_SECONDS = 5.0, 60.0
_QUIET = {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "RAY_USAGE_STATS_ENABLED": "0"}
"""No warning about machines without GPUs, no report of usage to Ray's makers."""


@dataclass(frozen=True)
class Ray:
    """What to ask Ray for.

    jobs: runs at a time; auto = as many as the cluster has room for. address: of a cluster, as HOST:PORT, or auto for
    one that this machine is part of; null = a Ray of its own on this machine. cpus, gpus: of each run; a null number
    of GPUs is 1 where the cluster has any.
    """

    jobs: int | Literal["auto"] = "auto"
    address: str | None = None
    cpus: int = 1
    gpus: float | None = None
    own_output = False

    def __post_init__(self) -> None:
        check_jobs(self.jobs)
        if self.cpus < 1:
            raise ValueError(f"cpus must be at least 1, not {self.cpus}")

    def make(self, *, jobs: int, device: str, folder: Path) -> "RayTasks":
        """Return the launcher. Raises UserError if ray is missing or the cluster does not answer."""
        try:
            import ray
        except ImportError as error:
            raise UserError("launcher=ray needs ray: pip install 'rlrep[ray]'") from error
        if self.address is not None and self.address != "auto":
            _check_reachable(self.address)
        os.environ |= _QUIET
        try:
            ray.init(
                self.address or "local",  # without an address it would join any cluster that this machine is part of
                include_dashboard=False if self.address is None else None,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise UserError(f"launcher=ray: {_where(self.address)} ({one_line(error)[:200]})") from error
        resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        gpus = float(bool(resources.get("GPU"))) if self.gpus is None else self.gpus
        return self._tasks(resources, jobs, gpus=0.0 if device == "cpu" else gpus)

    def _tasks(self, resources: Mapping[str, float], jobs: int, *, gpus: float) -> "RayTasks":
        cpus_there, gpus_there = resources.get("CPU", 0.0), resources.get("GPU", 0.0)
        room = int(min(cpus_there / self.cpus, gpus_there / gpus if gpus else math.inf))
        if not room:
            raise UserError(
                f"launcher=ray: the cluster has {cpus_there:g} CPUs and {gpus_there:g} GPUs, and a run asks for "
                f"{self.cpus} and {gpus:g}: lower launcher.cpus or launcher.gpus"
            )
        return RayTasks(at_a_time(self.jobs, room, jobs), self.cpus, gpus)


class RayTasks:
    """A connection to Ray."""

    poll_seconds = 0.5

    def __init__(self, width: int, cpus: int, gpus: float) -> None:
        self.width, self._cpus, self._gpus = width, cpus, gpus

    def submit(self, job: Job) -> "RayTask":
        """Hand a job to Ray. A run that is lost with its machine is the scheduler's to start again."""
        import ray

        run = ray.remote(run_command).options(num_cpus=self._cpus, num_gpus=self._gpus, max_retries=0)
        own = {"OMP_NUM_THREADS": str(self._cpus)} | ({} if self._gpus else {"CUDA_VISIBLE_DEVICES": ""})
        return RayTask(run.remote(replace(job, environment={**job.environment, **own}), Path.cwd()))

    def close(self) -> None:
        """Leave the cluster; a Ray of our own ends."""
        import ray

        ray.shutdown()


def run_command(job: Job, folder: Path) -> int:
    """Run a job where Ray put us, in the main thread of a process of Ray's."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # Ray cancels by it; a background shell's jobs ignore it
    return Command(job, folder)()


class RayTask:
    """One task of Ray."""

    def __init__(self, result: Any) -> None:
        self._result, self._stopped = result, False

    def status(self) -> Status:
        """Ask Ray."""
        import ray

        if not ray.wait([self._result], timeout=0)[0]:
            return RUNNING
        try:
            return Status("ended", ray.get(self._result))
        except ray.exceptions.RayError as error:
            code = 128 + signal.SIGTERM if self._stopped else None
            return Status("ended", code, f"lost by Ray: {one_line(error)[:200]}")

    def stop(self, number: int) -> None:
        """Cancel: the task is interrupted, tells its run to save, and waits for it."""
        import ray

        self._stopped = True
        ray.cancel(self._result, force=False)

    def kill(self) -> None:
        """End it at once; its run, which follows its parent, saves if it can."""
        import ray

        ray.cancel(self._result, force=True)


def _check_reachable(address: str) -> None:
    """Raise UserError if nothing listens at HOST:PORT; Ray itself would try for a minute."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise UserError(f"launcher.address={address}: expected HOST:PORT, ray://HOST:PORT, or auto")
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS).close()
    except (OSError, UnicodeError, OverflowError) as error:
        raise UserError(f"launcher=ray: {_where(address)} ({one_line(error)})") from error
    if not address.startswith("ray://"):
        _check_answers(address)


def _check_answers(address: str) -> None:
    """Raise UserError if what listens there is no Ray, as its dashboard: `ray.init` would wait for it for ever."""
    command = (sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address)
    try:
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=_ANSWER_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise UserError(f"launcher=ray: {_where(address)} (what listens there does not answer as Ray does)") from error


def _where(address: str | None) -> str:
    if address is None:
        return "Ray does not start on this machine"
    return f"no Ray cluster answers at {address}: check launcher.address, and that `ray start --head` runs there"
