"""What the learning benchmarks share: command line, result JSON, learning-curve picture."""

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rlrep.scores.published import Published
from rlrep.scores.statistics import FEWEST_RUNS, estimate, interquartile_mean

from . import machine
from .grid import Evaluation, Run, read_evaluations, run_all, show

RESULTS = machine.ROOT / "benchmarks" / "results"
BOOTSTRAPS = 10_000
COLOURS = ("#2563eb", "#d97706", "#059669", "#7c3aed", "#dc2626", "#0891b2", "#be185d", "#4d7c0f", "#475569", "#a16207")


@dataclass(frozen=True)
class Study:
    """A benchmark: its result files' name, question, runs, published numbers beside them, and what it cannot say."""

    name: str
    question: str
    runs: tuple[Run, ...]
    published: tuple[Published, ...] = ()
    limits: str = ""
    compared: tuple[str, str] | None = None  # an arm and the arm it is held against
    notes: Mapping[str, object] = field(default_factory=dict)
    more: Callable[[Path, Path], Mapping[str, object]] | None = None
    """From the runs' folder and the results': further entries of the JSON (a `table` replaces ours), and pictures."""


def parser(description: str | None, name: str) -> argparse.ArgumentParser:
    """Return the options that every learning benchmark takes."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--work", type=Path, default=Path("runs") / "benchmarks" / name, help="folder of the runs")
    made.add_argument(
        "--jobs", type=int, default=machine.cores(), help="runs at a time, the cores shared out among them"
    )
    made.add_argument("--dry-run", action="store_true", help="list the commands and stop")
    made.add_argument("--collect", action="store_true", help="write the results of the finished runs, run nothing")
    made.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON and PNG files")
    made.add_argument(
        "--only", default="", help="run only what has this in TASK/ARM/seedN; nothing is written for a part"
    )
    made.add_argument("words", nargs="*", metavar="KEY=VALUE", help="more options for every run (named in the JSON)")
    return made


def conduct(study: Study, options: argparse.Namespace) -> int:
    """Do what the options ask for. Returns the exit status: 1 if a run failed."""
    runs = [run for run in study.runs if options.only in f"{run.task}/{run.arm}/seed{run.seed}"]
    if options.dry_run:
        show(runs, options.work)
        return 0
    failed = [] if options.collect else run_all(runs, options.work, jobs=options.jobs)
    if not options.only:
        write(study, options.work, options.results, jobs=options.jobs)
    return 1 if failed else 0


def write(study: Study, work: Path, results: Path, *, jobs: int) -> None:
    """Write NAME.json and NAME.png from the finished runs."""
    curves = collect(study.runs, work)
    if not curves:
        print("no run is finished, nothing is written")
        return
    results.mkdir(parents=True, exist_ok=True)
    path = results / f"{study.name}.json"
    content = report(study, curves, jobs=jobs) | dict(study.more(work, results) if study.more else {})
    path.write_text(json.dumps(content, indent=1) + "\n")
    draw(study, curves, path.with_suffix(".png"))
    print(f"wrote {path} and {path.with_suffix('.png').name}")


Curves = dict[str, dict[str, dict[int, list[Evaluation]]]]
"""Evaluations of finished runs by task, arm and seed."""


def collect(runs: Iterable[Run], work: Path) -> Curves:
    """Read the finished runs, in the order of the grid."""
    found: Curves = {}
    for run in runs:
        if run.finished(work):
            evaluations = read_evaluations(run.folder(work) / "eval.csv")
            found.setdefault(run.task, {}).setdefault(run.arm, {})[run.seed] = evaluations
    return found


def report(study: Study, curves: Curves, *, jobs: int) -> dict[str, object]:
    """Return the result file's content."""
    first = {(run.task, run.arm): run for run in reversed(study.runs)}
    tasks = {
        task: {arm: describe_arm(first[task, arm], seeds) for arm, seeds in arms.items()}
        for task, arms in curves.items()
    }
    return {
        "question": study.question,
        "limits": study.limits,
        "machine": machine.describe(),
        "jobs_at_a_time": jobs,
        "runs": {"asked": len(study.runs), "finished": sum(len(s) for arms in curves.values() for s in arms.values())},
        **study.notes,
        "published": [vars(entry) for entry in study.published],
        **({"comparison": compare(tasks, *study.compared)} if study.compared else {}),
        "table": tabulate(tasks, study.published),
        "tasks": tasks,
    }


