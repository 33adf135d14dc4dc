"""Pixel SAC on cartpole_swingup at `preset=cpu`: the arms of an ablation, a sweep of return_contrast's main options.

    python -m benchmarks.learn_pixels [--dry-run] [--suite cpu|arms|sweep|paper] [--seeds 2] [KEY=VALUE ...]

`--suite paper` is the larger grid: the paper's settings and length, six tasks, five seeds. Count on days on a GPU.
"""

import argparse
from collections.abc import Iterator

from .grid import Run
from .learning import Study, main

AUGMENTS = {"cpu": "augment=random_shift", "paper": "augment=random_crop"}
"""Of every arm but the base, by preset."""
WEIGHTS = (0.01, 0.1, 1.0)
THRESHOLDS = (5.0, 20.0)
SUM = "aux.return_contrast.pull=sum"  # what the weights are of
QUIET = ("video=false", "logger.tensorboard=false")
PAPER_TASKS = ("cartpole", "cheetah", "walker", "finger", "reacher", "cup")


def arms(preset: str) -> dict[str, tuple[str, ...]]:
    """Return the words of each arm."""
    augment = AUGMENTS[preset]
    return {
        "base": ("augment=none", "aux=none"),
        "augmentation-only": (augment, "aux=none"),
        "curl": (augment, "aux=curl"),
        "return_contrast": (augment, "aux=return_contrast"),
    }


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--suite", choices=("cpu", "arms", "sweep", "paper"), default="cpu", help="cpu = arms and sweep"
    )
    parser.add_argument("--seeds", type=int, help="of the arms (default 2; paper: 5)")
    parser.add_argument("--sweep-seeds", type=int, default=1)
    parser.add_argument(
        "--sweep-env-steps", type=int, default=0, help="length of the sweep's runs (default: the preset's)"
    )


def arm_runs(env: str, preset: str, seeds: int, words: tuple[str, ...]) -> Iterator[Run]:
    """Yield the four arms. Seeds vary slowest, so that an interrupted grid is balanced."""
    for seed in range(seeds):
        for arm, choice in arms(preset).items():
            yield Run(env, arm, seed, (f"env={env}", f"preset={preset}", *choice, *QUIET, *words))


def sweep_runs(seeds: int, env_steps: int, words: tuple[str, ...]) -> Iterator[Run]:
    """Yield return_contrast at every weight and threshold (reward accumulated in a segment, action repeats summed)."""
    length = (f"train.env_steps={env_steps}",) if env_steps else ()
    for seed in range(seeds):
        for weight in WEIGHTS:
            for threshold in THRESHOLDS:
                head = (f"aux.return_contrast.weight={weight}", f"aux.return_contrast.threshold={threshold}", SUM)
                choice = (*arms("cpu")["return_contrast"], *head)
                arm = f"weight {weight} threshold {threshold:g}"
                yield Run(
                    "dmc_cartpole", arm, seed, ("env=dmc_cartpole", "preset=cpu", *choice, *length, *QUIET, *words)
                )


def plan(options: argparse.Namespace) -> Study:
    """Return the study of the chosen suite."""
    words = tuple(options.words)
    seeds = options.seeds or (5 if options.suite == "paper" else 2)
    runs: list[Run] = []
    if options.suite == "paper":
        runs += [run for task in PAPER_TASKS for run in arm_runs(f"dmc_{task}", "paper", seeds, words)]
    if options.suite in ("cpu", "arms"):
        runs += arm_runs("dmc_cartpole", "cpu", seeds, words)
    if options.suite in ("cpu", "sweep"):
        runs += sweep_runs(options.sweep_seeds, options.sweep_env_steps, words)
    return Study(
        name="learn_pixels" if options.suite == "cpu" else f"learn_pixels_{options.suite}",
        question="Does pixel SAC learn cartpole_swingup, and where does each arm, weight and threshold end?",
        runs=tuple(runs),
        limits=f"{seeds} seeds per arm, {options.sweep_seeds} per point of the sweep, one task, a small network: "
        "enough to see learning, not enough to rank the arms. `--suite paper` is the grid that could.",
        notes={"random_policy": 80} if options.suite != "paper" else {},
    )


if __name__ == "__main__":
    main(__doc__, "learn_pixels", add_options, plan)
