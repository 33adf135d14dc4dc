"""The report's numbers as CSV and LaTeX."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from rlrep.record.files import replace_file, replace_table

from .analysis import counts, endings
from .arms import Arm, Task
from .comparison import raw, score
from .files import clear
from .results import Results, ranged, written
from .statistics import Estimate

Row = Mapping[str, object]
_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "[": "{[}", "*": "{*}",  # an argument of the line break before them
}  # fmt: skip
_FORMULA = ("=", "+", "-", "@")


def write_tables(folder: Path, results: Sequence[Results]) -> None:
    """Write aggregates, tasks, pairs, runs, evaluations and published scores as CSV, and the first two of each
    comparison as LaTeX."""
    clear(folder, r"(aggregates|tasks)-\d+\.tex")
    for name, rows in (
        ("aggregates", aggregate_rows),
        ("tasks", task_rows),
        ("improvement", pair_rows),
        ("runs", run_rows),
        ("evaluations", evaluation_rows),
        ("published", published_rows),
    ):
        _write(folder / f"{name}.csv", _bounded([row for found in results for row in rows(found)]))
    for number, found in enumerate(results, start=1):
        replace_file(folder / f"aggregates-{number}.tex", aggregates_latex(found))
        replace_file(folder / f"tasks-{number}.tex", tasks_latex(found))


def aggregate_rows(found: Results) -> Iterator[Row]:
    """Yield one row per arm, statistic and kind of score."""
    made = found.made
    for kind, statistics in found.aggregates.items():
        for statistic, arms in statistics.items():
            for arm, value in arms.items():
                yield {
                    "comparison": made.title,
                    "arm": made.names[arm],
                    "score": kind,
                    "statistic": statistic,
                    "unit": made.scale,
                    "tasks": len(made.common),
                    "runs": sum(len(made.counted(task, arm)) for task in made.common),
                    **_numbers(value),
                }


def task_rows(found: Results) -> Iterator[Row]:
    """Yield one row per task, arm and kind of score, in the task's own unit."""
    made = found.made
    for task, arms in found.per_task.items():
        for arm, kinds in arms.items():
            runs = made.counted(task, arm)
            for kind, value in kinds.items():
                yield {
                    "comparison": made.title,
                    "task": task.name,
                    "arm": made.names[arm],
                    "score": kind,
                    "unit": task.unit,
                    "runs": len(runs),
                    "env_steps": max(int(run.evaluations.env_steps[-1]) for run in runs),
                    "agent_steps": max(int(run.evaluations.agent_steps[-1]) for run in runs),
                    **_numbers(value),
                }


def pair_rows(found: Results) -> Iterator[Row]:
    """Yield one row per pair of arms."""
    names = found.made.names
    for pair in found.pairs:
        first, second = names[pair.first], names[pair.second]
        yield {"comparison": found.made.title, "arm": first, "over": second, **_numbers(pair.probability)}


def run_rows(found: Results) -> Iterator[Row]:
    """Yield one row per run."""
    made = found.made
    for task, arm in ((task, arm) for task in made.tasks for arm in made.arms):
        for run in made.cell(task, arm):
            values = {kind: endings(task, [run], kind, raw)[0] for kind in ("final", "best")}
            yield {
                "comparison": made.title,
                "task": task.name,
                "arm": made.names[arm],
                "agent": arm.agent,
                "augment": arm.augment,
                "aux": arm.aux,
                "seed": run.seed,
                "finished": run.evaluations.final,
                "env_steps": int(run.evaluations.env_steps[-1]),
                "agent_steps": int(run.evaluations.agent_steps[-1]),
                "episodes": run.evaluations.episodes,
                "unit": task.unit,
                **{kind: f"{value:.6g}" for kind, value in values.items()},
                "final_score": f"{score(task, run)[-1]:.6g}" if task.scored else "",
            }


def evaluation_rows(found: Results) -> Iterator[Row]:
    """Yield one row per evaluation of every run, from which all else can be computed again."""
    made = found.made
    for task, arm in ((task, arm) for task in made.tasks for arm in made.arms):
        for run in made.cell(task, arm):
            log = run.evaluations
            last = len(log.env_steps) - 1
            for number, value in enumerate(log.returns):
                success = log.success[number]
                yield {
                    "comparison": made.title,
                    "task": task.name,
                    "arm": made.names[arm],
                    "seed": run.seed,
                    "agent_steps": int(log.agent_steps[number]),
                    "env_steps": int(log.env_steps[number]),
                    "return": f"{value:.6g}",
                    "success": "" if math.isnan(success) else f"{success:.4g}",
                    "kind": "final" if log.final and number == last else "periodic",
                }


def aggregates_latex(found: Results) -> str:
    """Return a booktabs table of the aggregates of final scores."""
    made = found.made
    statistics, runs = found.aggregates["final"], counts(made)
    head = ["Arm", "Runs", *(name if name == "IQM" else name.capitalize() for name in statistics)]
    rows = [
        [
            latex(made.names[arm]),
            ranged(runs[arm], statistics["IQM"][arm], _short),
            *(_cell(replace(arms[arm], runs=())) for arms in statistics.values()),
        ]
        for arm in made.aggregated
    ]
    return _tabular(f"{made.title}, {made.scale} over {len(made.common)} tasks, final", found, head, rows)


def tasks_latex(found: Results) -> str:
    """Return a booktabs table of final scores by task."""
    made = found.made
    head = ["Task", *(latex(name) for name in made.names.values())]
    rows = [[latex(task.name), *(_task_cell(found, task, arm) for arm in made.arms)] for task in made.tasks]
    return _tabular(f"{made.title}, mean over runs, final", found, head, rows)


def latex(text: str) -> str:
    """Return a text that LaTeX prints as it is."""
    return "".join(_LATEX.get(letter, letter) for letter in text if letter.isprintable())


def _tabular(comment: str, found: Results, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"% {latex(comment)} {latex(found.spread)}"]
    lines += [f"\\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}", r"\toprule", " & ".join(head) + r" \\", r"\midrule"]
    lines += [" & ".join(row) + r" \\" for row in rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _task_cell(found: Results, task: Task, arm: Arm) -> str:
    kinds = found.per_task.get(task, {}).get(arm)
    return _cell(kinds["final"]) if kinds else "--"


def _cell(value: Estimate) -> str:
    return written(value, _short)


def _short(value: float) -> str:
    return f"{value:.4g}"


def _numbers(value: Estimate) -> dict[str, str]:
    bounds = {"value": value.value, "low": value.low, "high": value.high}
    return {name: "" if bound is None else f"{bound:.6g}" for name, bound in bounds.items()}


def published_rows(found: Results) -> Iterator[Row]:
    """Yield one row per task and published score of its protocol at these env steps."""
    for task, entries in found.published.items():
        for entry in entries:
            yield {"comparison": found.made.title, **asdict(entry), "task": task.name}


def _bounded(rows: Sequence[Row]) -> list[Row]:
    """Return the rows, without the columns of intervals if no row has one."""
    if any(row.get("low") for row in rows):
        return list(rows)
    return [{name: value for name, value in row.items() if name not in ("low", "high")} for row in rows]


def _write(path: Path, rows: Sequence[Row]) -> None:
    replace_table(path, [{key: harmless(value) for key, value in row.items()} for row in rows])


def harmless(value: object) -> object:
    """Return a cell that no spreadsheet takes for a formula: a text that looks like one gets a quote before it."""
    if not isinstance(value, str) or not value.startswith(_FORMULA):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value
