"""The report's figures for papers: PNG and PDF."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rlrep.record.files import replace_picture

from .analysis import Line, shortest
from .arms import Arm
from .files import clear
from .results import Results, arm_names
from .statistics import Band, Estimate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
Looks = Mapping[Arm, dict[str, str]]
COLOURS = ("#5b6470", "#d98e04", "#0072b2", "#d55e00", "#009e73", "#b5578f", "#3d9bd6", "#86861f")
"""After Okabe and Ito (2008): told apart by colour-blind readers; `web/report.css` has the same."""
_STYLES = ("-", "--", ":", "-.")
SETTINGS: Any = {
    "text.parse_math": False,  # names are not formulas
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e5e7eb",
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "pdf.fonttype": 42,
}
_NAMES = ("curves", "tasks", "aggregates", "profiles", "improvement", "adaptation")
_COLUMNS = 4
_MOST_TASKS = 40


def write_figures(folder: Path, results: Sequence[Results]) -> None:
    """Write every figure of every comparison as `NN-NAME.png` and `.pdf`, NN the comparison's number."""
    import matplotlib

    clear(folder, rf"\d\d+-({'|'.join(_NAMES)})\.(png|pdf)")
    names = arm_names(results)
    with matplotlib.rc_context(SETTINGS):
        for number, found in enumerate(results, start=1):
            for name, figure in draw(found, names):
                for kind in ("png", "pdf"):
                    replace_picture(folder / f"{number:02d}-{name}.{kind}", figure, dpi=150)


def draw(found: Results, names: Sequence[str]) -> Iterator[tuple[str, "Figure"]]:
    """Yield the figures of a comparison by name, as far as it has what they show. names: of all arms, by colour."""
    look = {arm: look_of(names.index(name)) for arm, name in found.made.names.items()}
    made, unit = found.made, found.made.scale
    if found.curves:
        title = f"{len(made.common)} tasks" + (", as far as the shortest goes" if shortest(made) else "")
        yield "curves", _curves({title: (unit, found.curves)}, found, look)
    yield (
        "tasks",
        _curves({task.name: (task.unit, found.task_curves[task]) for task in made.tasks[:_MOST_TASKS]}, found, look),
    )
    if made.aggregated:
        yield "aggregates", _aggregates(found, look)
    if len(made.aggregated) > 1:
        yield "profiles", _profiles(found, look, unit)
    if found.pairs:
        yield "improvement", _improvement(found, look)
    if found.adaptation:
        yield "adaptation", _adaptation(found, look)


def _curves(
    panels: Mapping[str, tuple[str, Mapping[Arm, Mapping[str, Line]]]], found: Results, look: Looks
) -> "Figure":
    """Draw IQM with its interval or single seeds, one panel each."""
    from matplotlib.ticker import EngFormatter

    figure, axes = make_panels(len(panels))
    for panel, (title, (unit, lines)) in zip(axes, panels.items(), strict=False):
        for arm, named in lines.items():
            draw_band(panel, named["IQM"].steps, named["IQM"].band, look[arm], found.made.names[arm])
        panel.xaxis.set_major_formatter(EngFormatter(sep=""))
        panel.set(title=plain(title), xlabel="env steps", ylabel=f"IQM of the {unit}", xlim=(0, None))
    draw_legend(figure, axes)
    return figure


def _aggregates(found: Results, look: Looks) -> "Figure":
    statistics = found.aggregates["final"]
    figure, axes = make_panels(len(statistics), columns=len(statistics), height=0.9 + 0.35 * len(found.made.aggregated))
    for panel, (name, values) in zip(axes, statistics.items(), strict=False):
        _dots(panel, [(plain(found.made.names[arm]), value, look[arm]) for arm, value in values.items()])
        panel.set(title=name, xlabel=found.made.scale)
    for panel in axes[1:]:
        panel.set_yticklabels([])
    return figure


def _profiles(found: Results, look: Looks, unit: str) -> "Figure":
    figure, axes = make_panels(1, height=3.2)
    for arm, band in found.profiles.items():
        draw_band(axes[0], found.thresholds, band, look[arm], found.made.names[arm])
    axes[0].set(xlabel=f"{unit} τ", ylabel="share of runs above τ", ylim=(0, 1.02))
    draw_legend(figure, axes)
    return figure


