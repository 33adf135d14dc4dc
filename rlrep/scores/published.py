"""Scores that papers and public logs report, with their sources. Package data: `data/*.csv`."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

ATARI_STEPS = 400_000
"""Env steps (frames) of Atari-100k: 100,000 agent steps."""
_CLOSE = 0.02


@dataclass(frozen=True)
class Published:
    """One number. task: as `cheetah-run` or `road_runner`. mean, std: raw returns. runs: seeds, None if not stated.

    reported: what was reported, as `final, 100 episodes`. obs: pixels or state.
    """

    task: str
    method: str
    env_steps: int
    mean: float
    std: float | None
    runs: int | None
    reported: str
    source: str
    obs: str = "pixels"


@cache
def atari100k() -> tuple[Published, ...]:
    """Return Atari-100k: 400,000 frames, no sticky actions, a lost life ends an episode of training; raw scores."""
    methods = {row["method"]: row for row in _rows("atari100k_methods.csv")}
    return tuple(
        Published(
            row["game"],
            name,
            ATARI_STEPS,
            float(row[name]),
            None,
            _whole(said["runs"]),
            said["reported"],
            said["source"],
        )
        for row in _rows("atari100k.csv")
        for name, said in methods.items()
    )


@cache
def dmc() -> tuple[Published, ...]:
    """Return six tasks of the Control Suite at 100,000, 500,000 and 1,000,000 env steps."""
    return tuple(
        Published(
            row["task"],
            row["method"],
            int(row["env_steps"]),
            float(row["mean"]),
            float(row["std"]) if row["std"] else None,
            _whole(row["runs"]),
            "at that step",
            row["source"],
            row["obs"],
        )
        for row in _rows("dmc.csv")
    )


def at_steps(entries: Iterable[Published], task: str, obs: str, env_steps: float) -> list[Published]:
    """Return the entries of a task at this many env steps, up to 2 % (an episode that was cut short)."""
    return [
        entry
        for entry in entries
        if entry.task == task and entry.obs == obs and abs(entry.env_steps - env_steps) <= _CLOSE * entry.env_steps
    ]


def _whole(text: str) -> int | None:
    return int(text) if text else None


def _rows(name: str) -> list[dict[str, str]]:
    with (files(__package__) / "data" / name).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))
