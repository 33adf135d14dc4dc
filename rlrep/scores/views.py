"""What the page's template shows of one comparison, as plain texts, numbers and charts."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from . import charts
from .analysis import counts, shortest
from .arms import Arm, Task, settings_of
from .charts import Chart
from .comparison import raw
from .films import Film
from .published import Published
from .results import Results, ranged, written
from .statistics import FEWEST_RUNS, Estimate

View = dict[str, Any]
_MOST_METHODS = 60
_MOST_VALUES = 6
_TOLD_VERSIONS = ("packages", "simulators", "python", "platform", "git", "device", "threads")


@dataclass
class Canvas:
    """The page under way: `names` of all arms, each with one place in legend and palette, and all `charts`."""

    names: list[str]
    charts: list[Chart] = field(default_factory=list)

    def index(self, results: Results) -> dict[Arm, int]:
        """Return the arms' places; an arm of the same name in another comparison has the same one."""
        return {arm: self.names.index(name) for arm, name in results.made.names.items()}

    def place(self, chart: Chart) -> View:
        """Add a chart and return what its place on the page needs."""
        self.charts.append(chart)
        return {"number": len(self.charts) - 1, "title": chart["title"]}


def comparison(canvas: Canvas, results: Results, films: Sequence[Film]) -> View:
    """Return the view of one comparison, its parts in the order of the page; those without content are falsy."""
    index, made = canvas.index(results), results.made
    return {
        "title": made.title,
        "summary": _summary(results),
        "caveats": results.caveats,
        "arms": [{"name": name, "arm": index[arm]} for arm, name in made.names.items()],
        "headline": _headline(canvas, results, index) if made.aggregated else None,
        "tasks": [_task(results, task, index) for task in made.tasks],
        "task_charts": [_task_chart(canvas, results, task, index) for task in made.tasks if results.curves],
        "spread": results.spread,
        "versus": _versus(canvas, results, index) if len(made.aggregated) > 1 else None,
        "adaptation": [canvas.place(chart) for chart in _adaptation(results, index)],
        "health": [_health(canvas, results, task, index) for task in made.tasks if results.health.get(task)],
        "published": _published(results, index) if results.published else None,
        "publishable": any(task.normalised for task in made.tasks),
        "films": [_film(results, film, index) for film in films],
        "differences": list(_differences(results, index)) if len(made.arms) > 1 else [],
        "versions": _versions(results),
    }


def number(value: float) -> str:
    """Return a number at three significant digits or to the unit, whichever says more."""
    size = abs(value)
    digits = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3
    return f"{value:,.{digits}f}"


def _summary(results: Results) -> str:
    made = results.made
    done = sum(run.evaluations.final for run in made.runs)
    counted = [run for task in made.tasks for arm in made.arms for run in made.counted(task, arm)]
    env_steps, agent_steps = (
        _range([run.evaluations.env_steps[-1] for run in counted]),
        _range([run.evaluations.agent_steps[-1] for run in counted]),
    )
    return (
        f"{_count(len(made.tasks), 'task')} × {_count(len(made.arms), 'arm')}, {_count(len(made.runs), 'run')}, "
        f"{done} of them finished. Scores at {env_steps} env steps ({agent_steps} agent steps)."
    )


def _range(steps: Sequence[float]) -> str:
    low, high = (int(bound(steps, default=0)) for bound in (min, max))
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _count(number_of: int, noun: str) -> str:
    return f"{number_of:,} {noun}{'s' * (number_of != 1)}"


