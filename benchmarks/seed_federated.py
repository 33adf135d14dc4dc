"""Ten parties with few classes of digits each: alone, FedAvg, MOON, on the same seeds; test accuracy and both cosines.

    python -m benchmarks.seed_federated [--seeds N]

Writes results/seed_federated.json after every seed, as far as it is.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from rlrep.config.federate_compose import compose_federation
from rlrep.federated import Server
from rlrep.loops.pretraining.job import build
from rlrep.ssl.classification import classifier_scores
from rlrep.ssl.data.image_data import class_count

from . import result
from .tables import spread

WORDS = (
    *("data=digits", "data.size=16", "preset=cpu", "device=cpu", "logger=none", "parties=10", "rounds=15"),
    *("local_epochs=10", "partition=dirichlet", "partition.beta=0.1", "train.batch_size=32"),
    *("optimiser.name=adamw", "optimiser.lr=1e-3", "optimiser.weight_decay=1e-5", "augment=none", "method=moon"),
)
ARMS = {"solo": ("method.mu=0", "average=false"), "fedavg": ("method.mu=0",), "moon": ("method.mu=1",)}
EARLY = 3
SETTLED = 3
"""Seeds below it are those that the settings were chosen on; SGD at 0.05 diverged on one of them."""
COLUMNS = ("arm", "seeds", "accuracy, round 3", "accuracy, round 15", "cosine to received", "cosine to previous", "s")


def trained(seed: int, words: Sequence[str]) -> dict[str, float]:
    """Return an arm's accuracy, the mean over models, early and at the end; the last round's cosines; seconds."""
    config = compose_federation([*WORDS, *words, f"seed={seed}", "out=unused"]).config
    split, _, learner = build(config, torch.device("cpu"))
    setup = config.setup(class_count(split.train, config.train.label))
    server = Server(setup, learner, config.engine.make(setup, split.train), average=config.average)
    found, started = {}, time.process_time()
    for number in range(1, config.rounds + 1):
        server.round(lambda _: None)
        if number in (EARLY, config.rounds):
            scores = [
                classifier_scores(method, split.train, split.test, "digit", learner.views[0], config.probe)[0].value
                for method in server.models()
            ]
            found["early" if number == EARLY else "final"] = statistics.fmean(scores)
    cosines = {name: server.metrics()[f"train/cosine_{name}"] for name in ("global", "previous")}
    return {**found, **cosines, "seconds": time.process_time() - started}


def measure(seeds: Sequence[int], say: Callable[[str], None]) -> dict[str, list[dict[str, float]]]:
    """Return every arm's runs, in the order of seeds."""
    found: dict[str, list[dict[str, float]]] = {arm: [] for arm in ARMS}
    for seed in seeds:
        for arm, words in ARMS.items():
            found[arm].append(trained(seed, words))
            say(f"federated {arm} seed {seed}: {found[arm][-1]}")
    return found


def rows(found: dict[str, list[dict[str, float]]]) -> list[list[Any]]:
    """Return the table: means over seeds, and from five on how far these are known."""
    keys = ("early", "final", "global", "previous", "seconds")
    told = {arm: [[run[key] for run in runs] for key in keys] for arm, runs in found.items()}
    return [
        [arm, len(found[arm]), *(f"{statistics.fmean(values):.3f}{spread(values, 3)}" for values in columns)]
        for arm, columns in told.items()
    ]


def main() -> None:
    """Measure, and write the result file."""
    parser = result.command_line(__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    asked = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {arm: [] for arm in ARMS}
    for seed in result.fresh_seeds(asked.seeds, SETTLED):
        for arm, runs in measure([seed], print).items():
            found[arm] += runs
        limits = "Digits of 16 pixels, a small CNN; every seed deals the classes anew. s: of one core."
        result.save(asked.results / "seed_federated.json", COLUMNS, rows(found), limits=limits, more={"runs": found})


if __name__ == "__main__":
    main()
