"""Statistics of runs: against slow twins, against properties, and against rliable where it is installed."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rlrep.commands.evaluate import interquartile_mean
from rlrep.scores import statistics
from rlrep.scores.statistics import STATISTICS, equal_weights, estimate, flatten, resample

Array = NDArray[np.float64]
Tasks = list[list[float]]
FINITE = st.floats(-1e3, 1e3, allow_nan=False, width=32)
RAGGED = st.lists(st.lists(FINITE, min_size=1, max_size=7), min_size=1, max_size=6)


def value(name: str, tasks: Sequence[Sequence[float]]) -> float:
    scores, sizes = flatten(tasks)
    return float(STATISTICS[name](scores, equal_weights(sizes), sizes))


def slow_iqm(tasks: Tasks) -> float:
    """Repeat every run until all tasks have as many, four times over; then cut a quarter off each end."""
    common = int(np.lcm.reduce([len(runs) for runs in tasks]))
    repeated = sorted(run for runs in tasks for run in runs for _ in range(4 * common // len(runs)))
    quarter = len(repeated) // 4
    return float(np.mean(repeated[quarter : len(repeated) - quarter]))


def slow_improvement(first: Tasks, second: Tasks) -> float:
    wins = [np.mean([(x > y) + 0.5 * (x == y) for x in a for y in b]) for a, b in zip(first, second, strict=True)]
    return float(np.mean(wins))


@given(RAGGED)
def test_point_estimates_are_those_of_slow_twins(tasks: Tasks) -> None:
    means = [float(np.mean(runs)) for runs in tasks]
    assert value("mean", tasks) == pytest.approx(np.mean(means), abs=1e-6)
    assert value("median", tasks) == pytest.approx(np.median(means), abs=1e-6)
    assert value("IQM", tasks) == pytest.approx(slow_iqm(tasks), abs=1e-6)
    gap = np.mean([np.mean([1 - min(run, 1.0) for run in runs]) for runs in tasks])
    assert value("optimality gap", tasks) == pytest.approx(gap, abs=1e-6)


@given(st.lists(FINITE, min_size=1, max_size=9))
def test_that_of_episodes_is_the_same(episodes: list[float]) -> None:
    """`rlrep.evaluate` stands a floor below and has its own."""
    assert interquartile_mean(np.array(episodes)) == pytest.approx(value("IQM", [episodes]), abs=1e-6)


@given(RAGGED, st.floats(0.01, 100), st.floats(-100, 100))
def test_statistics_move_with_the_scale(tasks: Tasks, factor: float, shift: float) -> None:
    moved = [[factor * run + shift for run in runs] for runs in tasks]
    for name in ("mean", "median", "IQM"):
        assert value(name, moved) == pytest.approx(factor * value(name, tasks) + shift, rel=1e-6, abs=1e-3)


@given(RAGGED)
def test_order_of_runs_and_tasks_says_nothing(tasks: Tasks) -> None:
    shuffled = [sorted(runs) for runs in tasks[::-1]]
    for name in STATISTICS:
        assert value(name, shuffled) == pytest.approx(value(name, tasks), abs=1e-6)


@given(RAGGED)
def test_iqm_lies_among_the_runs_and_ignores_outliers(tasks: Tasks) -> None:
    everything = [run for runs in tasks for run in runs]
    assert min(everything) - 1e-6 <= value("IQM", tasks) <= max(everything) + 1e-6
    assert value("IQM", [[1.0, 2.0, 3.0, 1e9]]) == pytest.approx(2.5)


@given(RAGGED, st.data())
def test_improvement_is_that_of_a_slow_twin_and_its_complement(first: Tasks, data: st.DataObject) -> None:
    runs = st.lists(st.sampled_from([0.0, 1.0, 2.0]) | FINITE, min_size=1, max_size=5)
    second = data.draw(st.lists(runs, min_size=len(first), max_size=len(first)))
    (x, x_sizes), (y, y_sizes) = flatten(first), flatten(second)
    one, other = (x, equal_weights(x_sizes), x_sizes), (y, equal_weights(y_sizes), y_sizes)
    found = float(statistics.probability_of_improvement(one, other))
    assert found == pytest.approx(slow_improvement(first, second))
    assert float(statistics.probability_of_improvement(other, one)) == pytest.approx(1 - found)


def test_improvement_needs_the_same_tasks() -> None:
    one, two = (flatten(tasks) for tasks in ([[1.0]], [[1.0], [2.0]]))
    with pytest.raises(ValueError, match="same tasks, not 1 and 2"):
        statistics.probability_of_improvement(
            (one[0], equal_weights(one[1]), one[1]), (two[0], equal_weights(two[1]), two[1])
        )


@given(RAGGED, st.lists(FINITE, min_size=1, max_size=5))
def test_profile_is_that_of_a_slow_twin(tasks: Tasks, thresholds: list[float]) -> None:
    scores, sizes = flatten(tasks)
    found = statistics.performance_profile(scores, equal_weights(sizes), np.array(thresholds))
    slow = [np.mean([np.mean([run > threshold for run in runs]) for runs in tasks]) for threshold in thresholds]
    np.testing.assert_allclose(found, slow, atol=1e-12)


@settings(max_examples=20)
@given(RAGGED)
def test_resamples_draw_within_each_task(tasks: Tasks) -> None:
    _, sizes = flatten(tasks)
    weights = resample(sizes, 50, np.random.default_rng(0))
    for part in statistics._slices(sizes):
        np.testing.assert_allclose(weights[:, part].sum(1), 1 / len(sizes))
        counts = weights[:, part] * len(sizes) * (part.stop - part.start)
        np.testing.assert_allclose(counts, counts.round(), atol=1e-9)


def slow_bootstrap(tasks: Tasks, name: str, resamples: int) -> Array:
    draws = np.random.default_rng(1)
    return np.array([value(name, [draws.choice(runs, len(runs)).tolist() for runs in tasks]) for _ in range(resamples)])


@pytest.mark.parametrize("name", STATISTICS)
def test_interval_is_that_of_a_loop_over_resamples(name: str) -> None:
    draws = np.random.default_rng(2)
    tasks = [list(draws.normal(0.5 * task, 0.3, size)) for task, size in enumerate((5, 8, 3))]
    found = estimate(STATISTICS[name], tasks, resamples=20_000, generator=np.random.default_rng(3))
    low, high = np.quantile(slow_bootstrap(tasks, name, 4000), (0.025, 0.975))
    assert found.low == pytest.approx(low, abs=0.03)
    assert found.high == pytest.approx(high, abs=0.03)
    assert found.low is not None and found.high is not None and found.low <= found.value <= found.high


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    draws = np.random.default_rng(4)
    hits = 0
    for trial in range(200):
        tasks = [list(draws.normal(0, 1, 20)) for _ in range(3)]
        found = estimate(statistics.mean, tasks, resamples=400, generator=np.random.default_rng(trial))
        assert found.low is not None and found.high is not None
        hits += found.low <= 0 <= found.high
    assert 0.87 <= hits / 200 <= 0.99


@pytest.mark.parametrize(("tasks", "runs", "least", "most"), [(1, 2, 0.4, 0.6), (3, 3, 0.8, 0.92), (3, 5, 0.88, 0.98)])
def test_interval_of_few_runs_says_more_than_it_knows(tasks: int, runs: int, least: float, most: float) -> None:
    """Why `FEWEST_RUNS` is five: how often the 95 % interval of an IQM over normal runs holds the true one, 0."""
    draws, sizes, hits = np.random.default_rng(5), np.full(tasks, runs), 0
    for _ in range(1000):
        scores = draws.normal(0, 1, tasks * runs)
        low, high = statistics.interval(statistics.interquartile_mean(scores, resample(sizes, 300, draws), sizes))
        hits += bool(low <= 0 <= high)
    assert least < hits / 1000 < most


def test_below_the_fewest_runs_single_ones_stand_for_the_interval() -> None:
    four, five = (
        estimate(
            statistics.optimality_gap,
            [[0.5, 1.5, 0.2, 0.9, 0.7], [0.1, 0.2, 0.3, 0.4, 0.5][:runs]],
            resamples=50,
            generator=np.random.default_rng(0),
            fewest=statistics.FEWEST_RUNS,
        )
        for runs in (4, 5)
    )
    assert (four.low, four.high) == (None, None)
    assert four.runs == pytest.approx((0.5, 0.0, 0.8, 0.1, 0.3, 0.9, 0.8, 0.7, 0.6))
    assert five.low is not None and five.runs == ()


def test_one_run_has_no_interval_and_no_run_no_value() -> None:
    assert estimate(statistics.mean, [[3.0], [5.0]], resamples=10, generator=np.random.default_rng(0)).low is None
    with pytest.raises(ValueError, match="at least one run"):
        flatten([[1.0], []])


def test_curve_counts_the_runs_that_are_there() -> None:
    """Two tasks of two runs; at the second step one run is missing, at the third a whole task."""
    scores = np.array([[1.0, 3.0, 5.0, 7.0], [1.0, np.nan, 5.0, 7.0], [np.nan, np.nan, 5.0, 7.0]])
    draws = np.random.default_rng(0)
    band = statistics.curve(statistics.mean, scores, np.array([2, 2]), resamples=2000, generator=draws)
    np.testing.assert_allclose(band.value[:2], [4.0, 3.5])
    assert np.isnan(band.value[2]) and np.isnan(band.low[2])
    assert band.low[0] == pytest.approx(3.0) and band.high[0] == pytest.approx(5.0)
    assert band.low[1] == pytest.approx(3.0) and band.high[1] == pytest.approx(4.0)


# As rliable has it: matrices of runs by tasks


def trimmed_mean(scores: Array) -> float:
    """rliable's IQM: scipy's `trim_mean(scores, 0.25, axis=None)`."""
    ordered = np.sort(scores, axis=None)
    cut = int(0.25 * ordered.size)
    return float(ordered[cut : ordered.size - cut].mean())


RLIABLE: dict[str, Callable[[Array], float]] = {
    "IQM": trimmed_mean,
    "mean": lambda scores: float(np.mean(np.mean(scores, axis=0))),
    "median": lambda scores: float(np.median(np.mean(scores, axis=0))),
    "optimality gap": lambda scores: float(1.0 - np.mean(np.minimum(scores, 1.0))),
}
"""rliable.metrics, of scores `(runs, tasks)`."""


def rliable_interval(scores: Array, metric: Callable[[Array], float], reps: int) -> Array:
    """rliable's stratified bootstrap: every task's runs drawn anew, by themselves; percentiles."""
    draws, (runs, tasks) = np.random.default_rng(1), scores.shape
    found = [
        metric(np.stack([scores[draws.integers(runs, size=runs), task] for task in range(tasks)], axis=1))
        for _ in range(reps)
    ]
    return np.array([np.percentile(found, share) for share in (2.5, 97.5)], np.float64)


def matrices(runs: int, tasks: int) -> dict[str, Array]:
    """Return scores of two algorithms, whose tasks differ far more than their runs do."""
    draws = np.random.default_rng(7)
    level = draws.gamma(1.0, 1.0, tasks)
    return {name: level * draws.uniform(low, 1.2, (runs, tasks)) for name, low in (("a", 0.6), ("b", 0.3))}


@pytest.mark.parametrize("name", STATISTICS)
@pytest.mark.parametrize(("runs", "tasks"), [(8, 6), (4, 3), (6, 6)])
def test_a_matrix_of_rliables_gives_its_numbers(name: str, runs: int, tasks: int) -> None:
    """Also where there are as many runs as tasks, so that no shape tells them apart."""
    scores = matrices(runs, tasks)
    draws = np.random.default_rng(3)
    found = statistics.interval_estimates(scores, STATISTICS[name], resamples=10_000, generator=draws)
    assert list(found) == list(scores)
    for algorithm, matrix in scores.items():
        ours, metric = found[algorithm], RLIABLE[name]
        assert ours.value == pytest.approx(metric(matrix))
        low, high = rliable_interval(matrix, metric, 3000)
        width = high - low
        assert (ours.low, ours.high) == pytest.approx((low, high), abs=0.12 * width)
        turned = estimate(STATISTICS[name], list(matrix), resamples=10_000, generator=draws)  # rows taken for tasks
        assert turned.low is not None and turned.high is not None
        if name in ("IQM", "mean"):
            assert turned.high - turned.low > 1.5 * width


def test_of_a_single_run_a_dictionary_gives_no_interval_and_below_the_fewest_single_ones() -> None:
    draws = np.random.default_rng(0)
    (one,) = statistics.interval_estimates(
        {"a": np.array([[1.0, 3.0]])}, statistics.mean, resamples=10, generator=draws
    ).values()
    assert (one.value, one.low) == (2.0, None)
    few = statistics.interval_estimates(matrices(4, 2), statistics.mean, resamples=10, generator=draws, fewest=5)
    assert few["a"].low is None and len(few["a"].runs) == 8


def test_profiles_and_improvement_of_matrices_are_rliables() -> None:
    scores = matrices(5, 7)
    (x, x_sizes), (y, y_sizes) = (flatten(statistics.by_task(matrix)) for matrix in scores.values())
    thresholds = np.linspace(0, 2, 9)
    profile = statistics.performance_profile(x, equal_weights(x_sizes), thresholds)
    np.testing.assert_allclose(profile, [np.mean(scores["a"] > threshold) for threshold in thresholds])
    found = statistics.probability_of_improvement(
        (x, equal_weights(x_sizes), x_sizes), (y, equal_weights(y_sizes), y_sizes)
    )
    wins = [np.mean(np.heaviside(a[:, None] - b, 0.5)) for a, b in zip(scores["a"].T, scores["b"].T, strict=True)]
    assert float(found) == pytest.approx(np.mean(wins))


BAD = np.array([[1.0, 2.0], [3.0, np.nan]])
MATRIX: Any = np.zeros((5, 3))


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: statistics.by_task(np.arange(3.0)), r"expected scores \(runs, tasks\), got \(3,\)"),
        (lambda: statistics.by_task(np.zeros((2, 3, 4))), r"got \(2, 3, 4\)"),
        (lambda: statistics.by_task(np.zeros((0, 3))), r"got \(0, 3\)"),
        (lambda: statistics.by_task(BAD), r"1 scores are not finite, the first in row \(run\) 1, column \(task\) 1"),
        (lambda: flatten(MATRIX), r"by_task\(scores\) makes such a list of rliable's matrix"),
        (lambda: flatten({"a": np.zeros((5, 3))}), "interval_estimates takes its dictionary"),  # type: ignore[arg-type]
        (
            lambda: estimate(statistics.mean, MATRIX, resamples=1, generator=np.random.default_rng(0)),
            "expected runs listed by task",
        ),
        (
            lambda: statistics.interval_estimates(
                {"ours": BAD}, statistics.mean, resamples=1, generator=np.random.default_rng(0)
            ),
            "^ours: 1 scores are not finite",
        ),
    ],
)
def test_what_is_no_matrix_of_runs_by_tasks_is_refused_in_one_line(make: Callable[[], Any], line: str) -> None:
    with pytest.raises(ValueError, match=line) as error:
        make()
    assert "\n" not in str(error.value)


def test_rliable_agrees() -> None:
    """With equally many runs, a multiple of four, the definitions are the same."""
    metrics = pytest.importorskip("rliable.metrics", reason="rliable is not installed (pip install rliable 'pandas<3')")
    library = pytest.importorskip("rliable.library")
    draws = np.random.default_rng(5)
    x, y = draws.gamma(2.0, 0.4, (2, 8, 6))  # runs by tasks
    tasks = [list(column) for column in x.T]
    assert value("IQM", tasks) == pytest.approx(metrics.aggregate_iqm(x))
    assert value("mean", tasks) == pytest.approx(metrics.aggregate_mean(x))
    assert value("median", tasks) == pytest.approx(metrics.aggregate_median(x))
    assert value("optimality gap", tasks) == pytest.approx(metrics.aggregate_optimality_gap(x))
    (a, sizes), (b, _) = flatten(tasks), flatten([list(column) for column in y.T])
    weights = equal_weights(sizes)
    found = statistics.probability_of_improvement((a, weights, sizes), (b, weights, sizes))
    assert float(found) == pytest.approx(metrics.probability_of_improvement(x, y))
    thresholds = np.linspace(0, 2, 9)
    profile, _ = library.create_performance_profile({"x": x}, thresholds, reps=10)
    np.testing.assert_allclose(statistics.performance_profile(a, weights, thresholds), profile["x"])
    _, intervals = library.get_interval_estimates({"x": x}, lambda s: np.array([metrics.aggregate_iqm(s)]), reps=5000)
    ours = estimate(statistics.interquartile_mean, tasks, resamples=20_000, generator=np.random.default_rng(6))
    assert (ours.low, ours.high) == pytest.approx(tuple(intervals["x"].ravel()), abs=0.03)
