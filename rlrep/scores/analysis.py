"""The numbers of a comparison: aggregates over tasks, profiles, pairs of arms, curves, health beside the returns."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product

import numpy as np
from numpy.typing import NDArray

from . import statistics
from .arms import RETURN, Arm, Task
from .comparison import Comparison, raw, score
from .runs import Run, read_health
from .statistics import FEWEST_RUNS, STATISTICS, Band, Counts, Estimate, Statistic, allows_interval, estimate, flatten

Array = NDArray[np.float64]
KINDS = ("final", "best")
"""Scores of the last evaluation, and of the best one of training: never mixed."""
CURVES = ("IQM", "mean")
_MOST_POINTS = 40
_CURVE_RESAMPLES = 500
_THRESHOLDS = 101
_MOST_PAIRS = 15


@dataclass(frozen=True)
class Draws:
    """How intervals are drawn, where there are runs enough for them. The same seed gives the same report."""

    seed: int = 0
    resamples: int = 2000

    def generator(self, *place: int) -> np.random.Generator:
        """Return the generator of one place in the report, so that no other place changes its draws."""
        return np.random.default_rng([self.seed, *place])


@dataclass(frozen=True)
class Line:
    """A curve over `steps (P,)` env steps; agent_share: agent steps per env step, None where tasks differ."""

    steps: Array
    band: Band
    agent_share: float | None
    runs: int


@dataclass(frozen=True)
class Pair:
    """How likely a run of `first` scores above one of `second` on a task."""

    first: Arm
    second: Arm
    probability: Estimate


def endings(task: Task, runs: Sequence[Run], kind: str, unit: Callable[[Task, Run], Array] = score) -> list[float]:
    """Return one score per run: its last evaluation, or its best."""
    return [float(values.max() if kind == "best" else values[-1]) for values in (unit(task, run) for run in runs)]


def aggregates(made: Comparison, draws: Draws) -> dict[str, dict[str, dict[Arm, Estimate]]]:
    """Return IQM, mean, median and optimality gap by kind (final, best), statistic and arm, over the common tasks."""
    senseless = {"optimality gap"} if made.scale == RETURN else set()
    senseless |= {"median"} if len(made.common) < 2 else set()
    names = [name for name in STATISTICS if name not in senseless]
    return {
        kind: {
            name: {
                arm: estimate(
                    STATISTICS[name],
                    _by_task(made, arm, kind),
                    resamples=draws.resamples,
                    generator=draws.generator(0, index),
                    fewest=FEWEST_RUNS,
                )
                for index, arm in enumerate(made.aggregated)
            }
            for name in names
        }
        for kind in KINDS
    }


def _by_task(made: Comparison, arm: Arm, kind: str = "final") -> list[list[float]]:
    return [endings(task, made.counted(task, arm), kind) for task in made.common]


def per_task(made: Comparison, draws: Draws) -> dict[Task, dict[Arm, dict[str, Estimate]]]:
    """Return the mean over runs of every task and arm by kind, in the task's own unit."""
    found: dict[Task, dict[Arm, dict[str, Estimate]]] = {}
    for row, task in enumerate(made.tasks):
        for column, arm in enumerate(made.arms):
            if runs := made.counted(task, arm):
                found.setdefault(task, {})[arm] = {
                    kind: estimate(
                        statistics.mean,
                        [endings(task, runs, kind, raw)],
                        resamples=draws.resamples,
                        generator=draws.generator(1, row, column),
                        fewest=FEWEST_RUNS,
                    )
                    for kind in KINDS
                }
    return found


def profiles(made: Comparison, draws: Draws) -> tuple[Array, dict[Arm, Band]]:
    """Return thresholds `(P,)` and, by arm, the share of runs whose final score is above each."""
    pooled = {arm: flatten(_by_task(made, arm)) for arm in made.aggregated}
    if not pooled:
        return np.zeros(0), {}
    everything = np.concatenate([scores for scores, _ in pooled.values()])
    low, high = float(min(0.0, everything.min())), float(everything.max())
    thresholds = np.linspace(low, high if high > low else low + 1.0, _THRESHOLDS)
    found = {}
    for index, (arm, (scores, sizes)) in enumerate(pooled.items()):
        value = statistics.performance_profile(scores, statistics.equal_weights(sizes), thresholds)
        band = Band(value, *(np.full_like(value, np.nan) for _ in range(2)))
        if allows_interval(sizes):
            weights = statistics.resample(sizes, _CURVE_RESAMPLES, draws.generator(2, index))
            band = Band(value, *statistics.interval(statistics.performance_profile(scores, weights, thresholds)))
        found[arm] = band
    return thresholds, found


