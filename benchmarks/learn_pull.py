"""How should a head's gradient meet the RL loss's, and how hard? SAC on states, each head under every form and weight.

    python -m benchmarks.learn_pull [--dry-run] [--suite state|atari] [--seeds N] [KEY=VALUE ...]

`state`: four tasks, three heads, six forms. `atari`: Rainbow on one game, two heads, four forms, on a quarter of
Atari-100k. The defaults of `pull` and `weight` are what this supports (docs/results.md says how far).
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from .grid import Run, read_evaluations
from .learning import Study, main

Words = tuple[str, ...]
STATE: Words = (
    *("env.obs=state", "preset=cpu", "agent.batch_size=128", "compile=default", "train.final_episodes=10"),
    *("video=false", "logger.tensorboard=false", "device=cpu"),
)
TASKS: Mapping[str, Words] = {
    "cartpole-swingup": ("env=dmc_cartpole", "train.env_steps=64000", "train.eval_every=8000"),
    "cheetah-run": ("env=dmc_cheetah", "train.env_steps=32000", "train.eval_every=4000"),
    "ball_in_cup-catch": ("env=dmc_cup", "train.env_steps=48000", "train.eval_every=6000"),
    "walker-walk": ("env=dmc_walker", "train.env_steps=64000", "train.eval_every=8000"),
}
ATARI: Words = ("preset=cpu", "video=false", "logger.tensorboard=false", "device=cpu")
GAMES: Mapping[str, Words] = {"krull": ("env=atari_krull",)}
FORMS = ("sum 1", "own 1", "balanced 0.03", "balanced 0.1", "balanced 0.3", "balanced 1")
ATARI_FORMS = ("sum 1", "sum 0.05", "balanced 0.1", "balanced 0.3")
HEADS = ("curl", "self_prediction", "return_contrast")
ATARI_HEADS = ("curl", "return_contrast")
METERS = ("accuracy", "last_similarity", "grad_ratio", "grad_ratio_encoder", "labelled")
LAST = 5
"""Rows of metrics.jsonl that a head's meters are means of."""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--suite", choices=("state", "atari"), default="state")
    parser.add_argument("--seeds", type=int, default=3)


def plan(options: argparse.Namespace) -> Study:
    """Return the study: seeds vary slowest, so that an interrupted grid is balanced."""
    atari = options.suite == "atari"
    tasks, settings = (GAMES, ATARI) if atari else (TASKS, STATE)
    arms = _arms(ATARI_HEADS, ATARI_FORMS) if atari else _arms(HEADS, FORMS)
    runs = tuple(
        Run(task, arm, seed, (*where, *settings, *words, *options.words))
        for seed in range(options.seeds)
        for task, where in tasks.items()
        for arm, words in arms.items()
    )
    return Study(
        name=f"learn_pull_{options.suite}",
        question="Under which pull and weight does a head help, or do the least harm?",
        runs=runs,
        limits="Mean return over all evaluations of a run, as a share of the run without a head. Single runs differ by "
        "as much as the forms do: what is chosen by this is a default, nothing more.",
        notes={"settings": [*settings, *options.words]},
        more=lambda work, _: {"table": tabulate(shares_of(runs, work)), "heads": meters(runs, work)},
    )


def _arms(heads: tuple[str, ...], forms: tuple[str, ...]) -> dict[str, Words]:
    arms: dict[str, Words] = {"base": ("aux=none",)}
    for head in heads:
        for form in forms:
            pull, weight = form.split()
            arms[f"{head} {form}"] = (f"aux={head}", f"aux.{head}.pull={pull}", f"aux.{head}.weight={weight}")
    return arms


Shares = Mapping[str, Mapping[tuple[str, str], Sequence[float]]]
"""By form, then by task and head: what each seed's run earned through training, over the base arm's of that seed."""


def shares_of(runs: Sequence[Run], work: Path) -> Shares:
    """Read the finished runs. What a run earned is its mean return over all evaluations."""
    earned = {(run.task, run.arm, run.seed): _through_training(run, work) for run in runs if run.finished(work)}
    found: dict[str, dict[tuple[str, str], list[float]]] = {}
    for (task, arm, seed), value in earned.items():
        base = earned.get((task, "base", seed))
        if arm != "base" and base:
            head, form = arm.split(maxsplit=1)
            found.setdefault(form, {}).setdefault((task, head), []).append(round(value / base, 3))
    return found


def tabulate(shares: Shares) -> dict[str, object]:
    """Return the table of the docs: a form a row, the shares of its runs by task and head, and the median of all."""
    places = sorted({place for cells in shares.values() for place in cells})
    rows = []
    for form, cells in shares.items():
        values = [value for found in cells.values() for value in found]
        shown = [", ".join(f"{value:.2f}" for value in cells.get(place, ())) for place in places]
        rows.append([form, *shown, f"{np.median(values):.2f} of {len(values)}"])
    return {"columns": ["pull, weight", *(f"{task}, {head}" for task, head in places), "median"], "rows": rows}


def _through_training(run: Run, work: Path) -> float:
    return float(np.mean([e.mean_return for e in read_evaluations(run.folder(work) / "eval.csv")]))


def meters(runs: Sequence[Run], work: Path) -> Mapping[str, object]:
    """Return every finished head's meters at the end of training, by task, arm and seed."""
    found: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    for run in runs:
        if run.arm != "base" and run.finished(work):
            rows = [json.loads(line) for line in (run.folder(work) / "metrics.jsonl").read_text().splitlines()]
            head = run.arm.split()[0]
            values = {name: [row[key] for row in rows if (key := f"aux/{head}/{name}") in row] for name in METERS}
            found.setdefault(run.task, {}).setdefault(run.arm, {})[str(run.seed)] = {
                name: round(float(np.mean(numbers[-LAST:])), 4) for name, numbers in values.items() if numbers
            }
    return found


if __name__ == "__main__":
    main(__doc__, "learn_pull", add_options, plan)
