"""Run folders for the tests of the report."""

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import yaml

from benchmarks.synthetic_runs import ARMS, Shape, write_grid, write_run
from rlrep.contract.env import Scoring
from rlrep.envs.atari.env import Atari
from rlrep.envs.atari.games import SCORES
from rlrep.scores.comparison import Comparison, compare
from rlrep.scores.runs import find_folders, read_runs

SMALL = Shape(evaluations=5, episodes=2, logged=10)
BASE, SHIFT, CURL, RETURN = ARMS


def grid(root: Path, *, tasks: tuple[str, ...] = ("cartpole-swingup", "cheetah-run"), seeds: int = 2) -> Path:
    """Write two tasks x four arms x `seeds` and return the root."""
    write_grid(root, tasks=tasks, seeds=seeds, shape=SMALL)
    return root


def atari(folder: Path, game: str, seed: int = 0, **env: Any) -> Path:
    """Write a run on a game of Atari."""
    options = {"_target_": "a.Atari", "game": game, "protocol": "atari100k", "frame_skip": 4, **env}
    shape = Shape(400_000, 4, 2, 5, more={"env": options})
    write_run(folder, "atari-game", BASE, seed, shape)
    edit(folder, lambda tree: [tree["env"].pop(key, None) for key in ("domain", "task", "obs")])
    if game in SCORES:
        says(folder, Atari(game, **env).scoring())
    else:
        says(folder, replace(Atari("zaxxon", **env).scoring(), task=game))
    return folder


def says(folder: Path, scoring: Scoring) -> None:
    """Write what a run's environment says of its returns."""
    (folder / "scoring.json").write_text(json.dumps(asdict(scoring)))


def edit(folder: Path, change: Any) -> None:
    """Change a run's config in place."""
    tree = yaml.safe_load((folder / "config.yaml").read_text())
    change(tree)
    (folder / "config.yaml").write_text(yaml.safe_dump(tree))


def family(folder: Path, arm: tuple[str, str], seed: int) -> Path:
    """Write a run on a family of tasks: two test tasks, three adaptations, returns 10 * adaptation + seed."""
    write_run(folder, "family-of", arm, seed, SMALL)
    edit(folder, lambda tree: tree.update(env={"_target_": "a.Family"}))
    edit(folder, lambda tree: tree["choices"].update(env="cheetah_vel"))
    says(folder, Scoring())
    lines = ["agent_steps,env_steps,updates,wall_seconds,episode,return,length,success,kind,task,adaptation"]
    for steps, kind in ((50, "periodic"), (100, "final")):
        for task in range(2):
            lines += [f"{steps},{steps},1,1.0,0,{10 * k + seed},20,,{kind},t{task},{k}" for k in range(3)]
    (folder / "eval.csv").write_text("\n".join(lines) + "\n")
    return folder


def compared(root: Path, metric: str = "auto") -> list[Comparison]:
    """Read and compare everything below a folder."""
    runs, _ = read_runs(find_folders([root]))
    return compare(runs, metric)[0]


def copy_run(source: Path, target: Path) -> Path:
    """Copy a run folder."""
    shutil.copytree(source, target)
    return target
