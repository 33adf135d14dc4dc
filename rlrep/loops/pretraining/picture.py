"""`pretraining.png`: loss, probes, collapse meters, and the test features in their principal plane."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from rlrep.record.files import replace_picture
from rlrep.record.logs import read_rows
from rlrep.record.sinks import Guard
from rlrep.ssl.data import ImageData
from rlrep.ssl.evaluation import SD, principal_plane

_COLOURS = ("#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed", "#0891b2")
_GREY = "#6b7280"
_SHOWN = 3000
Array = NDArray[Any]


class Picture:
    """Redrawn after every evaluation."""

    def __init__(self, folder: Path, title: str, say: Callable[[str], None]) -> None:
        self._guard = Guard("pretraining.png", say)
        self._folder, self._title = folder, title

    def refresh(self, features: Tensor, data: ImageData) -> None:
        """Draw the logs so far and features `(N, D)` of the images in `data`."""
        self._guard.run(lambda: self._draw(features[:_SHOWN], data))

    def _draw(self, features: Tensor, data: ImageData) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        rows = read_rows(self._folder / "metrics.jsonl")
        figure = Figure(figsize=(11, 7.2), dpi=110, layout="constrained")
        FigureCanvasAgg(figure)
        (loss, probes), (meters, plane) = figure.subplots(2, 2)
        figure.suptitle(self._title, fontsize=10, x=0.01, ha="left")
        _lines(loss, rows, ["train/loss"], "loss")
        scores = [key for key in _keys(rows) if key.startswith("probe/encoder/") and not key.endswith(SD)]
        _lines(probes, rows, scores, "probes of the encoder")
        _references(probes, rows)
        _lines(meters, rows, [f"rep/latent/{name}" for name in ("spread", "correlation", "alignment")], "collapse")
        twin = meters.twinx()
        _lines(twin, rows, ["rep/latent/effective_rank"], "", first=3)
        _scatter(plane, principal_plane(features).cpu().numpy(), data)
        replace_picture(self._folder / "pretraining.png", figure)


def _keys(rows: Sequence[Any]) -> list[str]:
    return list(dict.fromkeys(key for row in rows for key in row))


def _lines(axes: Any, rows: Sequence[Any], keys: Sequence[str], title: str, first: int = 0) -> None:
    for key, colour in zip(keys, (_COLOURS * 4)[first:], strict=False):
        points = [(row["epoch"], row[key]) for row in rows if row.get(key) is not None]
        if points:
            axes.plot(*zip(*points, strict=True), color=colour, linewidth=1.6, label=key.rsplit("/", 1)[1])
    if title:
        axes.set_title(title, fontsize=9, loc="left")
        axes.set_xlabel("epoch", fontsize=8)
        axes.grid(color="#e5e7eb", linewidth=0.8)
    axes.spines[["top"]].set_visible(False)
    if keys and axes.lines:
        axes.legend(frameon=False, fontsize=7, loc="best" if title else "lower right")


def _references(axes: Any, rows: Sequence[Any]) -> None:
    """Draw the linear probes of the untrained encoder and of the pixels as dashed lines."""
    for key in _keys(rows):
        _, _, rest = key.partition("probe/")
        name, _, probe = rest.partition("/")
        if name in ("random", "pixels") and probe in ("linear_accuracy", "linear_macro_f1", "linear_r2"):
            level = next(row[key] for row in rows if key in row)
            if level is not None:
                axes.axhline(level, color=_GREY, linewidth=1, linestyle=(0, (4, 3) if name == "random" else (1, 2)))
                axes.annotate(
                    f"{name} {probe}", (0, level), xytext=(2, 2), textcoords="offset points", fontsize=6, color=_GREY
                )


def _scatter(axes: Any, plane: Array, data: ImageData) -> None:
    """Draw the principal plane, coloured by the first variable."""
    name = next(iter(data.labels), None)
    colours = None if name is None else data.labels[name][: len(plane)].cpu().numpy().astype(np.float64)
    few = colours is not None and len(np.unique(colours)) <= 10
    cmap = None if colours is None else "tab10" if few else "viridis"
    axes.scatter(plane[:, 0], plane[:, 1], s=6, c=colours, cmap=cmap, linewidth=0, alpha=0.8)
    axes.set_title(f"test features, two principal components{f', by {name}' if name else ''}", fontsize=9, loc="left")
    axes.set_xticks([])
    axes.set_yticks([])