def compare(tasks: Mapping[str, Mapping[str, Any]], arm: str, reference: str) -> dict[str, object]:
    """Return, by task of enough runs, how far the arm's final mean is from the reference's, and standard errors."""
    return {
        task: {
            "arm_minus_reference": round(arms[arm]["final"]["mean"] - arms[reference]["final"]["mean"], 1),
            "standard_errors": [arms[arm]["final"]["standard_error"], arms[reference]["final"]["standard_error"]],
        }
        for task, arms in tasks.items()
        if all(name in arms and len(arms[name]["seeds"]) >= FEWEST_RUNS for name in (arm, reference))
    }


def tabulate(tasks: Mapping[str, Mapping[str, Any]], published: Sequence[Published]) -> dict[str, object]:
    """Return the README's table: measured arms by task, the task's published numbers after them."""
    rows = []
    for task, arms in tasks.items():
        for arm, found in arms.items():
            final, best = found["final"], found["best"]
            interval = "" if final["iqm_95"] is None else " [{:.0f}, {:.0f}]".format(*final["iqm_95"])
            steps = f"{found['env_steps']:,} / {found['agent_steps']:,}"
            cells = [task, arm, str(len(found["seeds"])), steps]
            rows.append(
                [
                    *cells,
                    f"{final['mean']:.0f}{spread(final['per_seed'], 0)}",
                    f"{final['iqm']:.0f}{interval}",
                    f"{best['mean']:.0f}",
                ]
            )
        for entry in published:
            if entry.task == task:
                told = entry.std is not None and (entry.runs or 0) >= FEWEST_RUNS
                value = f"{entry.mean:.0f}" + (f" (std {entry.std:.0f})" if told else "")
                name = f"published: {entry.method}, {entry.source}"
                rows.append([task, name, str(entry.runs or ""), f"{entry.env_steps:,}", value, "", ""])
    counts = [len(found["seeds"]) for arms in tasks.values() for found in arms.values()]
    final = spread_head("final return", counts)
    iqm = "IQM [95 % CI]" if max(counts) >= FEWEST_RUNS else "IQM"
    return {"columns": ["task", "arm", "seeds", "env / agent steps", final, iqm, "best of training"], "rows": rows}


def spread(values: Sequence[float], digits: int) -> str:
    """Return what stands behind a mean of runs: its standard error from `FEWEST_RUNS` on, below the runs themselves."""
    if len(values) >= FEWEST_RUNS:
        return f" ± {np.std(values, ddof=1) / np.sqrt(len(values)):.{digits}f}"
    return f" ({', '.join(f'{value:.{digits}f}' for value in values)})" if len(values) > 1 else ""


def spread_head(name: str, counts: Sequence[int]) -> str:
    """Return the head of a column of means, each with its `spread`. counts: the runs of its cells."""
    shown = {"± SE": max(counts) >= FEWEST_RUNS, "(runs)": any(1 < count < FEWEST_RUNS for count in counts)}
    return f"{name} {' or '.join(key for key, told in shown.items() if told)}".rstrip()


