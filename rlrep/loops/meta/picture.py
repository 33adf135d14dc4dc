"""`adaptation.png`: return by episodes of adaptation. `latents.png`: beliefs about tasks, and their certainty."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rlrep.contract.env import Array, Task
from rlrep.record.files import replace_picture
from rlrep.record.sinks import Guard

from .health import Health

_BLUE = "#2563eb"
Rows = Sequence[Mapping[str, float | str | None]]


class Pictures:
    """Draws both anew at every evaluation; a failure to draw warns once and stops nothing."""

    def __init__(self, folder: Path, title: str, say: Callable[[str], None]) -> None:
        self._folder, self._title = folder, title
        self._guards = {name: Guard(name, say) for name in ("adaptation.png", "latents.png")}

    def draw(self, rows: Rows, health: Health | None, tasks: Sequence[Task]) -> None:
        """Draw an evaluation's rows, and what is known of the beliefs, if there are any."""
        path = self._folder / "adaptation.png"
        self._guards[path.name].run(lambda: draw_adaptation(rows, path, self._title))
        if health is not None:
            other = self._folder / "latents.png"
            self._guards[other.name].run(lambda: draw_latents(health, tasks, other, self._title))


def by_adaptation(rows: Rows, key: str) -> tuple[Array, Array, Array]:
    """Return episodes of adaptation `(K,)`, and `key` there: the mean over tasks `(K,)` and each task's `(K, T)`."""
    known = np.unique([int(str(row["adaptation"])) for row in rows])
    each = []
    for count in known:
        tasks: dict[str, list[float]] = {}
        for row in rows:
            if int(str(row["adaptation"])) == count:
                tasks.setdefault(str(row["task"]), []).append(float(str(row[key])))
        each.append([np.mean(tasks[name]) for name in sorted(tasks)])
    return known, np.mean(each, axis=1), np.array(each)


def draw_adaptation(rows: Rows, path: Path, title: str) -> None:
    """Draw returns, and success where there is such a thing, over episodes of adaptation."""
    keys = ["return"] + (["success"] if rows[0]["success"] is not None else [])
    figure, panels = _figure(len(keys))
    for axes, key in zip(panels, keys, strict=True):
        known, mean, each = by_adaptation(rows, key)
        axes.plot(known, each, color=_BLUE, linewidth=0.7, alpha=0.3)
        axes.plot(known, mean, color=_BLUE, marker="o", label="mean over tasks; thin: single tasks")
        axes.set(xlabel="episodes of the task before", ylabel=key, xticks=known)
        axes.legend(frameon=False, fontsize=8)
    panels[0].set_title(title, fontsize=9, loc="left")
    replace_picture(path, figure)


def draw_latents(health: Health, tasks: Sequence[Task], path: Path, title: str) -> None:
    """Draw the two principal directions of mean beliefs coloured by task, and variance by number of transitions."""
    figure, (left, right) = _figure(2)
    centred = health.means - health.means.mean(0)
    directions = np.linalg.svd(centred, full_matrices=False)[2][:2]
    flat = np.pad(centred @ directions.T, ((0, 0), (0, max(0, 2 - len(directions)))))
    values = [task.vector for task in tasks]
    single = len(values[0]) == 1
    colour = np.array([value[0] for value in values])[health.tasks] if single else health.tasks % 20
    points = left.scatter(flat[:, 0], flat[:, 1], c=colour, cmap="viridis" if single else "tab20", s=10, linewidth=0)
    if single:
        figure.colorbar(points, ax=left, label="task parameter")
    left.set(xlabel="first principal direction", ylabel="second")
    accuracy, chance = health.metrics["context/task_accuracy"], health.metrics["context/task_chance"]
    left.set_title(
        f"{title}\nlinear probe names the task: {accuracy:.0%} (chance {chance:.0%})", fontsize=8, loc="left"
    )
    right.plot(list(health.variance), list(health.variance.values()), color=_BLUE, marker="o")
    right.set(xscale="log", yscale="log", xlabel="transitions in the context", ylabel="posterior variance")
    replace_picture(path, figure)


def _figure(panels: int) -> tuple[Any, list[Any]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2 * panels, 4.0), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    made = list(figure.subplots(1, panels, squeeze=False)[0])
    for axes in made:
        axes.grid(color="#e5e7eb", linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_axisbelow(True)
    return figure, made