def pairs(made: Comparison, draws: Draws) -> list[Pair]:
    """Return how likely each arm improves on each before it; with many arms, only on those without a head.

    An arm with fewer than `FEWEST_RUNS` runs of a task is in no pair: a probability would rank it.
    """
    settled = [arm for arm in made.aggregated if made.fewest(arm) >= FEWEST_RUNS]
    chosen = [(second, first) for first, second in combinations(settled, 2)]
    if len(chosen) > _MOST_PAIRS:
        chosen = [(first, second) for first, second in chosen if second.role != "head"]
    drawn = {}
    for index, arm in enumerate(made.aggregated):
        if arm in settled:
            scores, sizes = flatten(_by_task(made, arm))
            drawn[arm] = scores, sizes, statistics.resample(sizes, draws.resamples, draws.generator(3, index))
    return [Pair(first, second, _improvement(drawn[first], drawn[second])) for first, second in chosen]


def _improvement(
    first: tuple[Array, statistics.Counts, Array], second: tuple[Array, statistics.Counts, Array]
) -> Estimate:
    (x, x_sizes, x_drawn), (y, y_sizes, y_drawn) = first, second
    weights = statistics.equal_weights(x_sizes), statistics.equal_weights(y_sizes)
    value = float(statistics.probability_of_improvement((x, weights[0], x_sizes), (y, weights[1], y_sizes)))
    drawn = statistics.probability_of_improvement((x, x_drawn, x_sizes), (y, y_drawn, y_sizes))
    low, high = statistics.interval(drawn)
    return Estimate(value, float(low), float(high))


def task_curves(made: Comparison, task: Task, draws: Draws) -> dict[Arm, dict[str, Line]]:
    """Return the curves over seeds of one task in its own unit, by arm and statistic (IQM, mean), of all runs."""
    found = {}
    for index, arm in enumerate(made.arms):
        if runs := made.cell(task, arm):
            found[arm] = _lines([[(run, raw(task, run)) for run in runs]], draws, (4, index), limit=np.inf)
    return found


def aggregate_curves(made: Comparison, draws: Draws) -> dict[Arm, dict[str, Line]]:
    """Return the sample-efficiency curves over all common tasks, by arm and statistic.

    Tasks of different lengths share the axis as far as the shortest goes (see `shortest`).
    """
    limit = min((_longest(made, task) for task in made.common), default=0.0)
    found = {}
    for index, arm in enumerate(made.aggregated):
        listed = [[(run, score(task, run)) for run in made.cell(task, arm)] for task in made.common]
        found[arm] = _lines(listed, draws, (5, index), limit=limit)
    return found


def shortest(made: Comparison) -> float | None:
    """Return the env steps where curves over all common tasks end before those of some task do, None if of none."""
    lengths = {_longest(made, task) for task in made.common}
    return min(lengths) if len(lengths) > 1 else None


def _longest(made: Comparison, task: Task) -> float:
    return max(float(run.evaluations.env_steps[-1]) for arm in made.aggregated for run in made.cell(task, arm))


def _lines(
    tasks: Sequence[Sequence[tuple[Run, Array]]], draws: Draws, place: tuple[int, ...], *, limit: float
) -> dict[str, Line]:
    runs = [run for listed in tasks for run, _ in listed]
    steps = grid([run.evaluations.env_steps for run in runs], limit)
    rows = np.stack([along(steps, run.evaluations.env_steps, values) for listed in tasks for run, values in listed], 1)
    shares = {
        round(float(run.evaluations.agent_steps[-1] / max(1.0, run.evaluations.env_steps[-1])), 4) for run in runs
    }
    seeds = [[run.seed for run, _ in listed] for listed in tasks]
    return {
        name: Line(
            steps,
            _curve(STATISTICS[name], rows, seeds, draws, place),
            shares.copy().pop() if len(shares) == 1 else None,
            len(runs),
        )
        for name in CURVES
    }


def _curve(
    statistic: Statistic, rows: Array, seeds: Sequence[Sequence[str]], draws: Draws, place: tuple[int, ...]
) -> Band:
    """Return the curve of `rows (P, N)` and, where there is no interval, those of single seeds, listed by task."""
    band = statistics.curve(
        statistic,
        rows,
        np.array([len(listed) for listed in seeds]),
        resamples=min(draws.resamples, _CURVE_RESAMPLES),
        generator=draws.generator(*place),
        fewest=FEWEST_RUNS,
    )
    return replace(band, runs=_single(statistic, rows, seeds, _bare(band)))