def _headline(canvas: Canvas, results: Results, index: Mapping[Arm, int]) -> View:
    made, unit = results.made, results.made.scale
    if results.curves:
        end = shortest(made)
        note = f", up to {end:,.0f} env steps, where the shortest task ends" if end else ""
        curve = charts.curves(f"{len(made.common)} tasks: {unit}{note}", unit, results.curves, index)
    else:
        (task,) = made.common[:1]
        curve = charts.curves(f"{task.name}: {task.unit}", task.unit, results.task_curves[task], index)
    names, runs = list(results.aggregates["final"]), counts(made)
    rows = [
        {
            "name": made.names[arm],
            "arm": index[arm],
            "runs": {kind: ranged(runs[arm], found["IQM"][arm], number) for kind, found in results.aggregates.items()},
            "cells": [{kind: _alone(found[name][arm]) for kind, found in results.aggregates.items()} for name in names],
        }
        for arm in made.aggregated
    ]
    shown = [canvas.place(curve), canvas.place(charts.statistic(results, "IQM", index))]
    return {"over": _count(len(made.common), "task"), "unit": unit, "names": names, "rows": rows, "charts": shown}


def _value(found: Estimate) -> str:
    return written(found, number)


def _alone(found: Estimate) -> str:
    return _value(replace(found, runs=()))


def _task(results: Results, task: Task, index: Mapping[Arm, int]) -> View:
    cells = []
    for arm in results.made.arms:
        found = results.per_task.get(task, {}).get(arm)
        counted = len(results.made.counted(task, arm))
        waiting = len(results.made.cell(task, arm)) - counted
        notes = [_count(counted, "run")] * (counted > 0) + [f"{waiting} under way"] * (waiting > 0)
        values = {kind: _value(value) for kind, value in found.items()} if found else {"final": "–", "best": "–"}
        cells.append({"arm": index[arm], "note": ", ".join(notes), **values})
    return {"name": task.name, "cells": cells}


def _task_chart(canvas: Canvas, results: Results, task: Task, index: Mapping[Arm, int]) -> View:
    return canvas.place(charts.curves(task.name, task.unit, results.task_curves[task], index))


def _versus(canvas: Canvas, results: Results, index: Mapping[Arm, int]) -> View:
    made, unit = results.made, results.made.scale
    found = {arm: (results.thresholds, band) for arm, band in results.profiles.items()}
    profile = charts.bands(
        "Performance profile, final scores", f"{unit} τ", "share of runs above τ", found, index, steps=False
    )
    more = [name for name in results.aggregates["final"] if name != "IQM"]
    shown = [{**profile, "range": [0, 1.02]}] + ([charts.improvement(results, index)] if results.pairs else [])
    apart = [made.names[arm] for arm in made.aggregated if made.fewest(arm) < FEWEST_RUNS]
    return {
        "charts": [canvas.place(chart) for chart in shown],
        "apart": ", ".join(apart),
        "more": ", ".join(more),
        "more_charts": [canvas.place(charts.statistic(results, name, index)) for name in more],
    }


def _adaptation(results: Results, index: Mapping[Arm, int]) -> Iterator[Chart]:
    for task, found in results.adaptation.items():
        bands = {arm: (np.arange(len(band.value), dtype=np.float64), band) for arm, band in found.items()}
        made = charts.bands(task.name, "episodes of the task before", "return", bands, index, steps=False)
        yield made | {"whole": True}


def _health(canvas: Canvas, results: Results, task: Task, index: Mapping[Arm, int]) -> View:
    returns = charts.curves(f"{task.name}: {task.unit}", task.unit, results.task_curves[task], index)
    shown = [returns, *charts.health(results, task, index)]
    return {"name": task.name, "charts": [canvas.place(chart) for chart in shown]}


