"""The sections of one comparison's part of the page."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Protocol

import numpy as np

from . import charts
from .arms import Arm, Task, settings_of
from .charts import Chart
from .comparison import SCALES, raw
from .films import Film
from .published import Published
from .results import Results
from .statistics import Estimate

_MOST_METHODS = 60
_UNTOLD = ("_target_",)


class Canvas(Protocol):
    """What a section needs of the page."""

    def index(self, results: Results) -> dict[Arm, int]: ...
    def figure(self, chart: Chart, *, plain: bool = False) -> str: ...
    def group(self) -> int: ...


def comparison(page: Canvas, number: int, results: Results, films: Sequence[Film]) -> str:
    """Return the part of the page about one comparison: doubts first, then the headline, then everything else."""
    index = page.index(results)
    made = results.made
    done = sum(run.evaluations.final for run in made.runs)
    what = f"{_count(len(made.tasks), 'task')} × {_count(len(made.arms), 'arm')}, {_count(len(made.runs), 'run')}"
    parts = [
        f'<section><h2 id="c{number}">{escape(made.title)}</h2>',
        f'<p class="soft">{what}, {done} of them finished. {escape(_steps(results))}</p>',
        _caveats(results.caveats),
        _headline(page, results, index),
        _tasks(page, results, index),
        _comparing(page, results, index),
        _adaptation(page, results, index),
        _health(page, results, index),
        _published(results),
        _films(films, index, results),
        _differences(results, index),
        _versions(results),
    ]
    return "".join(parts) + "</section>"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _steps(results: Results) -> str:
    made = results.made
    ends = {
        (int(run.evaluations.env_steps[-1]), int(run.evaluations.agent_steps[-1]))
        for task in made.tasks
        for arm in made.arms
        for run in made.counted(task, arm)
    }
    if len(ends) == 1:
        env_steps, agent_steps = ends.pop()
        return f"Scores at {env_steps:,} env steps ({agent_steps:,} agent steps)."
    env_steps, agent_steps = (sorted({end[k] for end in ends}) for k in (0, 1))
    if not ends:
        return ""
    return f"Scores at {_range(env_steps)} env steps ({_range(agent_steps)} agent steps)."


def _range(steps: Sequence[int]) -> str:
    return f"{steps[0]:,}" if len(steps) == 1 else f"{steps[0]:,} to {steps[-1]:,}"


def _caveats(lines: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f'<div class="caveats" role="note"><ul>{items}</ul></div>' if lines else ""


def _headline(page: Canvas, results: Results, index: Mapping[Arm, int]) -> str:
    made = results.made
    if not made.aggregated:
        return ""
    unit = SCALES[made.scale]
    if results.curves:
        title = f"All {len(made.common)} tasks: {unit}"
        shown = page.figure(charts.curves(title, unit, results.curves, index))
    else:
        (task,) = made.common
        shown = page.figure(charts.curves(f"{task.name}: {_unit(task)}", _unit(task), results.task_curves[task], index))
    names = list(results.aggregates["final"])
    head = ["arm", "runs", *names]
    runs = {arm: sum(len(made.counted(task, arm)) for task in made.common) for arm in made.aggregated}
    rows = []
    for arm in made.aggregated:
        cells = [
            "".join(
                f'<span class="{kind}">{_value(results.aggregates[kind][name][arm])}</span>'
                for kind in ("final", "best")
            )
            for name in names
        ]
        rows.append(_row([_key(made.names[arm], index[arm]), str(runs[arm]), *cells], index[arm]))
    over = f"over {_count(len(made.common), 'task')}"
    return (
        f"<h3>Scores {over}</h3><div class='grid wide'>{shown}{page.figure(charts.statistic(results, 'IQM', index))}</div>"
        f"{_table(head, rows)}<p class='soft'>{escape(unit)}, {over}; "
        "<span class='final'>final evaluations</span><span class='best'>best evaluations of training</span>.</p>"
    )


def _tasks(page: Canvas, results: Results, index: Mapping[Arm, int]) -> str:
    made = results.made
    head = [f"<th{_arm(index[arm])}>{_key(name, index[arm])}</th>" for arm, name in made.names.items()]
    rows = []
    for task in made.tasks:
        cells = [_task_cell(results, task, arm, index[arm]) for arm in made.arms]
        rows.append(f"<tr><td>{escape(task.name)}</td>{''.join(cells)}</tr>")
    table = f"<div class='scroll'><table><thead><tr><th>task</th>{''.join(head)}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    shown = "".join(
        page.figure(charts.curves(task.name, _unit(task), results.task_curves[task], index))
        for task in made.tasks
        if results.curves
    )
    return f"<h3>By task</h3><p class='soft'>Mean over runs [95 % interval], each task in its own unit; how many runs.</p>{table}<div class='grid'>{shown}</div>"


def _task_cell(results: Results, task: Task, arm: Arm, number: int) -> str:
    found = results.per_task.get(task, {}).get(arm)
    waiting = len(results.made.cell(task, arm)) - len(results.made.counted(task, arm))
    note = f", {waiting} under way" * (waiting > 0)
    if found is None:
        return f"<td{_arm(number)}>–<small>{note.lstrip(', ')}</small></td>"
    runs = len(results.made.counted(task, arm))
    values = "".join(f'<span class="{kind}">{_value(found[kind])}</span>' for kind in ("final", "best"))
    return f"<td{_arm(number)}>{values}<small>{_count(runs, 'run')}{note}</small></td>"


def _comparing(page: Canvas, results: Results, index: Mapping[Arm, int]) -> str:
    if not results.pairs:
        return ""
    x = SCALES[results.made.scale]
    found = {arm: (results.thresholds, band) for arm, band in results.profiles.items()}
    profile = charts.bands("Performance profile", f"{x} τ", "share of runs above τ", found, index, steps=False)
    more = [name for name in results.aggregates["final"] if name not in ("IQM",)]
    others = "".join(page.figure(charts.statistic(results, name, index)) for name in more)
    return (
        f"<h3>Arm against arm</h3><div class='grid wide'>{page.figure(profile | {'range': [0, 1.02]})}"
        f"{page.figure(charts.improvement(results, index))}</div>"
        f"<details><summary>{escape(', '.join(more))}</summary><div class='grid'>{others}</div></details>"
    )


def _adaptation(page: Canvas, results: Results, index: Mapping[Arm, int]) -> str:
    shown = []
    for task, found in results.adaptation.items():
        bands = {arm: (np.arange(len(band.value), dtype=np.float64), band) for arm, band in found.items()}
        shown.append(
            page.figure(charts.bands(task.name, "episodes of the task before", "return", bands, index, steps=False))
        )
    if not shown:
        return ""
    return (
        "<h3>Adaptation</h3><p class='soft'>Return by how many episodes of an unseen task the agent has had, last evaluation; "
        f"mean over runs. Scores are those after all of them.</p><div class='grid'>{''.join(shown)}</div>"
    )


def _health(page: Canvas, results: Results, index: Mapping[Arm, int]) -> str:
    tasks = [task for task in results.made.tasks if results.health.get(task)]
    if not tasks:
        return ""
    group = page.group()
    panels = []
    for number, task in enumerate(tasks):
        shown = [charts.curves(f"{task.name}: {_unit(task)}", _unit(task), results.task_curves[task], index)]
        shown += charts.health(results, task, index)
        figures = "".join(page.figure(chart) for chart in shown)
        panels.append(
            f'<div class="panel" data-group="{group}" data-panel="{number}"{" hidden" * (number > 0)}>'
            f'<div class="grid">{figures}</div></div>'
        )
    options = "".join(f'<option value="{number}">{escape(task.name)}</option>' for number, task in enumerate(tasks))
    return (
        "<h3>Representations and labels beside the returns</h3><p class='soft'>Mean over runs, the band from the least to "
        f"the greatest. <label>Task: <select data-shows='{group}'>{options}</select></label></p>{''.join(panels)}"
    )


def _published(results: Results) -> str:
    made = results.made
    if not results.published:
        known = any(task.scale in ("human", "dmc") for task in made.tasks)
        line = "No published score that ships with rlrep is of this protocol at these env steps."
        return f"<h3>Published scores</h3><p class='soft'>{line}</p>" if known else ""
    tasks = [task for task in made.tasks if task in results.published]
    rows = [
        "<tr class='ours'>"
        + "".join(f"<td>{cell}</td>" for cell in _ours(results, arm, tasks))
        + "<td class='text'>these runs, final</td></tr>"
        for arm in made.arms
    ]
    methods: dict[str, dict[Task, Published]] = {}
    for task in tasks:
        for entry in results.published[task]:
            methods.setdefault(entry.method, {})[task] = entry
    for method, found in list(methods.items())[:_MOST_METHODS]:
        cells = "".join(f"<td>{_published_cell(found.get(task))}</td>" for task in tasks)
        first = next(iter(found.values()))
        about = f"{first.source}; {first.reported}" + (f"; {first.runs} runs" if first.runs else "")
        rows.append(f"<tr><td>{escape(method)}</td>{cells}<td class='text'>{escape(about)}</td></tr>")
    steps = next(iter(results.published[tasks[0]])).env_steps
    return (
        f"<h3>Published scores</h3><p class='soft'>Mean returns at {steps:,} env steps, ± standard deviation over runs where it "
        "is known. Implementations, action repeats and what is reported differ: read the last column.</p>"
        f"<details><summary>{_count(len(methods), 'method')} beside ours</summary>"
        + _table(["method", *(task.name for task in tasks), "source, what is reported"], rows)
        + "</details>"
    )


def _ours(results: Results, arm: Arm, tasks: Iterable[Task]) -> Iterator[str]:
    yield escape(results.made.names[arm])
    for task in tasks:
        runs = results.made.counted(task, arm)
        values = [float(raw(task, run)[-1]) for run in runs]
        spread = f" ± {number(float(np.std(values, ddof=1)))}" if len(values) > 1 else ""
        yield f"{number(float(np.mean(values)))}{spread}" if values else "–"


def _published_cell(entry: Published | None) -> str:
    if entry is None:
        return "–"
    return number(entry.mean) + (f" ± {number(entry.std)}" if entry.std is not None else "")


def _films(films: Sequence[Film], index: Mapping[Arm, int], results: Results) -> str:
    shown = []
    for film in films:
        name = f"{results.made.names[film.arm]}, {film.task.name}, seed {film.seed}"
        source = escape(film.address, quote=True)
        picture = (
            f'<img loading="lazy" alt="" src="{source}">'
            if film.animated
            else f'<video controls muted loop playsinline preload="metadata" src="{source}"></video>'
        )
        outside = "" if source.startswith("data:") else f' <a href="{source}">{escape(film.name)}</a>'
        shown.append(
            f'<div class="film"{_arm(index[film.arm])}>{picture}<p class="soft">{_key(name, index[film.arm])}{outside}</p></div>'
        )
    return f"<h3>Evaluation videos</h3><div class='grid'>{''.join(shown)}</div>" if shown else ""


def _differences(results: Results, index: Mapping[Arm, int]) -> str:
    made = results.made
    values: dict[str, dict[Arm, set[str]]] = {}
    telling: set[str] = set()
    for task in made.tasks:
        here: dict[str, set[str]] = {}
        for arm in made.arms:
            for run in made.cell(task, arm):
                for key, value in settings_of(run).items():
                    values.setdefault(key, {}).setdefault(arm, set()).add(value)
                    here.setdefault(key, set()).add(value)
        telling |= {key for key, found in here.items() if len(found) > 1 or _is_partial(values[key], made.arms)}
    keys = sorted(key for key in telling if not key.endswith(_UNTOLD))
    if not keys or len(made.arms) < 2:
        return ""
    head = "".join(f"<th{_arm(index[arm])}>{_key(name, index[arm])}</th>" for arm, name in made.names.items())
    rows = [
        f"<tr><td><code>{escape(key)}</code></td>"
        + "".join(
            f"<td{_arm(index[arm])}>{escape(', '.join(sorted(values[key].get(arm, {'–'}))[:4]))}</td>"
            for arm in made.arms
        )
        + "</tr>"
        for key in keys
    ]
    return (
        f"<h3>Configs</h3><details><summary>{_count(len(keys), 'option')} differ between the arms</summary><div class='scroll'>"
        f"<table><thead><tr><th>option</th>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div></details>"
    )


def _is_partial(found: Mapping[Arm, set[str]], arms: Sequence[Arm]) -> bool:
    return len(found) < len(arms)


def _versions(results: Results) -> str:
    runs = results.made.runs
    counted: dict[str, dict[str, int]] = {}
    for run in runs:
        for key, value in run.versions.items():
            if key.partition(".")[0] in ("packages", "simulators", "python", "platform", "git", "device", "threads"):
                counted.setdefault(key, {}).setdefault(value, 0)
                counted[key][value] += 1
    if not counted:
        return ""
    rows = []
    for key, found in counted.items():
        shown = sorted(found.items(), key=lambda item: -item[1])[:8]
        text = (
            shown[0][0] if len(found) == 1 else "; ".join(f"{value} ({_count(count, 'run')})" for value, count in shown)
        )
        rows.append(f"<tr><td>{escape(key)}</td><td class='text'>{escape(text)}</td></tr>")
    differing = sum(len(found) > 1 for found in counted.values())
    same = "all runs alike" if not differing else f"{differing} differ between runs"
    return f"<h3>Versions</h3><details><summary>{same}</summary>{_table(['', 'version'], rows)}</details>"


def _unit(task: Task) -> str:
    return "success rate" if task.scale == "success" else "return"


def _table(head: Sequence[str], rows: Sequence[str]) -> str:
    cells = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    return f"<div class='scroll'><table><thead><tr>{cells}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"


def _row(cells: Sequence[str], arm: int) -> str:
    return f"<tr{_arm(arm)}>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _arm(number: int) -> str:
    return f' data-arm="{number}"'


def _key(name: str, number: int) -> str:
    return f'<span class="key arm{number % 8}">{escape(name)}</span>'


def _value(found: Estimate) -> str:
    interval = "" if found.low is None or found.high is None else f" [{number(found.low)}, {number(found.high)}]"
    return escape(f"{number(found.value)}{interval}")


def number(value: float) -> str:
    """Return a number at three significant digits or to the unit, whichever says more."""
    size = abs(value)
    return (
        f"{value:,.0f}"
        if size >= 100
        else f"{value:.1f}"
        if size >= 10
        else f"{value:.2f}"
        if size >= 1
        else f"{value:.3f}"
    )
