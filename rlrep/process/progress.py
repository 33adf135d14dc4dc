"""What a person sees: a bar with the time left on a terminal, plain lines elsewhere."""

import os
import sys
import time
from collections import deque
from typing import IO, Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

PREFIX_VARIABLE = "RLREP_LINE_PREFIX"
"""Set by a multirun for runs that share a terminal."""
_LINE_SECONDS = 10.0
_BAR_SECONDS = 0.25
_RATE_SECONDS = 30.0


class Reporter(Protocol):
    """Shows how far a run is."""

    def say(self, line: str) -> None: ...
    def update(self, done: int, updates: int, note: str) -> None: ...
    def close(self) -> None: ...


def make_reporter(total: int, done: int, unit: str = "env steps") -> Reporter:
    """Return the bar where the output is a terminal of our own, else lines (with a prefix in a multirun)."""
    prefix = os.environ.get(PREFIX_VARIABLE, "")
    if sys.stdout.isatty() and not prefix:
        return Bar(total, done, unit)
    return Lines(total, done, unit, prefix)


class Bar:
    """A rich progress bar; lines said meanwhile appear above it."""

    def __init__(self, total: int, done: int, unit: str = "env steps") -> None:
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(f"{unit}  {{task.fields[note]}}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(highlight=False),
            auto_refresh=False,
            speed_estimate_period=120,
        )
        self._task: TaskID = self._progress.add_task("train", total=total, completed=done, note="")
        self._last, self._done = 0.0, done
        self._rate = _Rate()
        self._progress.start()

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self._progress.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def update(self, done: int, updates: int, note: str) -> None:
        """Move the bar, a few times a second at most."""
        self._done = done
        if time.monotonic() - self._last >= _BAR_SECONDS:
            self._last = time.monotonic()
            note = f"{note}  {self._rate.per_second(updates):.3g} updates/s"
            self._progress.update(self._task, completed=done, note=note, refresh=True)

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._progress.update(self._task, completed=self._done, refresh=True)
        self._progress.stop()


class Lines:
    """One line every few seconds. file: None = standard output, as it is then."""

    def __init__(
        self, total: int, done: int, unit: str = "env steps", prefix: str = "", file: IO[str] | None = None
    ) -> None:
        self._total, self._first, self._unit, self._prefix, self._file = total, done, unit, prefix, file
        self._start = self._last = time.monotonic()
        self._rate = _Rate()

    def say(self, line: str) -> None:
        """Print a line."""
        print(f"{self._prefix}{line}", file=self._file, flush=True)

    def update(self, done: int, updates: int, note: str) -> None:
        """Print where the run is, if the last line is old enough."""
        now = time.monotonic()
        if now - self._last >= _LINE_SECONDS:
            self._last = now
            note = f"{note}  {self._rate.per_second(updates):.3g} updates/s"
            remaining = max(0, self._total - done)  # runs on families pass their length
            left = (now - self._start) / max(1, done - self._first) * remaining
            self.say(f"{done}/{self._total} {self._unit}  {note}  {clock(left)} left")

    def close(self) -> None:
        """Nothing to close."""


class Silent:
    """The reporter of all processes of a run but the first."""

    def say(self, line: str) -> None:
        """Say nothing."""

    def update(self, done: int, updates: int, note: str) -> None:
        """Show nothing."""

    def close(self) -> None:
        """Nothing to close."""


class _Rate:
    """Updates per second over about the last half minute."""

    def __init__(self) -> None:
        self._marks: deque[tuple[float, int]] = deque()

    def per_second(self, updates: int) -> float:
        now = time.monotonic()
        self._marks.append((now, updates))
        while len(self._marks) > 2 and now - self._marks[0][0] > _RATE_SECONDS:
            self._marks.popleft()
        start, first = self._marks[0]
        return (updates - first) / max(1e-9, now - start)


def clock(seconds: float) -> str:
    """Return `h:mm:ss`."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
