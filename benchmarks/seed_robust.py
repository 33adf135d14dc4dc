"""Adversarial training on digits: accuracy of images, and of images under PGD of 40 steps.

    python -m benchmarks.seed_robust [--seeds N]

Plain training, PGD-AT, the same with a KL term, and ASCL on top of that, one after the other on the same seeds. Writes
results/seed_robust.json.
"""

import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch

from rlrep.config.pretrain_compose import compose_pretraining
from rlrep.loops.pretraining.job import build
from rlrep.ssl.classification import classifier_scores

from . import result
from .tables import spread

WORDS = (
    *("data=digits", "data.size=16", "preset=cpu", "device=cpu", "logger=none", "augment=none", "train.epochs=20"),
    *("train.batch_size=128", "optimiser.lr=3e-3", "encoder.strides=[2,1,1]", "out=unused"),
)
PLAIN, TRAINED, WITH_KL = "plain", "PGD-AT", "PGD-AT + KL"
ARMS: dict[str, tuple[str, ...]] = {
    PLAIN: ("method=cross_entropy",),
    TRAINED: ("method=ascl", "method.selection=none", "method.divergence=0"),
    WITH_KL: ("method=ascl", "method.selection=none"),
    "ascl": ("method=ascl",),
}
KEPT = ("kept_positives", "kept_negatives")
MEASURES = ("accuracy", "robust_accuracy", *KEPT)
Found = Mapping[str, Sequence[Mapping[str, float]]]
"""By arm, the measures of every seed."""


def run(seed: int, *words: str) -> dict[str, float]:
    """Train one arm, and attack it."""
    attacked = compose_pretraining([*WORDS, "method=ascl"]).config.probe
    config = compose_pretraining([*WORDS, *words, f"seed={seed}"]).config
    split, _, learner = build(config, torch.device("cpu"))
    for _ in range(learner.length.updates):
        learner.update()
    scores = classifier_scores(learner.method, learner.data, split.test, "digit", learner.views[0], attacked)
    trained = {name.removeprefix("train/"): value for name, value in learner.metrics().items()}
    return {score.metric: score.value for score in scores} | {name: trained[name] for name in KEPT if name in trained}


def mean(found: Found, arm: str, measure: str) -> float:
    """Return the mean over seeds."""
    return statistics.fmean(seed[measure] for seed in found[arm])


def rows(found: Found) -> Iterable[Sequence[object]]:
    """Return the table's lines: means, and from five seeds on how far these are known."""
    for arm, seeds in found.items():
        cells = ([seed[name] for seed in seeds if name in seed] for name in MEASURES)
        yield [arm, len(seeds), *(f"{statistics.fmean(v):.3f}{spread(v, 3)}" if v else "" for v in cells)]


def marks(found: Found) -> str:
    """Say which of our marks the means reach."""
    robust = {arm: mean(found, arm, "robust_accuracy") for arm in found}
    asked = {
        "plain training under PGD-40 at most .10": robust[PLAIN] <= 0.10,
        "PGD-AT at least .50": robust[TRAINED] >= 0.50,
        "ASCL at least PGD-AT + KL less .02": robust["ascl"] >= robust[WITH_KL] - 0.02,
        "fewer than .8 of the positives kept": mean(found, "ascl", KEPT[0]) < 0.8,
        "fewer than .10 of the negatives kept": mean(found, "ascl", KEPT[1]) < 0.10,
    }
    told = (f"{said}: {'reached' if reached else 'not reached'}" for said, reached in asked.items())
    return f"Asked for, of the means: {'; '.join(told)}."


def save(folder: Path, found: Found) -> None:
    """Write the result file."""
    result.save(
        folder / "seed_robust.json",
        ("arm", "seeds", "accuracy", "under PGD-40", "positives kept", "negatives kept"),
        rows(found),
        limits="Digits of 16x16, epsilon 0.15, no augmentation, 20 epochs. Kept: of the last batch.",
        more={"lines": {"marks": marks(found)}, "values": found},
    )


def main() -> int:
    """Run the command line; the result file is written after every seed."""
    parser = result.command_line(__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {arm: [] for arm in ARMS}
    for seed in result.fresh_seeds(options.seeds):
        for arm, words in ARMS.items():
            found[arm].append(run(seed, *words))
        save(options.results, found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
