"""The figure of a study: one panel beside the other, a line per arm, thin lines for single seeds."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rlrep.record.files import replace_picture
from rlrep.scores.figures import SETTINGS, draw_band, draw_legend, look_of, make_panels
from rlrep.scores.statistics import FEWEST_RUNS, Band, curve, mean

from .study import Curves, Panel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DPI = 90
_RESAMPLES = 500


def write_figure(path: Path, panels: Sequence[Panel], curves: Sequence[Curves]) -> None:
    """Write a figure as a PNG. curves: by seed."""
    import matplotlib

    with matplotlib.rc_context(SETTINGS):
        replace_picture(path, draw(panels, curves), dpi=_DPI)


def draw(panels: Sequence[Panel], curves: Sequence[Curves]) -> "Figure":
    """Return the figure: the mean over seeds, with its interval from five seeds on and single seeds below that."""
    figure, axes = make_panels(len(panels))
    names = list(dict.fromkeys(name for lines in curves[0].values() for name in lines))
    for axis, panel in zip(axes, panels, strict=False):
        for name, (x, _) in curves[0][panel.title].items():
            band = band_of([seed[panel.title][name][1] for seed in curves])
            draw_band(axis, np.array(x, np.float64), band, look_of(names.index(name)), name)
        axis.set(title=panel.title, xlabel=panel.x, ylabel=panel.y)
    draw_legend(figure, axes)
    return figure


def band_of(lines: Sequence[Sequence[float]]) -> Band:
    """Return the mean of the seeds' curves, each of P points; below five seeds the curves themselves beside it."""
    rows: NDArray[np.float64] = np.array(lines, np.float64).T
    sizes, random = np.array([rows.shape[1]]), np.random.default_rng(0)
    band = curve(mean, rows, sizes, resamples=_RESAMPLES, generator=random, fewest=FEWEST_RUNS)
    return band if rows.shape[1] >= FEWEST_RUNS or rows.shape[1] == 1 else replace(band, runs=rows)