def _published(results: Results, index: Mapping[Arm, int]) -> View:
    made = results.made
    tasks = [task for task in made.tasks if task in results.published]
    methods: dict[str, dict[Task, Published]] = {}
    for task in tasks:
        for entry in results.published[task]:
            methods.setdefault(entry.method, {})[task] = entry
    rows = [
        {
            "name": made.names[arm],
            "arm": index[arm],
            "cells": list(_ours(results, arm, tasks)),
            "source": "these runs, final",
        }
        for arm in made.arms
    ]
    for method, found in list(methods.items())[:_MOST_METHODS]:
        first = next(iter(found.values()))
        counts = sorted({one.runs for one in found.values() if one.runs})
        runs = f"; {' to '.join(map(str, dict.fromkeys((counts[0], counts[-1]))))} runs" if counts else ""
        cells = [_printed(one) if (one := found.get(task)) else "–" for task in tasks]
        rows.append({"name": method, "arm": None, "cells": cells, "source": f"{first.source}; {first.reported}{runs}"})
    steps = {task: f"{results.published[task][0].env_steps:,} env steps" for task in tasks}
    alike = len(set(steps.values())) == 1
    return {
        "when": steps[tasks[0]] if alike else "the env steps of each column",
        "tasks": [task.name if alike else f"{task.name}, {steps[task]}" for task in tasks],
        "rows": rows,
        "methods": len(methods),
    }


def _ours(results: Results, arm: Arm, tasks: Sequence[Task]) -> Iterator[str]:
    for task in tasks:
        values = [float(raw(task, run)[-1]) for run in results.made.counted(task, arm)]
        if len(values) >= FEWEST_RUNS:
            yield f"{number(float(np.mean(values)))} ± {number(float(np.std(values, ddof=1)))}"
        elif values:
            yield _value(Estimate(float(np.mean(values)), runs=tuple(values) if len(values) > 1 else ()))
        else:
            yield "–"


def _printed(entry: Published) -> str:
    """Return a published mean, with its standard deviation where that is known to be over runs enough."""
    spread = entry.std is not None and (entry.runs or 0) >= FEWEST_RUNS
    return number(entry.mean) + (f" ± {number(entry.std)}" if spread and entry.std is not None else "")


def _film(results: Results, film: Film, index: Mapping[Arm, int]) -> View:
    return {
        "title": f"{results.made.names[film.arm]}, {film.task.name}, seed {film.seed}",
        "arm": index[film.arm],
        "address": film.address,
        "name": film.name,
        "animated": film.animated,
        "inside": film.address.startswith("data:"),
    }


def _differences(results: Results, index: Mapping[Arm, int]) -> Iterator[View]:
    """Yield the options that differ between two arms on one task, with each arm's values."""
    made = results.made
    values: dict[str, dict[Arm, set[str]]] = {}
    telling: set[str] = set()
    for task in made.tasks:
        here: dict[str, set[tuple[str, ...]]] = {}
        present = [arm for arm in made.arms if made.cell(task, arm)]
        listed = {arm: [settings_of(run) for run in made.cell(task, arm)] for arm in present}
        for key in {key for found in listed.values() for settings in found for key in settings}:
            for arm, found in listed.items():
                seen = {settings[key] for settings in found if key in settings}
                values.setdefault(key, {}).setdefault(arm, set()).update(seen)
                here.setdefault(key, set()).add(tuple(sorted(seen)))
        telling |= {key for key, found in here.items() if len(found) > 1}
    for key in sorted(telling):
        cells = [
            {"arm": index[arm], "text": ", ".join(sorted(values[key].get(arm, ()))[:_MOST_VALUES]) or "–"}
            for arm in made.arms
        ]
        yield {"key": key, "cells": cells}


def _versions(results: Results) -> View:
    counted: dict[str, dict[str, int]] = {}
    for run in results.made.runs:
        for key, value in run.versions.items():
            if key.partition(".")[0] in _TOLD_VERSIONS:
                seen = counted.setdefault(key, {})
                seen[value] = seen.get(value, 0) + 1
    rows = []
    for key, seen in counted.items():
        first = sorted(seen.items(), key=lambda item: -item[1])[:_MOST_VALUES]
        several = "; ".join(f"{value} ({_count(runs, 'run')})" for value, runs in first)
        rows.append({"key": key, "text": several if len(seen) > 1 else first[0][0]})
    differing = sum(len(seen) > 1 for seen in counted.values())
    return {"rows": rows, "summary": f"{differing} differ between runs" if differing else "the same in all runs"}
