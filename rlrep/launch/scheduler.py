"""Keeps a launcher busy until all jobs have ended, whatever happens to any of them."""

import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from rlrep.files import open_plain
from rlrep.process.signals import STOPPING, StopRequest
from rlrep.settings import Busy, UserError, one_line

from .base import Job, Launcher, Status, Task

_SAVE_SECONDS = 600.0
_ELSEWHERE_SECONDS = 5.0
_TAIL_BYTES = 4000
State = Literal["waiting", "running", "done", "failed", "stopped", "elsewhere"]


@dataclass
class Entry:
    """A job and what became of it. note: why it failed. attempts: how often it was started.

    elsewhere: another process works on it, and it is ours to start if that leaves it unfinished.
    """

    job: Job
    state: State = "waiting"
    note: str = ""
    attempts: int = 0
    started: float = 0.0
    seconds: float = 0.0
    task: Task | None = field(default=None, repr=False)


Standing = Callable[[Job], tuple[State, str]]
"""How a job stands by what it has left behind: done, waiting, elsewhere, or failed if it cannot run; and why."""


More = Callable[[int], Sequence[Entry]]
"""What is to be run as well, when there is room for so many; asked again and again until nothing is left to do."""


class View(Protocol):
    """Shows how the jobs are."""

    def changed(self, entry: Entry) -> None: ...
    def refresh(self) -> None: ...


class Scheduler:
    """Runs jobs in order, as many at a time as the launcher takes.

    standing: asked before a job is started and when its command ended; None: the exit code says it all. A job that
    something killed is started once more, and goes on from its checkpoint; one that says itself what is wrong is not.
    """

    def __init__(self, launcher: Launcher, stop: StopRequest, view: View, standing: Standing | None = None) -> None:
        self._launcher, self._stop, self._view, self._standing = launcher, stop, view, standing
        self._asked_elsewhere = time.monotonic()

    def run(self, entries: Sequence[Entry], more: More | None = None) -> int:
        """Run what is waiting. Returns 0 if all of that is done, 1 if not, 128 + signal if a signal ended it."""
        unsettled = ("waiting", "running") if self._standing is None else ("waiting", "running", "elsewhere")
        mine = [entry for entry in entries if entry.state in unsettled]
        try:
            while self._add(mine, more) or any(entry.state in unsettled for entry in mine):
                for entry in mine:
                    self._look_at(entry)
                if self._stop.signal_number is not None:
                    return self._end(mine, self._stop.signal_number)
                self._ask_elsewhere(mine)
                self._fill(mine)
                self._view.refresh()
                time.sleep(self._launcher.poll_seconds)
        finally:
            for entry in mine:
                if entry.task is not None:
                    entry.task.kill()
        return 0 if all(entry.state == "done" for entry in mine) else 1

    def _add(self, entries: list[Entry], more: More | None) -> bool:
        """Take in what else is to be run, and return whether there was anything."""
        busy = sum(entry.task is not None or entry.state == "waiting" for entry in entries)
        added = more(self._launcher.width - busy) if more is not None and busy < self._launcher.width else ()
        entries += added
        return bool(added)

    def _fill(self, entries: Sequence[Entry]) -> None:
        room = self._launcher.width - sum(entry.task is not None for entry in entries)
        for entry in entries:
            if room < 1:
                return
            if entry.state != "waiting" or entry.task is not None or not self._is_ours(entry):
                continue
            try:
                entry.task = self._launcher.submit(entry.job)
            except UserError as error:
                self._change(entry, "failed", one_line(error))
                continue
            room -= 1
            entry.attempts += 1
            entry.started = time.monotonic()

    def _is_ours(self, entry: Entry) -> bool:
        """Whether to start a job: in the meantime another process may have begun or finished it."""
        if not entry.attempts:  # the simulators of one that was killed hold its lock for a moment
            self._ask(entry)
        return entry.state == "waiting"

    def _ask_elsewhere(self, entries: Sequence[Entry]) -> None:
        """Ask now and then how those that other processes work on are."""
        if time.monotonic() - self._asked_elsewhere < _ELSEWHERE_SECONDS:
            return
        for entry in entries:
            if entry.state == "elsewhere":
                self._ask(entry)
        self._asked_elsewhere = time.monotonic()

    def _ask(self, entry: Entry) -> None:
        """Note what another process has done about a job."""
        state, note = self._standing(entry.job) if self._standing else (entry.state, "")
        if state != entry.state:
            self._change(entry, state, "by another process" if state == "done" else note)

    def _look_at(self, entry: Entry) -> None:
        if entry.task is None:
            return
        status = entry.task.status()
        if status.state == "ended":
            if entry.state == "waiting":  # it was over before anyone looked
                self._change(entry, "running")
            entry.task, entry.seconds = None, time.monotonic() - entry.started
            self._judge(entry, status)
        elif status.state != entry.state:
            entry.started = time.monotonic()  # in a queue it does not run
            self._change(entry, status.state)

    def _judge(self, entry: Entry, status: Status) -> None:
        code, standing = status.exit_code, self._standing(entry.job)[0] if self._standing else None
        busy = code == Busy.exit_code and standing is not None
        if code == 0 and standing in (None, "done"):
            self._change(entry, "done")
        elif busy and standing == "done":
            self._change(entry, "done", "by another process")
        elif busy and standing in ("elsewhere", "waiting"):
            self._change(entry, standing, "another process was faster")
        elif code in [128 + number for number in STOPPING]:
            self._change(entry, "stopped", f"stopped by {signal.Signals(code - 128).name}, saved")
        elif was_killed(code) and entry.attempts < 2 and self._stop.signal_number is None:
            self._change(entry, "waiting", f"{_told(code)}: once more")
        else:
            self._change(entry, "failed", self._why(entry, status))

    def _why(self, entry: Entry, status: Status) -> str:
        """Say why a job failed: by its own last line or, if something killed it, by what that was."""
        told = status.note or (_told(status.exit_code) if was_killed(status.exit_code) else "")
        last = last_line(entry.job.log)
        return f"{told}, after: {last}" if told and last else told or last or _told(status.exit_code)

    def _change(self, entry: Entry, state: State, note: str = "") -> None:
        entry.state, entry.note = state, note
        self._view.changed(entry)

    def _end(self, entries: Sequence[Entry], number: int) -> int:
        """Pass the signal on and wait until what runs has saved. A second Ctrl-C kills it."""
        for entry in entries:
            if entry.task is not None:
                entry.task.stop(number)
        deadline = time.monotonic() + _SAVE_SECONDS
        while any(entry.task is not None for entry in entries) and time.monotonic() < deadline:
            for entry in entries:
                self._look_at(entry)
            self._view.refresh()
            time.sleep(self._launcher.poll_seconds)
        return 128 + number


def was_killed(code: int | None) -> bool:
    """Whether a command ended by what it could not help: a signal (also as shells tell it), or its machine."""
    return code is None or code < 0 or code == 128 + signal.SIGKILL


def last_line(log: Path | None) -> str:
    """Return the last line of a log that says something; nothing where there is no log."""
    if log is None or not log.exists():
        return ""
    with open(open_plain(log, os.O_RDONLY), "rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines()]
    return next((line for line in reversed(lines) if line), "")


def _told(code: int | None) -> str:
    if code is None:
        return "lost"
    number = -code if code < 0 else code - 128
    if was_killed(code) and number in list(signal.Signals):
        return f"killed by {signal.Signals(number).name}"
    return f"exit code {code}"