def _bare(band: Band) -> Counts:
    """Return the points where a band has a value without an interval."""
    return np.flatnonzero(np.isnan(band.low) & ~np.isnan(band.value)).astype(np.int64)


def _single(statistic: Statistic, rows: Array, seeds: Sequence[Sequence[str]], points: Counts) -> Array | None:
    """Return the curves `(P, S)` of single seeds at some points: the statistic over the tasks of a seed's runs.

    A seed that not every task has is left out. None if there are no two curves.
    """
    columns: dict[str, list[int]] = {}
    for column, seed in enumerate(seed for listed in seeds for seed in listed):
        columns.setdefault(seed, []).append(column)
    whole = [places for places in columns.values() if len(places) == len(seeds)]
    sizes = np.ones(len(seeds), np.int64)
    found = np.full((len(rows), len(whole)), np.nan)
    for (number, places), point in product(enumerate(whole), points):
        if not np.isnan(rows[point, places]).any():
            found[point, number] = statistic(rows[point, places], statistics.equal_weights(sizes), sizes)
    kept = found[:, ~np.isnan(found).all(0)]
    return kept if kept.shape[1] > 1 else None


def grid(steps: Sequence[Array], limit: float) -> Array:
    """Return the steps to draw at: those of the evaluations, or some forty of them, up to `limit`."""
    known = np.unique(np.concatenate(steps))
    known = known[known <= limit]
    if len(known) <= _MOST_POINTS:
        return known
    return np.asarray(known[np.unique(np.linspace(0, len(known) - 1, _MOST_POINTS).round().astype(int))])


def along(steps: Array, own: Array, values: Array) -> Array:
    """Return a run's values at `steps`: straight lines between its evaluations, NaN before and after them."""
    return np.interp(steps, own, values, left=np.nan, right=np.nan)


def adaptation(made: Comparison, task: Task, draws: Draws) -> dict[Arm, Band]:
    """Return, by arm, the mean over runs of returns after 0, 1, ... episodes of adaptation; empty for single tasks."""
    found = {}
    for index, arm in enumerate(made.arms):
        runs = [run for run in made.counted(task, arm) if len(run.evaluations.adaptation) > 1]
        shortest = min((len(run.evaluations.adaptation) for run in runs), default=0)
        if runs:
            rows = np.stack([run.evaluations.adaptation[:shortest] for run in runs], 1)
            found[arm] = _curve(statistics.mean, rows, [[run.seed for run in runs]], draws, (6, index))
    return found


Health = dict[Task, dict[str, dict[Arm, tuple[Array, Band]]]]


def health(made: Comparison) -> Health:
    """Return, by task, metric and arm, steps `(P,)` and the mean over runs with its least and greatest, or single runs.

    `aux/NAME/accuracy` of every head is one metric, `accuracy`, so that heads stand side by side.
    """
    found: Health = {}
    for task in made.tasks:
        for arm in made.arms:
            curves: dict[str, list[Array]] = {}
            for run in made.cell(task, arm):
                for key, points in read_health(run).items():
                    curves.setdefault(_shared(key, run), []).append(points)
            for key, listed in curves.items():
                steps = grid([points[0] for points in listed], np.inf)
                rows = np.stack([along(steps, points[0], points[1]) for points in listed])
                found.setdefault(task, {}).setdefault(key, {})[arm] = steps, _spread(rows)
    return found


def _shared(key: str, run: Run) -> str:
    parts = key.split("/")
    several = "+" in run.choice("aux")
    return "/".join(parts[2:]) if parts[0] == "aux" and len(parts) > 2 and not several else key


def _spread(rows: Array) -> Band:
    """Return the mean of `rows (S, P)`, with the least and the greatest where there are runs enough for a band."""
    present = ~np.isnan(rows)
    count = present.sum(0)
    total = np.where(present, rows, 0.0).sum(0)
    mean = np.divide(total, count, out=np.full(rows.shape[1], np.nan), where=count > 0)
    low = np.where(count >= FEWEST_RUNS, np.where(present, rows, np.inf).min(0), np.nan)
    band = Band(mean, low, np.where(count >= FEWEST_RUNS, np.where(present, rows, -np.inf).max(0), np.nan))
    seeds = [[str(number) for number in range(len(rows))]]
    return replace(band, runs=_single(statistics.mean, rows.T, seeds, _bare(band)))


def counts(made: Comparison) -> Mapping[Arm, int]:
    """Return how many runs' scores stand behind each arm's aggregate."""
    return {arm: sum(len(made.counted(task, arm)) for task in made.common) for arm in made.aggregated}
