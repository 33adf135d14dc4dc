"""Does an agent adapt to tasks it has not seen, and does trajectory contrast help it?

    python -m benchmarks.learn_meta [--dry-run] [--suite SUITE] [--seeds N] [KEY=VALUE ...]

`point`: the point robots, PEARL and PEARL with trajectory contrast. `kl`: PEARL with the KL averaged over the
meta-batch, and summed as in the original, 16 times as heavy. `cheetah`: running speeds, and an arm without a context.
`metaworld`: ML1 reach and push. `mt1`: SAC with return contrast on one task of Meta-World, goals visible.
`grid`: every family of PEARL's paper and the ML1 tasks that hide their goal, the papers' settings. Days on a GPU.
"""

import argparse
import csv
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rlrep.envs.metaworld.tasks import HIDDEN_GOALS
from rlrep.loops.meta.picture import by_adaptation
from rlrep.scores.statistics import FEWEST_RUNS

from .grid import Run
from .learning import COLOURS, Study, main, spread, spread_head

QUIET = ("video=false", "logger.tensorboard=false")
PEARL: dict[str, tuple[str, ...]] = {"PEARL": ("aux=none",), "PEARL + TCL": ("aux=trajectory_contrast",)}
NO_CONTEXT: dict[str, tuple[str, ...]] = {"no context": ("agent=pearl_no_context", "aux=none")}
ORACLE: dict[str, tuple[str, ...]] = {"oracle": ("agent=pearl_oracle", "aux=none")}
Arms = Mapping[str, tuple[str, ...]]
PAPER = ("cheetah_vel", "cheetah_dir", "ant_dir", "ant_goal", "humanoid_dir", "walker_rand_params")
MT1 = ("env=metaworld_mt1", "env.task=reach-v3", "preset=cpu", "train.eval_every=5000")
POINT = ("env=point_robot", "preset=cpu", "train.agent_steps=60000", "train.eval_every=10000")
SPARSE = (  # many short iterations, and values small enough to be learnt in few updates: the goals must be found first
    *("train.agent_steps=600000", "train.eval_every=50000", "train.updates_per_step=0.03", "agent.context_size=128"),
    *(
        "agent.reward_scale=10",
        "agent.kl_weight=0.3",
        "agent.kl_reduction=mean",
        "agent.lr=1e-3",
        "agent.alpha_lr=1e-3",
        "train.final_episodes=10",
    ),
)
ML1 = (
    *("env.horizon=200", "train.agent_steps=60000", "train.eval_every=10000", "train.updates_per_step=0.4"),
    *("agent.prior_steps=200", "agent.extra_steps=200", "agent.tasks_per_iteration=5"),
)
SUITES: Mapping[str, tuple[Mapping[str, tuple[str, ...]], Arms, int]] = {
    "point": (
        {
            "point_robot": POINT,
            "sparse_point_robot": ("env=sparse_point_robot", "preset=cpu", *SPARSE),
        },
        PEARL,
        3,
    ),
    "kl": (
        {"point_robot": POINT},
        {f"KL {how}": ("aux=none", f"agent.kl_reduction={how}") for how in ("mean", "sum")},
        3,
    ),
    "cheetah": ({"cheetah_vel": ("env=cheetah_vel", "preset=cpu")}, NO_CONTEXT | PEARL, 1),
    "metaworld": (
        {f"ml1_{task}": (f"env=metaworld_{task}", "preset=cpu", *ML1) for task in ("reach", "push")},
        PEARL,
        1,
    ),
    "mt1": (
        {
            "mt1_reach_state": (*MT1, "env.obs=state", "train.env_steps=30000"),
            "mt1_reach_pixels": (*MT1, "env.obs=pixels", "train.env_steps=10000"),
        },
        {"base": ("aux=none",), "return_contrast": ("aux=return_contrast",)},
        1,
    ),
    "grid": (
        {name: (f"env={name}",) for name in PAPER}
        | {f"ml1_{task}": ("env=metaworld_ml1", f"env.task={task}") for task in HIDDEN_GOALS},
        NO_CONTEXT | PEARL | ORACLE,
        5,
    ),
}


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--suite", choices=tuple(SUITES), default="point")
    parser.add_argument("--seeds", type=int, help="default: 3 for point, 5 for grid, else 1")


