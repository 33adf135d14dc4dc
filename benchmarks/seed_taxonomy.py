"""A method of every class of docs/taxonomy.md, on digits and on frames of the toy: what its encoder tells.

    python -m benchmarks.seed_taxonomy [--seeds N] [--updates N]

Small and short, all arms alike, beside the untrained encoder. Writes results/seed_taxonomy.json.
"""

import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence

import torch

from rlrep.config.pretrain_compose import compose_pretraining
from rlrep.loops.pretraining.job import build
from rlrep.ssl.evaluation import ProbeData, encode, score_features, summarise

from . import result
from .tables import spread

UNTRAINED = "untrained"
ARMS = {
    UNTRAINED: "",
    "autoencoder": "generative: auto-encoding",
    "masked_autoencoder": "generative: auto-encoding",
    "loco": "contrastive: context and instance",
    "simclr": "contrastive: instance and instance",
    "byol": "contrastive without negatives",
    "barlow_twins": "contrastive by decorrelation",
    "adversarial_autoencoder": "generative-contrastive",
    "clae": "contrastive with an adversary",
}
DATA = {"digits": ("data=digits", "data.size=16"), "frames": ("data=toy_frames",)}
WORDS = ("preset=cpu", "device=cpu", "logger=none", "train.batch_size=128", "encoder.strides=[2,1,1]", "out=unused")
PROBES = {
    "digits": ("knn_accuracy", "linear_1_per_class_accuracy", "linear_10_per_class_accuracy"),
    "frames": ("linear_r2",),
}
"""What is shown, of each data set."""
Found = Mapping[str, Mapping[str, Sequence[Mapping[str, float]]]]
"""By data set and arm, the probes of every seed."""


def run(seed: int, arm: str, words: Iterable[str], updates: int) -> dict[str, float]:
    """Train one arm, and probe its encoder."""
    method = "autoencoder" if arm == UNTRAINED else arm
    length = f"train.updates={updates}"
    config = compose_pretraining([*WORDS, f"method={method}", *words, f"seed={seed}", length]).config
    split, encoder, learner = build(config, torch.device("cpu"))
    for _ in range(0 if arm == UNTRAINED else updates):
        learner.update()
    data, view = ProbeData.of(split, config.probe), learner.views[0]
    train, test = (encode(encoder, part.images, view) for part in (data.train, data.test))
    scores = summarise(score_features("encoder", train, test, data, config.probe))
    return {name.removeprefix("probe/encoder/"): value for name, value in scores.items()}


def rows(found: Found) -> Iterable[Sequence[object]]:
    """Return the table's lines: means, and from five seeds on how far these are known."""
    for data, arms in found.items():
        for arm, seeds in arms.items():
            for probe in PROBES[data]:
                values = [seed[probe] for seed in seeds]
                mean = f"{statistics.fmean(values):.3f}{spread(values, 3)}" if values else ""
                yield [data, ARMS[arm], arm, probe, len(values), mean]


def main() -> int:
    """Run the command line; the result file is written after every arm."""
    parser = result.command_line(__doc__)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--updates", type=int, default=300)
    options = parser.parse_args()
    found: dict[str, dict[str, list[dict[str, float]]]] = {data: {} for data in DATA}
    for seed in result.fresh_seeds(options.seeds):
        for data, words in DATA.items():
            for arm in ARMS:
                found[data].setdefault(arm, []).append(run(seed, arm, words, options.updates))
                result.save(
                    options.results / "seed_taxonomy.json",
                    ("data", "class", "arm", "probe", "seeds", "mean"),
                    rows(found),
                    limits=f"Small encoder, {options.updates} updates of 128; digits of 16x16, frames of the toy.",
                    more={"values": found},
                )
    return 0


if __name__ == "__main__":
    sys.exit(main())
