"""Run folders, read with distrust: what is sound is used, and every defect becomes one line."""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlrep.contract.env import Scoring
from rlrep.record.stored import Unreadable, read_json, read_yaml
from rlrep.settings import ConfigError, build

from .files import Table, clean, flatten, read_csv, read_lines

Array = NDArray[np.float64]
_DEEPEST = 12
_LARGEST = 1e100
"""Beyond this a number is none, so that sums stay finite."""
_MOST_ROWS_SHOWN = 30
_MARKS = ("eval.csv", "config.yaml")
_NEEDED = ("agent_steps", "env_steps", "return", "kind")
_KINDS = ("periodic", "final")
_OPTIONAL = {"success": math.nan, "adaptation": 0.0}
"""Columns that not every environment has, and what a cell without a value means."""
_HEALTH = ("rep/", "aux/", "context/")
Fault = tuple[Path, str]


@dataclass(frozen=True)
class Evaluations:
    """Evaluations in order of steps: `agent_steps, env_steps, returns, success (E,)`, means over episodes.

    Of a family of tasks the episodes after all adaptation count. success is NaN where the environment has none.
    final: whether the last one is the run's final evaluation. adaptation: mean return after 0, 1, ... episodes at last.
    """

    agent_steps: Array
    env_steps: Array
    returns: Array
    success: Array
    final: bool
    adaptation: Array
    episodes: int


@dataclass(frozen=True)
class Run:
    """One run folder. options: the config's leaves by dotted path, as asked for. versions: those of versions.json.

    scoring: what the environment said of its returns.
    """

    folder: Path
    options: Mapping[str, str]
    versions: Mapping[str, str]
    evaluations: Evaluations
    scoring: Scoring = field(default_factory=Scoring)

    @property
    def seed(self) -> str:
        """The seed, as written."""
        return self.options.get("seed", "?")

    def choice(self, group: str) -> str:
        """Return the name chosen for a group, `?` if the config does not say."""
        return self.options.get(f"choices.{group}", "?")


def find_folders(roots: Sequence[Path]) -> Iterator[Path]:
    """Yield every run folder at or below `roots`, each once, in order of names. Links are not followed."""
    seen: set[Path] = set()
    for root in roots:
        for folder in _walk(root, 0):
            place = folder.resolve()
            if place not in seen:
                seen.add(place)
                yield folder


def _walk(folder: Path, depth: int) -> Iterator[Path]:
    try:
        with os.scandir(folder) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return
    marks = sum(entry.name in _MARKS for entry in listed)
    if marks:
        yield folder
    if marks < len(_MARKS) and depth < _DEEPEST:  # a stray file above runs hides none of them
        for entry in listed:
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(folder / entry.name, depth + 1)


def read_runs(folders: Iterator[Path]) -> tuple[list[Run], list[Fault]]:
    """Return the runs that can be used, and what is wrong with these and the others."""
    runs, faults = [], []
    for folder in folders:
        try:
            run, found = read_run(folder)
            runs.append(run)
            faults += found
        except Unreadable as error:
            faults.append((folder, str(error)))
    return runs, faults


def read_run(folder: Path) -> tuple[Run, list[Fault]]:
    """Read one run and list its lesser defects. Raises Unreadable, in words, if it cannot be used."""
    faults: list[Fault] = []
    try:
        options = _options(read_yaml(folder / "config.yaml"))
    except Unreadable as error:
        raise Unreadable(f"left out: its config.yaml {error}") from error
    try:
        versions = flatten(read_json(folder / "versions.json"))
    except Unreadable as error:
        versions = {}
        faults.append((folder, f"its versions.json {error}"))
    try:
        scoring = read_scoring(folder)
    except Unreadable as error:
        scoring = Scoring()
        faults.append((folder, f"its scoring.json {error}: its returns are shown as they are"))
    try:
        table = read_csv(folder / "eval.csv")
        evaluations, wrong = _evaluations(table)
    except Unreadable as error:
        raise Unreadable(f"left out: its eval.csv {error}") from error
    return Run(folder, options, versions, evaluations, scoring), faults + [(folder, line) for line in wrong]


def read_scoring(folder: Path) -> Scoring:
    """Return what an environment said of its returns. Raises Unreadable."""
    try:
        found: Scoring = build(Scoring, read_json(folder / "scoring.json"), "scoring")
    except ConfigError as error:
        raise Unreadable(f"says something else ({clean(str(error))[:120]})") from error
    if any(level is not None and not abs(level) < _LARGEST for level in (found.zero, found.one)):
        raise Unreadable("holds numbers that are none")
    named = (found.suite, found.task, found.remark)
    suite, task, remark = (text if text is None else clean(text)[:200] for text in named)
    return replace(found, suite=suite, task=task, remark=remark, scale=clean(found.scale)[:100])