def plan(options: argparse.Namespace) -> Study:
    """Return the study. Seeds vary slowest, so that an interrupted grid is balanced."""
    _, _, usual = SUITES[options.suite]
    seeds = options.seeds or usual
    runs, name = tuple(planned(options.suite, seeds, tuple(options.words))), f"learn_meta_{options.suite}"
    return Study(
        name=name,
        question="Do returns grow over the episodes of adaptation to an unseen task, and more so with contrast?",
        runs=runs,
        compared=("KL sum", "KL mean") if options.suite == "kl" else ("PEARL + TCL", "PEARL"),
        limits=f"{seeds} seed{'s' * (seeds > 1)} per arm.",
        more=lambda work, results: entries(options.suite, runs, work, results / f"{name}.png"),
    )


def planned(suite: str, seeds: int, words: tuple[str, ...]) -> Iterator[Run]:
    """Yield the runs of a suite."""
    tasks, arms, _ = SUITES[suite]
    for seed in range(seeds):
        for task, env in tasks.items():
            for arm, choice in arms.items():
                yield Run(task, arm, seed, (*env, *choice, *QUIET, *words))


def entries(suite: str, runs: Sequence[Run], work: Path, path: Path) -> Mapping[str, object]:
    """Return what the JSON has beside the curves of returns, and draw it beside `path`."""
    families = {} if suite == "mt1" else adaptation(runs, work, path)
    succeeded = success_curves(runs, work)
    if succeeded:
        draw_success(succeeded, path.with_name(f"{path.stem}_success.png"))
    return {**families, **({"success_over_training": succeeded} if succeeded else {})}


Successes = Mapping[str, Mapping[str, list[list[tuple[int, float]]]]]
"""By task and arm, for every seed: agent steps and the rate of success then, after all adaptation."""


def success_curves(runs: Sequence[Run], work: Path) -> Successes:
    """Read the rates of success of finished runs; none where the environment knows no success."""
    found: dict[str, dict[str, list[list[tuple[int, float]]]]] = {}
    for run in runs:
        if run.finished(work):
            curve = success_curve(run.folder(work) / "eval.csv")
            if curve:
                found.setdefault(run.task, {}).setdefault(run.arm, []).append(curve)
    return found


def success_curve(path: Path) -> list[tuple[int, float]]:
    """Return agent steps and the rate of success, one pair per evaluation."""
    with open(path, newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["success"]]
    known = max((int(row.get("adaptation") or 0) for row in rows), default=0)
    groups = defaultdict[int, list[float]](list)
    for row in rows:
        if int(row.get("adaptation") or 0) == known:
            groups[int(row["agent_steps"])].append(float(row["success"]))
    return [(steps, float(np.mean(values))) for steps, values in groups.items()]


def draw_success(found: Successes, path: Path) -> None:
    """Draw one panel per task: the rate of success over training, one line per seed."""
    figure, panels = panels_for(found)
    for axes, (task, arms) in zip(panels, found.items(), strict=True):
        for colour, (arm, curves) in zip(COLOURS, arms.items(), strict=False):
            for number, curve in enumerate(curves):
                axes.plot(*zip(*curve, strict=True), color=colour, marker="o", label=None if number else arm)
        axes.set(title=task, xlabel="agent steps", ylabel="success", ylim=(-0.05, 1.05))
        axes.legend(frameon=False, fontsize=8)
    figure.savefig(path)


