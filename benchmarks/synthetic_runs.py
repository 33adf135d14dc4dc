"""Run folders that no agent made, their learning curves drawn at random: for the report's tests and timing."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

ARMS = (("none", "none"), ("random_shift", "none"), ("random_shift", "curl"), ("random_shift", "return_contrast"))
GAINS = {("none", "none"): 0.3, ("random_shift", "none"): 0.6, ("random_shift", "curl"): 0.62}
COLUMNS = ("agent_steps", "env_steps", "updates", "wall_seconds", "episode", "return", "length", "success", "kind")
TASKS = ("cartpole-swingup", "cheetah-run", "finger-spin", "walker-walk", "reacher-easy")


@dataclass(frozen=True)
class Shape:
    """How much a run holds. finished: whether its last evaluation is final."""

    env_steps: int = 100_000
    evaluations: int = 20
    episodes: int = 10
    logged: int = 100
    finished: bool = True
    more: Mapping[str, Any] = field(default_factory=dict)
    """Groups of the config, laid over the usual ones."""


def write_run(folder: Path, task: str, arm: tuple[str, str], seed: int, shape: Shape | None = None) -> None:
    """Write one run of the Control Suite on `DOMAIN-TASK`."""
    shape = shape or Shape()
    folder.mkdir(parents=True)
    draws = np.random.default_rng([seed, *map(ord, task + "".join(arm))])
    (folder / "config.yaml").write_text(yaml.safe_dump(config(task, arm, seed, shape), sort_keys=False))
    (folder / "versions.json").write_text(json.dumps(versions(), indent=2))
    (folder / "scoring.json").write_text(json.dumps(scoring(task)))
    level = 1000 * np.clip(GAINS.get(arm, 0.7) + draws.normal(0, 0.08), 0.05, 1)
    _write_evaluations(folder / "eval.csv", level, shape, draws)
    _write_metrics(folder / "metrics.jsonl", arm[1], shape, draws)


def scoring(task: str) -> dict[str, Any]:
    """Return what the Control Suite says of its returns."""
    scale = {"scale": "return / 1000", "zero": 0.0, "one": 1000.0, "table": "dmc_pixels"}
    return {"suite": "DMC, pixels", "task": task, **scale}


def config(task: str, arm: tuple[str, str], seed: int, shape: Shape) -> dict[str, Any]:
    """Return a resolved config of the usual size."""
    domain, name = task.split("-", 1)
    augment, aux = arm
    head = {"_target_": "a.Head", "weight": 1.0, "objective": "bilinear", "view": None, "temperature": 1.0, "tau": 0.05}
    usual: dict[str, Any] = {
        "seed": seed,
        "device": "cpu",
        "compile": "off",
        "out": f"runs/{task}",
        "train": {"agent_steps": shape.env_steps // 4, "env_steps": shape.env_steps, "eval_episodes": shape.episodes},
        "agent": {"_target_": "a.SACConfig", **{f"option_{number}": number / 7 for number in range(30)}},
        "encoder": {"_target_": "a.Encoder", "strides": [2, 1, 1, 1], "channels": 32},
        "augment": {"_target_": f"a.{augment}"},
        "aux": {} if aux == "none" else {aux: head},
        "env": {"_target_": "a.DMC", "domain": domain, "task": name, "obs": "pixels", "action_repeat": 4, "size": 84},
        "choices": {
            "env": "dmc", "agent": "sac", "augment": augment, "aux": aux, "encoder": "curl", "preset": "paper",
        },
        "requested": {"device": "auto", "compile": "auto", "train.agent_steps": None},
    }  # fmt: skip
    return usual | {key: usual.get(key, {}) | value for key, value in shape.more.items()}


def versions() -> dict[str, Any]:
    """Return what versions.json says."""
    return {
        "packages": {"rlrep": "0.1.0", "torch": "2.13.0", "numpy": "2.3.5"},
        "simulators": {"mujoco": "3.3.0", "dm_control": "1.0.28"},
        "python": "3.11.7",
        "git": "0" * 40,
        "device": "cpu: none",
    }


def _write_evaluations(path: Path, level: float, shape: Shape, draws: np.random.Generator) -> None:
    rows: list[list[object]] = []
    for number in range(1, shape.evaluations + 1):
        env_steps = shape.env_steps * number // shape.evaluations
        mean = level * (1 - np.exp(-4 * number / shape.evaluations))
        kind = "final" if shape.finished and number == shape.evaluations else "periodic"
        for episode in range(shape.episodes):
            found = float(np.clip(mean + draws.normal(0, 40), 0, 1000))
            rows.append([env_steps // 4, env_steps, env_steps // 4, env_steps / 50, episode, found, 250, "", kind])
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(rows)


def _write_metrics(path: Path, aux: str, shape: Shape, draws: np.random.Generator) -> None:
    head = ("loss", "accuracy", "same_return_rate", "positive_similarity", "negative_similarity")
    names = ["loss/critic", "q/mean", "rep/effective_rank", "rep/feature_std"]
    names += [] if aux == "none" else [f"aux/{aux}/{name}" for name in head]
    names += [f"perf/rate_{number}" for number in range(10)]
    values = np.cumsum(draws.normal(0, 0.05, (shape.logged, len(names))), axis=0) + draws.uniform(0.2, 1, len(names))
    lines = []
    for number, row in enumerate(values, start=1):
        env_steps = shape.env_steps * number // shape.logged
        steps = {"agent_steps": env_steps // 4, "env_steps": env_steps, "updates": env_steps // 4, "wall_seconds": 1.0}
        lines.append(json.dumps(steps | dict(zip(names, row.tolist(), strict=True))))
    path.write_text("\n".join(lines) + "\n")


def write_grid(
    root: Path,
    *,
    tasks: Sequence[str] = TASKS,
    arms: Sequence[tuple[str, str]] = ARMS,
    seeds: int = 50,
    shape: Shape | None = None,
) -> int:
    """Write `tasks` x `arms` x `seeds` runs into their default folders under `root` and return how many."""
    for task in tasks:
        for augment, aux in arms:
            for seed in range(seeds):
                folder = root / f"dmc_{task.replace('-', '_')}" / "paper" / f"sac-{augment}-{aux}" / f"seed{seed}"
                write_run(folder, task, (augment, aux), seed, shape)
    return len(tasks) * len(arms) * seeds