def _options(tree: Mapping[str, Any]) -> dict[str, str]:
    """Return the leaves, with what was asked for in place of what `auto` became, as a command line composes them."""
    options = flatten({key: value for key, value in tree.items() if key != "requested"})
    asked = tree.get("requested")
    return options | flatten(asked) if isinstance(asked, Mapping) and asked else options


def _evaluations(table: Table) -> tuple[Evaluations, list[str]]:
    missing = [name for name in _NEEDED if name not in table.columns]
    if "features" in table.columns and missing:
        raise Unreadable("is that of a pretraining run, which plays no episodes")
    if missing:
        raise Unreadable(f"has no column {', '.join(missing)}")
    numbers, kinds, damaged, absent = [], [], table.damaged, 0
    places = [table.columns.index(name) for name in (*_NEEDED[:3], *_OPTIONAL) if name in table.columns]
    blanks = [math.nan] * 3 + [blank for name, blank in _OPTIONAL.items() if name in table.columns]
    kind = table.columns.index("kind")
    for row in table.rows:
        try:
            cells = [float(row[place] or blank) for place, blank in zip(places, blanks, strict=True)]
        except ValueError:
            cells = []
        if not cells or row[kind] not in _KINDS or min(cells[:2]) < 0:
            damaged += 1
        elif all(abs(cell) < _LARGEST for cell in cells[:3]):
            numbers.append(cells)
            kinds.append(row[kind] == "final")
        else:
            absent += 1
    wrong = [f"{damaged} rows of eval.csv are damaged and left out"] if damaged else []
    wrong += [f"{absent} episodes of eval.csv have no finite return and are left out"] if absent else []
    if not numbers:
        raise Unreadable("; ".join(["holds no evaluation yet", *wrong]))
    found = np.array(numbers)
    given = iter(range(3, found.shape[1]))
    more = [found[:, next(given)] if name in table.columns else np.full(len(found), b) for name, b in _OPTIONAL.items()]
    rows = np.column_stack([found[:, :3], *more])
    rows[~((rows[:, 3] >= 0) & (rows[:, 3] <= 1)), 3] = math.nan
    rows[~(np.abs(rows[:, 4]) < _LARGEST), 4] = 0.0
    known = rows[:, 3] >= 0
    if known.any() and not known.all():
        wrong.append(
            f"{(~known).sum()} episodes of eval.csv have no success from 0 to 1, as the others, and are left out"
        )
        return _summarise(rows[known], np.array(kinds)[known]), wrong
    return _summarise(rows, np.array(kinds)), wrong


def _summarise(rows: Array, final: NDArray[np.bool_]) -> Evaluations:
    """Average over episodes. rows `(R, 5)`: agent steps, env steps, return, success, episodes of adaptation."""
    if final.any():  # a periodic evaluation at the same step says less
        kept = final | (rows[:, 1] < rows[final, 1].max())
        rows, final = rows[kept], final[kept]
    last = rows[:, 4] == rows[:, 4].max()
    steps, group = np.unique(rows[last, 1], return_inverse=True)
    episodes = np.bincount(group)
    means = [np.bincount(group, rows[last, k]) / episodes for k in (0, 2, 3)]
    end = rows[:, 1] == steps[-1]
    adaptation = [float(rows[end & (rows[:, 4] == k), 2].mean()) for k in np.unique(rows[end, 4])]
    return Evaluations(means[0], steps, means[1], means[2], bool(final.any()), np.array(adaptation), int(episodes[-1]))


def read_health(run: Run) -> dict[str, Array]:
    """Return curves of representation health, label quality and beliefs by key: `(2, P)` env steps and values.

    They are thinned to some forty points. A file that cannot be read has none.
    """
    try:
        rows = read_lines(run.folder / "metrics.jsonl", (b'"rep/', b'"context/'), _MOST_ROWS_SHOWN)
    except Unreadable:
        return {}
    points: dict[str, dict[float, float]] = {}
    for row in rows:
        step = row.get("env_steps")
        for key, value in row.items() if _is_finite(step) else ():
            if key.startswith(_HEALTH) and _is_finite(value):
                points.setdefault(clean(key)[:100], {})[float(step)] = float(value)  # type: ignore[arg-type]
    return {key: np.array(sorted(found.items())).T for key, found in points.items()}


def _is_finite(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _LARGEST
