"""`learning_curve.png`: evaluation returns over environment steps."""

import csv
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .files import replace_picture
from .sinks import Guard

_REFRESH_SECONDS = 30.0
_BLUE, _GREY = "#2563eb", "#6b7280"
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Points:
    """Evaluations in order: `steps (E,)` env steps; `mean, low, high (E,)` over episodes; single `returns` at `at`."""

    steps: Array
    mean: Array
    low: Array
    high: Array
    at: Array
    returns: Array


class Curve:
    """Redraws the picture as evaluations come in, at most every half minute.

    references: known returns by name (random, human, optimal).
    """

    def __init__(self, folder: Path, title: str, references: Mapping[str, float], say: Callable[[str], None]) -> None:
        self._guard = Guard("learning_curve.png", say)
        self.path = folder / "learning_curve.png"
        self._table, self._title, self.references = folder / "eval.csv", title, references
        self._drawn = 0.0

    def refresh(self, *, force: bool = False) -> None:
        """Draw, unless that was done a moment ago."""
        if force or time.monotonic() - self._drawn >= _REFRESH_SECONDS:
            self._guard.run(self._draw)
            self._drawn = time.monotonic()

    def best(self) -> tuple[float, float] | None:
        """Return env steps and mean return of the best evaluation so far, None where there is none."""
        points = self._guard.run(lambda: read_points(self._table))
        if points is None:
            return None
        top = int(points.mean.argmax())
        return float(points.steps[top]), float(points.mean[top])

    def _draw(self) -> None:
        points = read_points(self._table)
        if points is not None:
            draw(points, self.path, self._title, self.references)


def read_points(table: Path) -> Points | None:
    """Read an eval.csv; None while it has no rows. Of episodes of adaptation the last ones count."""
    if not table.exists():
        return None
    with open(table, newline="") as file:
        read = list(csv.DictReader(file))
    if not read:
        return None
    most = max(int(row.get("adaptation") or 0) for row in read)
    rows = [(float(r["env_steps"]), float(r["return"])) for r in read if int(r.get("adaptation") or 0) == most]
    at, returns = (np.array(column) for column in zip(*rows, strict=True))
    steps = np.unique(at)
    groups = [returns[at == step] for step in steps]
    low, high = (np.array([np.quantile(group, q) for group in groups]) for q in (0.1, 0.9))
    return Points(steps, np.array([group.mean() for group in groups]), low, high, at, returns)


def draw(points: Points, path: Path, title: str, references: Mapping[str, float]) -> None:
    """Write the picture. references: named horizontal lines (random, human, optimal)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.4), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, level in references.items():
        axes.axhline(level, color=_GREY, linewidth=1, linestyle=(0, (4, 3)))
        axes.annotate(
            name,
            (1, level),
            xycoords=("axes fraction", "data"),
            xytext=(-4, 3),
            textcoords="offset points",
            ha="right",
            color=_GREY,
            fontsize=8,
        )
    axes.fill_between(
        points.steps, points.low, points.high, color=_BLUE, alpha=0.15, linewidth=0, label="10th to 90th percentile"
    )
    axes.scatter(points.at, points.returns, s=8, color=_BLUE, alpha=0.3, linewidth=0, label="episodes")
    axes.plot(points.steps, points.mean, color=_BLUE, linewidth=2, marker="o", markersize=4, label="mean")
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xlabel("environment steps")
    axes.set_ylabel("evaluation return")
    axes.set_xlim(left=0)
    axes.grid(color="#e5e7eb", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="best")
    replace_picture(path, figure)
