"""The seam between what is to be run and where it runs: submit a command, ask how it is, ask it to stop."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol


@dataclass(frozen=True)
class Job:
    """A command. name: what lines call it. log: file its output is appended to; None: the launcher's own output."""

    name: str
    command: tuple[str, ...]
    log: Path | None
    environment: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Status:
    """How a submitted job is. exit_code: of an ended one, negative if a signal killed it, None if it was lost."""

    state: Literal["waiting", "running", "ended"]
    exit_code: int | None = None
    note: str = ""


WAITING, RUNNING = Status("waiting"), Status("running")


class Task(Protocol):
    """A submitted job."""

    def status(self) -> Status: ...
    def stop(self, number: int) -> None:
        """Pass a signal on, upon which a run saves and ends; does not wait for it."""

    def kill(self) -> None:
        """End it at once."""


class Launcher(Protocol):
    """Where jobs run.

    width: how many it takes at a time, whether they then run or wait there. poll_seconds: between questions to it.
    """

    @property
    def width(self) -> int: ...
    @property
    def poll_seconds(self) -> float: ...
    def submit(self, job: Job) -> Task:
        """Start a job, or put it into the queue. Raises UserError if it is not taken."""

    def close(self) -> None: ...


def at_a_time(asked: int | Literal["auto"], most: int, jobs: int) -> int:
    """Return how many of `jobs` go at a time: what was asked for, `most` for `auto`, never more than there are."""
    return max(1, min(most if asked == "auto" else asked, jobs))


def check_jobs(asked: int | Literal["auto"]) -> None:
    """Raise ValueError if `asked` is no number of jobs."""
    if asked != "auto" and asked < 1:
        raise ValueError(f"jobs must be auto or at least 1, not {asked}")