def panels_for(found: Mapping[str, object]) -> tuple[Any, list[Any]]:
    """Return a figure with one panel per entry."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2 * len(found), 4.0), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    panels = list(figure.subplots(1, len(found), squeeze=False)[0])
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
    return figure, panels


def final_rows(run: Run, work: Path) -> list[dict[str, str]]:
    """Return the rows of the final evaluation."""
    with open(run.folder(work) / "eval.csv", newline="") as file:
        return [row for row in csv.DictReader(file) if row["kind"] == "final"]


def adaptation(runs: Sequence[Run], work: Path, path: Path) -> Mapping[str, object]:
    """Return the adaptation curves by task family and arm, the table of their ends, and draw them beside `path`."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for run in runs:
        if run.finished(work):
            rows = final_rows(run, work)
            entry = found.setdefault(run.task, {}).setdefault(run.arm, {"seeds": [], "returns": [], "success": []})
            entry["seeds"].append(run.seed)
            entry["returns"].append(by_adaptation(rows, "return")[1].tolist())
            if rows[0]["success"]:
                entry["success"].append(by_adaptation(rows, "success")[1].tolist())
            entry["steps"] = int(rows[0]["agent_steps"])
            versions = json.loads((run.folder(work) / "versions.json").read_text())
            entry["commits"] = sorted({*entry.get("commits", ()), versions["git"]})
            entry.setdefault("task_accuracy", []).append(task_accuracy(run, work))
    draw(found, path.with_name(f"{path.stem}_adaptation.png"))
    return {"adaptation": found, "table": tabulate(found)}


def task_accuracy(run: Run, work: Path) -> float | None:
    """Return how often a linear probe names the task of a belief at last, None for an arm without beliefs."""
    lines = (run.folder(work) / "metrics.jsonl").read_text().splitlines()
    values = [row["context/task_accuracy"] for row in map(json.loads, lines) if "context/task_accuracy" in row]
    return round(values[-1], 3) if values else None


def tabulate(found: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[str, object]:
    """Return the README's table: first and last episode, and what lies between, by seeds or with its standard error."""
    gained = spread_head("last - first", [len(entry["seeds"]) for arms in found.values() for entry in arms.values()])
    columns = ["family", "arm", "seeds", "agent steps", "first episode", "last", gained, "success", "probe"]
    rows = []
    for family, arms in found.items():
        for arm, entry in arms.items():
            returns = np.array(entry["returns"])
            gain = returns[:, -1] - returns[:, 0]
            success = f"{np.mean([curve[-1] for curve in entry['success']]):.0%}" if entry["success"] else ""
            known = [value for value in entry["task_accuracy"] if value is not None]
            first, last = (f"{returns[:, k].mean():.1f}" for k in (0, -1))
            cells = [
                family,
                arm,
                str(len(gain)),
                f"{entry['steps']:,}",
                first,
                last,
                f"{gain.mean():.1f}{spread(gain.tolist(), 1)}",
            ]
            rows.append([*cells, success, f"{np.mean(known):.0%}" if known else ""])
    return {"columns": columns, "rows": rows}


def draw(found: Mapping[str, Mapping[str, Mapping[str, Any]]], path: Path) -> None:
    """Draw one panel per family: mean over seeds by episodes of adaptation, its standard error or single seeds thin."""
    figure, panels = panels_for(found)
    for axes, (family, arms) in zip(panels, found.items(), strict=True):
        for colour, (arm, entry) in zip(COLOURS, arms.items(), strict=False):
            returns = np.array(entry["returns"])
            episodes = range(returns.shape[1])
            if len(returns) >= FEWEST_RUNS:
                error = returns.std(0, ddof=1) / np.sqrt(len(returns))
                axes.errorbar(episodes, returns.mean(0), error, color=colour, capsize=3)
            else:
                axes.plot(episodes, returns.T, color=colour, linewidth=0.7, alpha=0.4)
            axes.plot(episodes, returns.mean(0), color=colour, marker="o", label=arm)
        axes.set(title=family, xlabel="episodes of the task before", ylabel="return", xticks=range(returns.shape[1]))
        axes.legend(frameon=False, fontsize=8)
    figure.savefig(path)


if __name__ == "__main__":
    main(__doc__, "learn_meta", add_options, plan)
