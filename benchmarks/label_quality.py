"""How good the labels of return contrast are while an agent learns: from the metrics of finished runs."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from .grid import Run
from .learning import COLOURS

QUALITY = {
    "same_return_rate": "positives that share the return",
    "false_negative_rate": "negatives that share the return",
    "segment_length": "agent steps in a segment",
}
HEAD = "aux/return_contrast"


def read_quality(run: Run, work: Path) -> dict[str, list[float]]:
    """Return agent steps and the label quality there, empty lists if the run has no such head."""
    path = run.folder(work) / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    rows = [row for row in rows if f"{HEAD}/same_return_rate" in row]
    found = {key: [round(float(row[f"{HEAD}/{key}"]), 4) for row in rows] for key in (*QUALITY, "accuracy")}
    return {"agent_steps": [row["agent_steps"] for row in rows], **found}


def label_quality(runs: Sequence[Run], work: Path, path: Path) -> Mapping[str, object]:
    """Return the label quality of every run with return contrast, finished or not, by task, and draw it to `path`."""
    found = {f"{run.task} seed {run.seed}": read_quality(run, work) for run in runs}
    found = {name: quality for name, quality in found.items() if quality["agent_steps"]}
    if found:
        draw(found, path)
    return {"label_quality": found}


def draw(found: Mapping[str, Mapping[str, Sequence[float]]], path: Path) -> None:
    """Draw one panel per measure, one line per run."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6 * len(QUALITY), 3.8), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (key, label) in zip(figure.subplots(1, len(QUALITY)), QUALITY.items(), strict=True):
        for colour, (name, quality) in zip(COLOURS, found.items(), strict=False):
            axes.plot(quality["agent_steps"], quality[key], color=colour, label=name)
        axes.set(xlabel="agent steps", ylabel=label, ylim=(0, None))
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8)
    figure.savefig(path)
