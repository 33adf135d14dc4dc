"""How far a grid is, read from the run folders."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rlrep.launch.scheduler import Entry, last_line
from rlrep.process.progress import clock
from rlrep.record.stored import Unreadable, load_json

from .plan import Plan, Run


@dataclass
class Board:
    """The runs of a plan and their entries, in the same order."""

    plan: Plan
    entries: Sequence[Entry]
    _began: float = field(default_factory=time.monotonic)
    _at_start: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for run, entry in self.pairs():
            self._at_start[run.out] = self.share(run, entry)

    def pairs(self) -> list[tuple[Run, Entry]]:
        """Return every run with its entry."""
        return list(zip(self.plan.runs, self.entries, strict=True))

    def share(self, run: Run, entry: Entry) -> float:
        """Return how much of a run is done, from 0 to 1, by the last row of its metrics; one that waits is not read."""
        if entry.state == "waiting" and run.out in self._at_start:
            return self._at_start[run.out]
        return 1.0 if entry.state == "done" else share_done(run)

    def counts(self) -> str:
        """Say how many runs are how."""
        found = Counter(entry.state for entry in self.entries)
        return ", ".join(f"{count} {state}" for state, count in found.items())

    def left(self) -> str:
        """Say how long the rest takes at the pace of this session."""
        mine = [(run, entry) for run, entry in self.pairs() if entry.state in ("waiting", "running", "done")]
        now = {run.out: self.share(run, entry) for run, entry in mine}
        gained = sum(share - self._at_start[out] for out, share in now.items())
        if gained <= 0:
            return "time left not known yet"
        rest = len(now) - sum(now.values())
        return f"{clock(rest * (time.monotonic() - self._began) / gained)} left"

    def summary(self) -> str:
        """Say both in a line."""
        return f"{self.counts()}; {self.left()}"


def share_done(run: Run) -> float:
    """Return how much of a run's steps its metrics tell of; 0 where there is nothing to read."""
    try:
        row = load_json(last_line(Path(run.out) / "metrics.jsonl").encode())
    except (OSError, Unreadable):
        return 0.0
    train, row = run.tree["train"], row if isinstance(row, Mapping) else {}
    for unit in ("agent_steps", "env_steps"):
        done = row.get(unit)
        if train[unit] and isinstance(done, (int, float)):
            return float(min(1.0, max(0.0, done / train[unit])))
    return 0.0
