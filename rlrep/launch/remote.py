"""What a cluster's machine does with a job: run its command, tell it to save, say how it ended."""

import os
import signal
import subprocess
import time
from pathlib import Path

from rlrep.files import open_plain
from rlrep.process.signals import PARENT_VARIABLE

from .base import Job

_POLL_SECONDS = 0.2


def start(job: Job, *, environment: dict[str, str], folder: Path | None = None) -> "subprocess.Popen[bytes]":
    """Start a job's process in `folder`, its output appended to its log.

    Its session is its own, so that a terminal's Ctrl-C reaches it once, through us.
    """
    environment = {**os.environ, **job.environment, **environment, PARENT_VARIABLE: str(os.getpid())}
    if job.log is None:
        return subprocess.Popen(job.command, env=environment, cwd=folder, start_new_session=True)
    log = (folder or Path()) / job.log
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(open_plain(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT), "ab") as output:
        return subprocess.Popen(
            job.command,
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


class Command:
    """A job in the folder that it was submitted from; called, it returns the exit code (negative: of a signal)."""

    def __init__(self, job: Job, folder: Path) -> None:
        self.job, self.folder = job, folder
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> int:
        """Run to the end. A KeyboardInterrupt is how clusters cancel: the command then saves first."""
        self._process = start(self.job, environment={}, folder=self.folder)
        try:
            while (code := self._process.poll()) is None:
                time.sleep(_POLL_SECONDS)
        except KeyboardInterrupt:
            self.save()
            return 128 + signal.SIGTERM
        return code

    def save(self) -> None:
        """Send SIGTERM, upon which a run saves, and wait for its end; may be called from a signal's handler."""
        if self._process is None or self._process.returncode is not None:
            return
        os.kill(self._process.pid, signal.SIGTERM)
        os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)  # Popen.wait would wait for its own lock
