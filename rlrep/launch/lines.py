"""How jobs are, in plain lines."""

import sys
import time
from collections.abc import Callable, Sequence

from rlrep.process.progress import clock

from .scheduler import Entry

_STATUS_SECONDS = 60.0


class Lines:
    """A line for every job that starts or ends, and now and then one for all of them.

    summary: what that one says; None: no such line.
    """

    def __init__(self, entries: Sequence[Entry], summary: Callable[[], str] | None = None) -> None:
        self._number = {entry.job: index for index, entry in enumerate(entries, 1)}
        self._summary, self._last = summary, time.monotonic()

    def changed(self, entry: Entry) -> None:
        """Tell of one job."""
        place = f"[{self._number[entry.job]}/{len(self._number)}]"
        if entry.state == "running":
            self._say(f"{place} {entry.job.name}")
        elif entry.state == "done" and entry.job.log is not None and not entry.note:
            self._say(f"{place} done in {clock(entry.seconds)}: {entry.job.name}")
        elif entry.note:
            self._say(f"{place} {entry.state}: {entry.job.name}: {entry.note}")

    def refresh(self) -> None:
        """Tell of all of them, if the last time is long ago."""
        if self._summary is not None and time.monotonic() - self._last >= _STATUS_SECONDS:
            self._last = time.monotonic()
            self._say(self._summary())

    def _say(self, line: str) -> None:
        print(line, flush=True)


def complain(entries: Sequence[Entry], code: int = 0) -> None:
    """Name the jobs that did not end well, and their logs. code: what the scheduler returned."""
    for entry in entries:
        if entry.state in ("failed", "stopped"):
            log = "" if entry.job.log is None else f" ({entry.job.log})"
            print(f"{entry.state}: {entry.job.name}: {entry.note}{log}", file=sys.stderr, flush=True)
    if code > 1:
        print("stopped; the same command goes on", file=sys.stderr, flush=True)
