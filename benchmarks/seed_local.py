"""LoCo beside Greedy InfoMax and end-to-end training: what a step keeps for its backward pass, how long it takes, and
what a linear probe reads. A suite of `python -m benchmarks.seed_methods`."""

import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from rlrep.config.pretrain_compose import compose_pretraining
from rlrep.loops.pretraining.job import build
from rlrep.nn import ResNetConfig
from rlrep.ssl import DataShape, ImageBatch, LocalContrast, Method
from rlrep.ssl.evaluation import ProbeConfig, ProbeData, encode, score_features, summarise

ARMS: dict[str, tuple[str, ...]] = {
    "end to end": ("method.overlap=null",),
    "loco": (),
    "greedy infomax": ("method.overlap=0",),
}
WORDS = (
    *("method=loco", "data=digits", "preset=cpu", "device=cpu", "logger=none", "data.size=16", "encoder=resnet18"),
    *("encoder.width=8", "encoder.blocks=[1,1,1,1]", "train.batch_size=128", "train.updates=300"),
)
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


def resnet_bytes(overlap: Any, *, width: int, size: int, count: int) -> int:
    """Return what a step of ResNet-18 on frames of `size` pixels keeps."""
    config = compose_pretraining(["method=loco", "preset=cpu", "data=digits", "out=x"]).config.method
    assert isinstance(config, LocalContrast)
    settings = replace(config, overlap=overlap)
    encoder = ResNetConfig(width=width).make((3, size, size))
    method = settings.make(encoder, DataShape((3, size, size), 0, count)).train()
    views = torch.randint(0, 256, (2, count, 3, size, size), dtype=torch.uint8)
    return kept_bytes(method, ImageBatch(tuple(views)))


def readout(seed: int, words: Sequence[str]) -> dict[str, float]:
    """Return the probes of one arm's run, and its seconds of processor time."""
    config = compose_pretraining([*WORDS, *words, f"seed={seed}", "out=unused"]).config
    split, _, learner = build(config, torch.device("cpu"))
    started = time.process_time()
    for _ in range(learner.length.updates):
        learner.update()
    seconds = time.process_time() - started
    data = ProbeData.of(split, PROBE)
    train_x, test_x = (
        encode(learner.method.encoder, each.images, learner.views[0]) for each in (data.train, data.test)
    )
    found = summarise(score_features("encoder", train_x, test_x, data, PROBE))
    return {"seconds": seconds, **{key.rpartition("/")[2]: value for key, value in found.items()}}


def measure(seeds: Sequence[int], say: Callable[[str], None]) -> dict[str, Any]:
    """Return the suite's runs: bytes by arm, and probes by arm and seed."""
    arms = {"end to end": None, "loco": 1, "greedy infomax": 0}
    kept = {arm: resnet_bytes(overlap, width=64, size=32, count=8) for arm, overlap in arms.items()}
    say(f"local: bytes kept {kept}")
    found: dict[str, list[dict[str, float]]] = {arm: [] for arm in ARMS}
    for seed in seeds:
        for arm, words in ARMS.items():
            found[arm].append(readout(seed, words))
            say(f"local {arm} seed {seed}: {found[arm][-1]}")
    return {"bytes": kept, "readout": found}
