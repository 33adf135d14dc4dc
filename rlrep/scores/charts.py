"""The report's interactive charts as plain data, which `web/report.js` draws."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .analysis import Line
from .arms import Arm, Task
from .results import Results
from .statistics import Band, Estimate

Array = NDArray[np.float64]
Chart = dict[str, Any]
HEALTH = (
    "rep/effective_rank",
    "rep/feature_std",
    "accuracy",
    "same_return_rate",
    "false_negative_rate",
    "positive_similarity",
    "negative_similarity",
    "context/task_accuracy",
    "context/effective_rank",
)
"""Metrics shown first, in this order."""
_UNSHOWN = ("context/variance_", "context/task_chance", "loss", "valid", "negatives", "labelled")
_MOST_PANELS = 16


def to_json(arms: Sequence[str], charts: Sequence[Chart]) -> str:
    """Return JSON that may stand inside a `<script>`: no name in it can end that."""
    text = json.dumps({"arms": list(arms), "charts": list(charts)}, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026").replace("\u2028", "\\u2028")


def plain(values: Iterable[float]) -> list[float | None]:
    """Return numbers at four significant digits, None where they are not finite."""
    return [float(f"{value:.4g}") if math.isfinite(value) else None for value in values]


def curves(title: str, unit: str, lines: Mapping[Arm, Mapping[str, Line]], index: Mapping[Arm, int]) -> Chart:
    """Return a chart of curves over steps, with IQM and mean to choose between."""
    series = [
        {
            "arm": index[arm],
            "share": next(iter(found.values())).agent_share,
            "stats": {name: _line(line.steps, line.band) for name, line in found.items()},
        }
        for arm, found in lines.items()
    ]
    return {"type": "lines", "title": title, "y": unit, "steps": True, "zero": True, "series": series}


def bands(
    title: str, x: str, unit: str, found: Mapping[Arm, tuple[Array, Band]], index: Mapping[Arm, int], *, steps: bool
) -> Chart:
    """Return a chart of one statistic. steps: whether x counts env steps."""
    series = [
        {"arm": index[arm], "share": None, "stats": {"mean": _line(at, band)}} for arm, (at, band) in found.items()
    ]
    return {"type": "lines", "title": title, "x": x, "y": unit, "steps": False, "zero": steps, "series": series}


def _line(x: Array, band: Band) -> dict[str, Any]:
    """Return a curve; `lo` and `hi` only where it has an interval, `runs` only where it has none."""
    found: dict[str, Any] = {"x": [float(f"{value:.7g}") for value in x], "y": plain(band.value)}
    if not np.isnan(band.low).all():
        found |= {"lo": plain(band.low), "hi": plain(band.high)}
    return found if band.runs is None else found | {"runs": [plain(run) for run in band.runs.T]}


def statistic(results: Results, name: str, index: Mapping[Arm, int]) -> Chart:
    """Return one statistic by arm, with its interval or single runs, final and best to choose between."""
    names = results.made.names
    rows = {
        kind: [_row([index[arm]], names[arm], value) for arm, value in found[name].items()]
        for kind, found in results.aggregates.items()
    }
    title = f"{name} of the {results.made.scale}"
    return {"type": "rows", "title": title, "x": title, "rows": rows}


def improvement(results: Results, index: Mapping[Arm, int]) -> Chart:
    """Return P(X > Y) of the pairs."""
    names = results.made.names
    rows = [
        _row([index[pair.first], index[pair.second]], names[pair.first], pair.probability)
        | {"over": f"> {names[pair.second]}"}
        for pair in results.pairs
    ]
    chart = {"type": "rows", "title": "Probability of improvement", "x": "P(X > Y), final scores", "middle": 0.5}
    return {**chart, "range": [0, 1], "rows": {"final": rows, "best": rows}}


def _row(arms: list[int], label: str, value: Estimate) -> dict[str, Any]:
    """Return a row of dots; `lo` and `hi` only where it has an interval, `runs` only where it has none."""
    found: dict[str, Any] = {"arms": arms, "label": label, "v": float(f"{value.value:.7g}")}
    if value.low is not None and value.high is not None:
        found |= {"lo": float(f"{value.low:.7g}"), "hi": float(f"{value.high:.7g}")}
    return found | ({"runs": plain(value.runs)} if value.runs else {})


def health(results: Results, task: Task, index: Mapping[Arm, int]) -> list[Chart]:
    """Return the charts of representation health and label quality on a task, the telling ones first."""
    found = results.health.get(task, {})
    keys = [key for key in HEALTH if key in found]
    keys += sorted(key for key in found if key not in HEALTH and not key.rpartition("/")[2].startswith(_BARE))
    return [
        bands(key.replace("_", " "), "env steps", "", found[key], index, steps=True)
        for key in keys[:_MOST_PANELS]
        if not key.startswith(_UNSHOWN)
    ]


_BARE = tuple(name.rpartition("/")[2] for name in _UNSHOWN)