def describe_arm(run: Run, seeds: Mapping[int, Sequence[Evaluation]]) -> dict[str, object]:
    """Return an arm's command, final and best returns, and learning curve."""
    ends = [evaluations[-1] for evaluations in seeds.values()]
    steps, returns = align(seeds)
    return {
        "command": shlex.join(["python", *run.command(Path("runs"))]),
        "seeds": list(seeds),
        "agent_steps": ends[0].agent_steps,
        "env_steps": ends[0].env_steps,
        "final_episodes": ends[0].episodes,
        "final": summarise([end.mean_return for end in ends]),
        "best": summarise([max(e.mean_return for e in evaluations) for evaluations in seeds.values()]),
        "wall_seconds": [round(end.seconds, 1) for end in ends],
        "curve": {
            "env_steps": steps,
            "returns": {
                str(seed): [round(value, 1) for value in row] for seed, row in zip(seeds, returns, strict=True)
            },
        },
    }


def summarise(per_seed: Sequence[float]) -> dict[str, object]:
    """Return mean, standard error, IQM and its 95 % percentile-bootstrap interval over seeds.

    Below `FEWEST_RUNS` seeds there is neither error nor interval (None): they would say more than so few know.
    """
    draws = np.random.default_rng(0)
    found = estimate(interquartile_mean, [per_seed], resamples=BOOTSTRAPS, generator=draws, fewest=FEWEST_RUNS)
    several = len(per_seed) >= FEWEST_RUNS
    return {
        "per_seed": [round(float(value), 1) for value in per_seed],
        "mean": round(float(np.mean(per_seed)), 1),
        "standard_error": round(float(np.std(per_seed, ddof=1) / np.sqrt(len(per_seed))), 1) if several else None,
        "iqm": round(found.value, 1),
        "iqm_95": None if found.low is None or found.high is None else [round(found.low, 1), round(found.high, 1)],
    }


def align(seeds: Mapping[int, Sequence[Evaluation]]) -> tuple[list[int], list[list[float]]]:
    """Return the env steps that every seed was evaluated at, and each seed's mean returns there."""
    by_step = [{e.env_steps: e.mean_return for e in evaluations} for evaluations in seeds.values()]
    steps = sorted(set.intersection(*(set(row) for row in by_step)))
    return steps, [[row[step] for step in steps] for row in by_step]


def draw(study: Study, curves: Curves, path: Path) -> None:
    """Draw one panel per task: each arm's mean over seeds, of enough its standard error, single seeds thin."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4 * len(curves), 4.6), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(curves), squeeze=False)[0]
    for panel, (task, arms) in zip(panels, curves.items(), strict=True):
        for colour, (arm, seeds) in zip(_cycle(len(arms)), arms.items(), strict=True):
            steps, rows = align(seeds)
            returns = np.array(rows)
            mean = returns.mean(0)
            panel.plot(steps, returns.T, color=colour, linewidth=0.7, alpha=0.4)
            panel.plot(steps, mean, color=colour, linewidth=2, label=f"{arm} ({len(rows)} seed{'s' * (len(rows) > 1)})")
            if len(rows) >= FEWEST_RUNS:
                error = returns.std(0, ddof=1) / np.sqrt(len(rows))
                panel.fill_between(steps, mean - error, mean + error, color=colour, alpha=0.15, linewidth=0)
        for style, entry in zip(("--", ":", "-."), [e for e in study.published if e.task == task], strict=False):
            label = f"{entry.method}, {entry.source}"
            panel.axhline(entry.mean, color="#6b7280", linewidth=1, linestyle=style, label=label)
        panel.set(title=task, xlabel="environment steps", ylabel="evaluation return", xlim=(0, None), ylim=(0, None))
        panel.legend(frameon=False, fontsize=7)
        panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def _cycle(count: int) -> list[str]:
    return [COLOURS[index % len(COLOURS)] for index in range(count)]


def main(
    description: str | None, name: str, add: Callable[[argparse.ArgumentParser], None], plan: Callable[..., Study]
) -> None:
    """Run a benchmark's command line: `add` its own options, `plan` the study from all of them."""
    made = parser(description, name)
    add(made)
    options = made.parse_intermixed_args()
    sys.exit(conduct(plan(options), options))
