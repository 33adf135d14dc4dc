"""Does pretraining on frames help an agent? Pixel SAC on cartpole_swingup from scratch, from a pretrained encoder, and
with its convolutions frozen, at equal steps.

    python -m benchmarks.learn_pretrained [--dry-run] [--seeds 2] [--method simclr] [KEY=VALUE ...]

The encoder is pretrained first, on frames of random play, by `python -m rlrep.pretrain`.
"""

import argparse
from pathlib import Path

from .grid import Run, run_all
from .learning import Study, main
from .pretraining import FRAMES, QUIET, Pretraining

ENV = "dmc_cartpole"
FULL_SIZE = (f"env={ENV}", "preset=cpu", "augment=random_shift", "aux=none", "video=false", *QUIET)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--method", default="simclr", help="that pretrains the encoder")
    parser.add_argument("--env-steps", type=int, default=24_000)


def plan(options: argparse.Namespace) -> Study:
    """Pretrain where that is missing, and return the study."""
    words = (f"method={options.method}", f"data.path={options.work}/frames.safetensors")
    encoder = Pretraining(ENV, options.method, 0, (*words, *FRAMES[ENV], "preset=cpu", *QUIET))
    if not options.dry_run and not options.collect and not encoder.finished(options.work):
        run_all([encoder], options.work, jobs=1)
    return Study(
        name="learn_pretrained",
        question="At equal steps, does an encoder pretrained on frames of random play help pixel SAC?",
        runs=tuple(arms(encoder.folder(options.work), options)),
        limits=f"{options.seeds} seeds, one task, pretraining by {options.method} on frames of a random policy.",
        compared=("pretrained", "scratch"),
        notes={"pretraining": " ".join(["python", *encoder.command(Path("runs"))])},
    )


def arms(encoder: Path, options: argparse.Namespace) -> list[Run]:
    """Return the runs of all arms; seeds vary slowest."""
    load = (f"encoder.load={encoder}",)
    choices = {"scratch": (), "pretrained": load, "pretrained and frozen": (*load, "encoder.freeze=true")}
    length = f"train.env_steps={options.env_steps}"
    return [
        Run(ENV, arm, seed, (*FULL_SIZE, length, *choice, *options.words))
        for seed in range(options.seeds)
        for arm, choice in choices.items()
    ]


if __name__ == "__main__":
    main(__doc__, "learn_pretrained", add_options, plan)
