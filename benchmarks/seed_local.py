"""LoCo beside Greedy InfoMax and end-to-end training: what a step keeps for its backward pass, how long it takes, and
what a linear probe reads.

    python -m benchmarks.seed_local [--seeds N]

Writes results/seed_local.json.
"""

import statistics
import sys
import time
import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from rlrep.config.pretrain_compose import compose_pretraining
from rlrep.loops.pretraining.job import build
from rlrep.nn import ResNetConfig
from rlrep.ssl import DataShape, ImageBatch, Learner, LocalContrast, Method
from rlrep.ssl.data import Split
from rlrep.ssl.evaluation import ProbeConfig, ProbeData, encode, score_features, summarise

from . import result
from .tables import spread

END = "end to end"
ARMS: dict[str, tuple[Literal[0, 1] | None, tuple[str, ...]]] = {
    END: (None, ("method.overlap=null",)),
    "loco": (1, ()),
    "greedy infomax": (0, ("method.overlap=0",)),
}
GROUPS = (1, 2)
PROBES = ("linear_10_per_class_accuracy", "linear_accuracy")
Found = Mapping[str, Sequence[Mapping[str, float]]]
"""By arm, the probes of every seed."""
WORDS = ("method=loco", "data=digits", "preset=cpu", "device=cpu", "logger=none", "encoder=resnet18", "out=unused")
NARROW = ("data.size=16", "encoder.width=8", "train.batch_size=128", "train.updates=300")
"""What is probed: ResNet-18 with an eighth of its channels."""
TIMED = ("data.size=32", "train.batch_size=8", "train.updates=1000")
"""What is timed: ResNet-18 itself."""
ROUNDS, UPDATES = 5, 2
PROBE = ProbeConfig(labels_per_class=(10,))


class Kept:
    """How many bytes of tensors are kept for a backward pass at once, at most; storages counted once."""

    def __init__(self) -> None:
        self.now = self.peak = 0
        self._held: dict[int, int] = {}

    def pack(self, tensor: Tensor) -> "_Held":
        """Take a tensor that is to be kept."""
        place, size = tensor.untyped_storage().data_ptr(), tensor.untyped_storage().nbytes()
        if not self._held.get(place):
            self.now += size
            self.peak = max(self.peak, self.now)
        self._held[place] = self._held.get(place, 0) + 1
        held = _Held(tensor)
        weakref.finalize(held, self._drop, place, size)
        return held

    def _drop(self, place: int, size: int) -> None:
        self._held[place] -= 1
        if not self._held[place]:
            self.now -= size


class _Held:
    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


def kept_bytes(method: Method, batch: ImageBatch) -> int:
    """Return the most bytes of activations that a method's gradients keep at once; its own weights do not count."""
    kept, parameters = Kept(), [p for p in method.parameters() if p.requires_grad]
    own = {p.untyped_storage().data_ptr() for p in parameters}

    def pack(tensor: Tensor) -> Any:
        return tensor if tensor.untyped_storage().data_ptr() in own else kept.pack(tensor)

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda held: held.tensor if isinstance(held, _Held) else held):
        method.gradients(batch, parameters)
    return kept.peak


def resnet_bytes(overlap: Literal[0, 1] | None, group: int, *, count: int) -> int:
    """Return what a step of ResNet-18 on so many images of 32x32 keeps. group: blocks of a part, 2 = a stage."""
    config = compose_pretraining(["method=loco", "preset=cpu", "data=digits", "out=unused"]).config.method
    assert isinstance(config, LocalContrast)
    shape = (3, 32, 32)
    method = replace(config, overlap=overlap, group=group).make(ResNetConfig().make(shape), DataShape(shape, 0, count))
    views = torch.randint(0, 256, (2, count, *shape), dtype=torch.uint8)
    return kept_bytes(method.train(), ImageBatch(tuple(views)))


def made(words: Sequence[str]) -> tuple[Split, Learner]:
    """Return the data and what learns from it."""
    split, _, learner = build(compose_pretraining([*WORDS, *words]).config, torch.device("cpu"))
    return split, learner


def seconds() -> dict[str, list[float]]:
    """Return every arm's processor seconds per update of ResNet-18 in each round, in which all take turns."""
    learners = {arm: made((*TIMED, *words))[1] for arm, (_, words) in ARMS.items()}
    found: dict[str, list[float]] = {arm: [] for arm in learners}
    for learner in learners.values():
        learner.update()
    for _ in range(ROUNDS):
        for arm, learner in learners.items():
            started = time.process_time()
            for _ in range(UPDATES):
                learner.update()
            found[arm].append((time.process_time() - started) / UPDATES)
    return found


def readout(seed: int, words: Sequence[str]) -> dict[str, float]:
    """Return the probes of one arm's run."""
    split, learner = made((*NARROW, *words, f"seed={seed}"))
    for _ in range(learner.length.updates):
        learner.update()
    data = ProbeData.of(split, PROBE)
    train_x, test_x = (
        encode(learner.method.encoder, each.images, learner.views[0]) for each in (data.train, data.test)
    )
    found = summarise(score_features("encoder", train_x, test_x, data, PROBE))
    return {key.rpartition("/")[2]: value for key, value in found.items()}


def rows(
    kept: Mapping[str, Sequence[int]], taken: Mapping[str, Sequence[float]], found: Found
) -> Iterable[Sequence[object]]:
    """Return the table's lines; bytes and seconds as shares of end to end's."""
    for arm, seeds in found.items():
        shares = [f"{kept[arm][k] / kept[END][k]:.2f}" for k in range(len(GROUPS))]
        reads = [[seed[name] for seed in seeds] for name in PROBES]
        told = [f"{statistics.fmean(values):.3f}{spread(values, 3)}" if values else "" for values in reads]
        ratio = statistics.median(own / end for own, end in zip(taken[arm], taken[END], strict=True))
        yield [arm, *shares, f"{ratio:.2f}", len(seeds), *told]


def save(folder: Path, kept: Mapping[str, Sequence[int]], taken: Mapping[str, Sequence[float]], found: Found) -> None:
    """Write the result file."""
    result.save(
        folder / "seed_local.json",
        ("arm", "kept, by blocks", "kept, by stages", "time, by blocks", "seeds", "ten labels per class", "all labels"),
        rows(kept, taken, found),
        limits="Kept and time (of the processor, for an update) are shares of end to end's, of ResNet-18 on 32x32. "
        "Probed is a ResNet-18 with an eighth of the channels, by blocks, on digits of 16x16 after 300 updates.",
        more={"bytes": kept, "seconds": taken, "values": found},
    )


def main() -> int:
    """Run the command line; the result file is written before the runs, and after every seed."""
    parser = result.command_line(__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    kept = {arm: [resnet_bytes(overlap, group, count=8) for group in GROUPS] for arm, (overlap, _) in ARMS.items()}
    found: dict[str, list[dict[str, float]]] = {arm: [] for arm in ARMS}
    taken = seconds()
    save(options.results, kept, taken, found)
    for seed in result.fresh_seeds(options.seeds):
        for arm, (_, words) in ARMS.items():
            found[arm].append(readout(seed, words))
        save(options.results, kept, taken, found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
