"""Data-efficient Rainbow under the protocol of Atari-100k: whole runs of 100,000 agent steps, 100 games at the end.

    python -m benchmarks.learn_atari [--dry-run] [--suite few|grid] [KEY=VALUE ...]

`few` is what two cores finish in two hours; `grid` is all 26 games x none, curl, return_contrast x five seeds.
"""

import argparse
from pathlib import Path

from rlrep.scores.published import published

from .grid import Run
from .label_quality import label_quality
from .learning import Study, main

ARMS = {"base": "aux=none", "curl": "aux=curl", "return_contrast": "aux=return_contrast"}
FEW = (
    ("krull", "base"),
    ("krull", "return_contrast"),
    ("freeway", "base"),
    ("freeway", "return_contrast"),
    ("road_runner", "base"),
    ("boxing", "base"),
)
METHODS = ("DER", "CURL", "SPR")
QUIET = ("video=false", "logger.tensorboard=false", "train.checkpoint_every=20000")


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--suite", choices=("few", "grid"), default="few")
    parser.add_argument("--seeds", type=int, help="default 1; grid: 5")


def plan(options: argparse.Namespace) -> Study:
    """Return the study. Seeds vary slowest, so that an interrupted grid is balanced."""
    grid = options.suite == "grid"
    chosen = tuple((game, arm) for game in games() for arm in ARMS) if grid else FEW
    seeds = options.seeds or (5 if grid else 1)
    runs = tuple(
        Run(game, arm, seed, (f"env=atari_{game}", ARMS[arm], *QUIET, *options.words))
        for seed in range(seeds)
        for game, arm in chosen
    )
    name = "learn_atari_grid" if grid else "learn_atari"
    return Study(
        name=name,
        question="Does Rainbow reach the published data-efficient Rainbow's scores, and does return contrast help it?",
        runs=runs,
        compared=("return_contrast", "base"),
        published=tuple(
            e for e in published("atari100k") if e.method in METHODS and e.task in {game for game, _ in chosen}
        ),
        limits=f"{seeds} seed{'s' * (seeds > 1)} per arm; the final return is the mean of 100 games.",
        more=lambda work, results: label_quality(runs, work, results / f"{name}_labels.png"),
    )


def games() -> list[str]:
    """Return the games of Atari-100k, those with a config of their own."""
    files = Path(__file__).parents[1].glob("configs/env/atari_*.yaml")
    return sorted(file.stem.removeprefix("atari_") for file in files)


if __name__ == "__main__":
    main(__doc__, "learn_atari", add_options, plan)