def _improvement(found: Results, look: Looks) -> "Figure":
    names = found.made.names
    figure, axes = make_panels(1, height=0.9 + 0.35 * len(found.pairs))
    rows = [(f"{plain(names[p.first])} > {plain(names[p.second])}", p.probability, look[p.first]) for p in found.pairs]
    figure.set_figwidth(3.3 + 0.08 * max(len(name) for name, *_ in rows))
    _dots(axes[0], rows)
    axes[0].axvline(0.5, color="#6b7280", linewidth=1)
    axes[0].set(xlabel="P(X > Y), final scores", xlim=(-0.02, 1.02))
    return figure


def _adaptation(found: Results, look: Looks) -> "Figure":
    figure, axes = make_panels(len(found.adaptation))
    for panel, (task, bands) in zip(axes, found.adaptation.items(), strict=False):
        for arm, band in bands.items():
            draw_band(panel, np.arange(len(band.value), dtype=np.float64), band, look[arm], found.made.names[arm])
        panel.xaxis.get_major_locator().set_params(integer=True)
        panel.set(title=plain(task.name), xlabel="episodes of the task before", ylabel="return")
    draw_legend(figure, axes)
    return figure


def make_panels(count: int, *, columns: int = _COLUMNS, height: float = 2.6) -> "tuple[Figure, list[Any]]":
    """Return a figure of `count` panels, `columns` of them side by side, each `height` inches high."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    wide = min(columns, count)
    rows = math.ceil(count / wide)
    figure = Figure(figsize=(max(3.3 * wide, 4.6), height * rows + 0.5))
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(rows, wide, squeeze=False).ravel())
    for empty in axes[count:]:
        empty.set_visible(False)
    return figure, axes


def draw_band(panel: Any, x: Array, band: Band, look: dict[str, str], name: str) -> None:
    """Draw a curve over x `(P,)` into a panel, with its interval or the curves of single runs."""
    if not np.isnan(band.low).all():
        panel.fill_between(x, band.low, band.high, color=look["color"], alpha=0.15, linewidth=0)
    if band.runs is not None:
        panel.plot(x, band.runs, color=look["color"], alpha=0.45, linewidth=0.7)
    panel.plot(x, band.value, linewidth=1.8, label=plain(name), **look)


def _dots(panel: Any, rows: Sequence[tuple[str, Estimate, dict[str, str]]]) -> None:
    for place, (_, value, look) in enumerate(rows):
        if value.low is not None:
            panel.plot(
                [value.low, value.high],
                [place, place],
                color=look["color"],
                linewidth=5,
                alpha=0.4,
                solid_capstyle="butt",
            )
        panel.plot(value.runs, [place] * len(value.runs), "o", color=look["color"], markersize=3, alpha=0.4)
        panel.plot([value.value], [place], "o", color=look["color"])
    panel.set_yticks(range(len(rows)), [name for name, *_ in rows])
    panel.set_ylim(len(rows) - 0.5, -0.5)


def draw_legend(figure: "Figure", panels: Sequence[Any]) -> None:
    """Put the legend below all panels, in as many columns as fit, and make room for its rows."""
    named = {name: line for panel in panels for line, name in zip(*panel.get_legend_handles_labels(), strict=True)}
    if named:
        width, height = figure.get_size_inches()
        fit = int(width / (0.6 + 0.07 * max(map(len, named))))
        columns = min(4, len(named), max(1, fit))
        figure.set_figheight(height + 0.17 * (math.ceil(len(named) / columns) - 1))
        figure.legend(list(named.values()), list(named), loc="outside lower center", ncols=columns, fontsize=8)


def look_of(number: int) -> dict[str, str]:
    """Return colour and style of the curve of this place among all names."""
    style = _STYLES[number // len(COLOURS) % len(_STYLES)]
    return {"color": COLOURS[number % len(COLOURS)], "linestyle": style}


def plain(name: str) -> str:
    """Return a name without control characters, and not endless."""
    printable = "".join(letter for letter in name if letter.isprintable())
    return printable if len(printable) <= 60 else printable[:59] + "…"
