"""Scores that papers and public logs report, with their sources. Package data: `data/*.csv`."""

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

_DATA = files(__package__) / "data"
_CLOSE = 0.02


@dataclass(frozen=True)
class Published:
    """One number. task: as in `Scoring`. mean, std: raw returns. runs: seeds, None if not stated.

    reported: what was reported, as `final, 100 episodes`.
    """

    task: str
    method: str
    env_steps: int
    mean: float
    std: float | None
    runs: int | None
    reported: str
    source: str


@cache
def published(table: str) -> tuple[Published, ...]:
    """Return the entries of `data/TABLE.csv`, none of a table that is not there.

    It holds a row per number, or a row per task with a column for each method that `TABLE_methods.csv` tells of.
    """
    known = {path.name for path in _DATA.iterdir()}
    if f"{table}.csv" not in known or table.endswith("_methods"):
        return ()
    rows = _rows(f"{table}.csv")
    if f"{table}_methods.csv" in known:
        methods = _rows(f"{table}_methods.csv")
        rows = [{**said, "task": row["task"], "mean": row[said["method"]]} for row in rows for said in methods]
    return tuple(map(_entry, rows))


def at_steps(entries: Iterable[Published], task: str, env_steps: float) -> list[Published]:
    """Return the entries of a task at this many env steps, up to 2 % (an episode that was cut short)."""
    return [
        entry
        for entry in entries
        if entry.task == task and abs(entry.env_steps - env_steps) <= _CLOSE * entry.env_steps
    ]


def _entry(row: Mapping[str, str]) -> Published:
    std, runs = row.get("std"), row["runs"]
    return Published(
        row["task"],
        row["method"],
        int(row["env_steps"]),
        float(row["mean"]),
        float(std) if std else None,
        int(runs) if runs else None,
        row.get("reported", "at that step"),
        row["source"],
    )


def _rows(name: str) -> list[dict[str, str]]:
    with (_DATA / name).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))
