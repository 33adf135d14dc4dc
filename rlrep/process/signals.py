"""Ctrl-C, SIGTERM and what clusters send before they take a machine away: noted, and answered in a consistent state."""

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from rlrep.settings import Stopped

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGXCPU, signal.SIGUSR1, signal.SIGUSR2)
"""Signals after which a run saves and ends with 128 + signal.

SIGHUP: the terminal was closed. SIGXCPU: `ulimit -S -t`. The last two are Slurm's before a time limit.
"""
PARENT_VARIABLE = "RLREP_PARENT"
"""Set by a launcher, for the processes it starts, to its own id."""
_PR_SET_PDEATHSIG = 1


class StopRequest:
    """Whether, and by which signal, the run was asked to stop."""

    def __init__(self) -> None:
        self.signal_number: int | None = None

    def check(self) -> None:
        """Raise Stopped if a signal came."""
        if self.signal_number is not None:
            raise Stopped(self.signal_number)


@contextmanager
def catch_signals(message: str = "stopping after this update (again to quit at once)") -> Iterator[StopRequest]:
    """Turn the first of the signals into a request; Ctrl-C after that quits at once (KeyboardInterrupt).

    The others may come several times over: a cluster sends them to every process, and launchers pass them on.
    """
    request = StopRequest()

    def note(number: int, frame: FrameType | None) -> None:
        if request.signal_number is None:
            request.signal_number = number
            with suppress(OSError):  # a terminal that was closed
                os.write(2, f"\n{message}\n".encode())  # print is not safe in a handler
        elif number == signal.SIGINT:
            raise KeyboardInterrupt

    old = {number: signal.signal(number, note) for number in STOPPING if not _is_nohup(number)}
    try:
        yield request
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def _is_nohup(number: int) -> bool:
    """Whether `nohup` started us: the run is to outlive its terminal."""
    return number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN


def follow_parent() -> None:
    """Let the kernel send SIGTERM, upon which a run saves, when the launcher that started this process dies (Linux)."""
    if os.environ.get(PARENT_VARIABLE) == str(os.getppid()) and sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
