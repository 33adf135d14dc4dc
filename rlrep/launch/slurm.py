"""`launcher=slurm`: jobs of a Slurm cluster, through submitit."""

import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal

from rlrep.settings import UserError, one_line

from .base import RUNNING, WAITING, Job, Status, at_a_time, check_jobs
from .remote import Command

if TYPE_CHECKING:
    from submitit import AutoExecutor
    from submitit.core.core import Job as Submitted
    from submitit.helpers import DelayedSubmission

_SLURM_SECONDS, _LOCAL_SECONDS = 5.0, 0.2


@dataclass(frozen=True)
class Slurm:
    """What to ask Slurm for, per run.

    jobs: runs submitted at a time; auto = all. cluster: local = submitit's stand-in for Slurm on this machine.
    timeout_min: time limit; a run that reaches it saves `signal_delay_s` before, is queued again and goes on, at most
    `requeues` times. mem_gb: GB of memory. setup: shell commands before each run, as `module load cuda`.
    """

    jobs: int | Literal["auto"] = "auto"
    cluster: Literal["slurm", "local"] = "slurm"
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    timeout_min: int = 1440
    signal_delay_s: int = 120
    requeues: int = 20
    cpus: int = 4
    gpus: int = 1
    mem_gb: float | None = None
    setup: tuple[str, ...] = ()
    own_output = False

    def __post_init__(self) -> None:
        check_jobs(self.jobs)
        for name in ("timeout_min", "cpus"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")

    def make(self, *, jobs: int, device: str, folder: Path) -> "Cluster":
        """Return the launcher. Raises UserError if submitit or Slurm is missing."""
        try:
            from submitit import AutoExecutor
        except ImportError as error:
            raise UserError("launcher=slurm needs submitit: pip install 'rlrep[slurm]'") from error
        if "%" in str(folder.absolute()):
            raise UserError(f"launcher=slurm: Slurm reads the % in {folder.absolute()} as a sign of its own: use root=")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # What jobs return is unpickled, so that nobody else may have put a file where it is looked for.
            own = Path(mkdtemp(prefix="", dir=folder))
            executor = AutoExecutor(own / "%j", self.cluster, slurm_max_num_timeout=self.requeues)
        except RuntimeError as error:
            raise UserError(
                f"launcher=slurm: no Slurm here ({one_line(error)}): run this where sbatch is, or use launcher=local"
            ) from error
        executor.update_parameters(**self._parameters(gpus=0 if device == "cpu" else self.gpus))
        return Cluster(executor, at_a_time(self.jobs, jobs, jobs), slurm=self.cluster == "slurm")

    def _parameters(self, *, gpus: int) -> dict[str, Any]:
        """Return what `update_parameters` takes; None is left to the cluster."""
        asked = {name: getattr(self, name) for name in ("partition", "account", "qos", "constraint", "signal_delay_s")}
        return {
            "name": "rlrep",
            "timeout_min": self.timeout_min,
            "cpus_per_task": self.cpus,
            "gpus_per_node": gpus,
            "mem_gb": self.mem_gb,
            "stderr_to_stdout": True,
            "slurm_setup": list(self.setup) or None,
            "slurm_additional_parameters": {"requeue": True},
            **{f"slurm_{name}": value for name, value in asked.items()},
        }


class Cluster:
    """Submitted jobs. What submitit writes for itself is in `folder`; a run's own output is in its log."""

    def __init__(self, executor: "AutoExecutor", width: int, *, slurm: bool) -> None:
        self._executor, self.width = executor, width
        self.poll_seconds = _SLURM_SECONDS if slurm else _LOCAL_SECONDS

    def submit(self, job: Job) -> "Queued":
        """Hand a job to the cluster. Raises UserError if it is refused, as for a partition that is not there."""
        try:
            return Queued(self._executor.submit(Requeueing(job, Path.cwd())))
        except (RuntimeError, OSError) as error:
            raise UserError(f"Slurm refuses the job: {one_line(error)[:300]}") from error

    def close(self) -> None:
        """Jobs that are under way stay."""


class Queued:
    """One submitted job."""

    def __init__(self, job: "Submitted[int]") -> None:
        self._job = job

    def status(self) -> Status:
        """Ask submitit; a job has started once its output file is there."""
        if not self._job.done():
            return RUNNING if self._job.paths.stdout.exists() else WAITING
        try:
            return Status("ended", self._job.result())
        except Exception as error:  # whatever the job raised, or that it left no result
            return Status("ended", None, f"lost by the cluster: {one_line(error)[:200]}")

    def stop(self, number: int) -> None:
        """Cancel: Slurm sends SIGTERM, upon which the run saves."""
        self._job.cancel(check=False)

    def kill(self) -> None:
        """The same: a cluster kills by itself what does not end."""
        self.stop(signal.SIGTERM)


class Requeueing(Command):
    """A command that submitit queues again when its time is up or its machine is taken away (SIGUSR2)."""

    def __call__(self) -> int:
        """Run to the end.

        On SIGTERM alone, which is Slurm's word both for `scancel` and for a preemption that it requeues itself, the
        run saves and leaves no result behind: only Slurm knows which of the two it is.
        """
        before = signal.signal(signal.SIGTERM, self._leave)
        try:
            return super().__call__()
        finally:
            signal.signal(signal.SIGTERM, before)

    def checkpoint(self) -> "DelayedSubmission":
        """Save; return the same command, which then goes on from there. Called by submitit."""
        from submitit.helpers import DelayedSubmission

        self.save()
        return DelayedSubmission(Requeueing(self.job, self.folder))

    def _leave(self, number: int, frame: FrameType | None) -> None:
        self.save()
        sys.exit(128 + number)
