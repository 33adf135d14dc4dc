"""Runs that may be compared: arms by tasks of one suite, with a common scale of scores."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .arms import RETURN, SUCCESS, Arm, Task, find_arms, label, length_of, order, task_of
from .runs import Fault, Run

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """One suite. cells: the runs by task and arm. names: the arms' short names, in order, the same in every suite."""

    title: str
    scale: str
    tasks: tuple[Task, ...]
    names: Mapping[Arm, str]
    cells: Mapping[tuple[Task, Arm], tuple[Run, ...]]
    common: tuple[Task, ...] = field(default=())
    """Tasks over which arms are aggregated: those that every arm in `aggregated` has."""
    aggregated: tuple[Arm, ...] = field(default=())

    @property
    def arms(self) -> list[Arm]:
        """The arms in order."""
        return list(self.names)

    @property
    def runs(self) -> list[Run]:
        """Every run."""
        return [run for runs in self.cells.values() for run in runs]

    @property
    def counts_unfinished(self) -> bool:
        """Whether scores are those of runs under way, because none is finished."""
        return not any(run.evaluations.final for run in self.runs)

    def cell(self, task: Task, arm: Arm) -> tuple[Run, ...]:
        """Return the runs of an arm on a task."""
        return self.cells.get((task, arm), ())

    def counted(self, task: Task, arm: Arm) -> list[Run]:
        """Return those whose last evaluation is a score: the finished ones, or all while none is finished."""
        return [run for run in self.cell(task, arm) if run.evaluations.final or self.counts_unfinished]

    def fewest(self, arm: Arm) -> int:
        """Return the least number of an arm's scores on one of the common tasks."""
        return min((len(self.counted(task, arm)) for task in self.common), default=0)


def score(task: Task, run: Run) -> Array:
    """Return a run's evaluations `(E,)` on the suite's scale."""
    if task.zero is None or task.one is None or not task.normalised:
        return raw(task, run)
    return (run.evaluations.returns - task.zero) / (task.one - task.zero)


def raw(task: Task, run: Run) -> Array:
    """Return a run's evaluations `(E,)` in the task's own unit: returns, or success rates where these are the score."""
    return run.evaluations.success if task.scale == SUCCESS else run.evaluations.returns


def compare(runs: Sequence[Run], metric: str = "auto") -> tuple[list[Comparison], list[Fault]]:
    """Return the runs by suite, the largest first, and what is wrong with some. metric: auto | return | success.

    An arm has one name in all of them.
    """
    suites: dict[str, list[tuple[Task, Run]]] = defaultdict(list)
    faults: list[Fault] = []
    for run in runs:
        if metric == "success" and np.isnan(run.evaluations.success).any():
            faults.append((run.folder, "left out: its episodes have no success to score"))
            continue
        task = task_of(run, metric)
        suites[task.suite].append((task, run))
    parts: list[tuple[str, list[tuple[Task, Run]], dict[int, Arm]]] = []
    for title, members in sorted(suites.items()):
        for part, listed in _by_length(title, members).items():
            kept, lost = _without_duplicates(listed)
            parts.append((part, kept, find_arms(kept)))
            faults += lost
    names = label(order(arm for *_, found in parts for arm in found.values()))
    made = [_comparison(part, kept, found, names) for part, kept, found in parts]
    return sorted(made, key=lambda one: -len(one.runs)), faults


def _by_length(title: str, members: list[tuple[Task, Run]]) -> dict[str, list[tuple[Task, Run]]]:
    """Split a suite by the length that was asked for, if a task was run with several."""
    lengths: dict[Task, set[str]] = defaultdict(set)
    for task, run in members:
        lengths[task].add(length_of(run))
    if all(len(seen) == 1 for seen in lengths.values()):
        return {title: members}
    parts: dict[str, list[tuple[Task, Run]]] = defaultdict(list)
    for task, run in members:
        parts[f"{title}, {length_of(run)}"].append((task, run))
    return dict(sorted(parts.items()))


def _without_duplicates(members: list[tuple[Task, Run]]) -> tuple[list[tuple[Task, Run]], list[Fault]]:
    """Keep one run per task, arm and seed: a finished one, then the longest, then the first by name."""
    arms = find_arms(members)
    best: dict[tuple[Task, Arm, str], int] = {}
    faults: list[Fault] = []
    for index, (task, run) in enumerate(members):
        key = task, arms[index], run.seed
        other = best.get(key)
        better = other is None or _progress(run) > _progress(members[other][1])
        if other is not None:
            loser, winner = (members[other][1], run) if better else (run, members[other][1])
            faults.append((loser.folder, f"left out: the same arm, task and seed {run.seed} as {winner.folder}"))
        if better:
            best[key] = index
    return [members[index] for index in sorted(best.values())], faults


def _progress(run: Run) -> tuple[bool, float]:
    return run.evaluations.final, float(run.evaluations.env_steps[-1])


def _comparison(
    title: str, members: list[tuple[Task, Run]], found: Mapping[int, Arm], names: Mapping[Arm, str]
) -> Comparison:
    cells: dict[tuple[Task, Arm], list[Run]] = defaultdict(list)
    for index, (task, run) in enumerate(members):
        cells[task, found[index]].append(run)
    tasks = tuple(sorted({task for task, _ in members}, key=lambda task: task.name))
    scale = next((task.scale for task in tasks if task.scored), RETURN)
    named = {arm: names[arm] for arm in order(found.values())}
    frozen = {key: tuple(sorted(runs, key=lambda run: run.seed)) for key, runs in cells.items()}
    bare = Comparison(title, scale, tasks, named, frozen)
    common, aggregated = _common(bare)
    return Comparison(title, scale, tasks, bare.names, frozen, common, aggregated)


def _common(made: Comparison) -> tuple[tuple[Task, ...], tuple[Arm, ...]]:
    """Return the tasks that arms share. Arms with fewer than half of the most tasks do not decide them."""
    usable = [task for task in made.tasks if task.scale == made.scale and task.scored]
    has = {arm: [task for task in usable if made.counted(task, arm)] for arm in made.arms}
    most = max((len(tasks) for tasks in has.values()), default=0)
    arms = tuple(arm for arm, tasks in has.items() if tasks and 2 * len(tasks) >= most)
    common = tuple(task for task in usable if arms and all(task in has[arm] for arm in arms))
    return common, arms if common else ()
