"""Times pretraining (SimCLR) in images per second against plain eager loops with the same encoder and views.

    python -m benchmarks.pretraining_speed [--rounds 5] [--device cpu]

The loops are what one writes first: float images, torch.optim, a matrix of similarities; one makes the views image by
image, as data loaders do, the other with our batched views. All are timed in turn, ratios taken round by round.
Writes results/pretraining_speed_DEVICE.json.
"""

import argparse
import copy
import json
import statistics
import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from rlrep.config.pretrain_compose import compose_pretraining
from rlrep.config.pretrain_config import PretrainConfig
from rlrep.process.machine import keep_large_blocks, set_threads
from rlrep.ssl import Learner
from rlrep.ssl.data import ImageData
from rlrep.ssl.learner import plan
from rlrep.views import View

from . import machine
from .result import RESULTS

CASES = {
    "32x32 RGB, ResNet-18": ((3, 32, 32), ("encoder=resnet18", "augment=simclr_cifar")),
    "84x84 gray x 4, DER": ((4, 84, 84), ("encoder=der", "augment=mild")),
    "84x84 RGB x 3, CURL": ((9, 84, 84), ("encoder=curl", "augment=mild")),
}
"""Shape of an image, and the words that choose encoder and views."""
BATCH = 64
COLUMNS = ("images", "ours, images/s", "batched views, images/s", "ratio", "views image by image, images/s", "ratio")
Update = Callable[[], None]


def compose(shape: tuple[int, ...], words: tuple[str, ...]) -> PretrainConfig:
    """Return a run's settings; `augment` chooses both views."""
    (encoder, view), size = words, shape[-1]
    views = f"method.views=[{view.partition('=')[2]},{view.partition('=')[2]}]"
    common = ("method=simclr", "data=digits", f"data.size={size}", "preset=paper", "optimiser.name=sgd")
    return compose_pretraining([*common, encoder, views, f"train.batch_size={BATCH}"]).config


def ours(config: PretrainConfig, images: Tensor) -> tuple[Learner, Update]:
    """Return the learner of `python -m rlrep.pretrain`, and its update."""
    encoder = config.encoder.make(tuple(images.shape[1:]))
    length = plan(len(images), batch_size=BATCH, epochs=None, updates=1_000_000)
    learner = Learner(
        config.method, encoder, ImageData(images, {}), optimiser=config.optimiser, length=length, label=None, seed=0
    )
    return learner, learner.update


def eager(
    network: nn.Module, images: Tensor, view: View, make_views: Callable[[View, Tensor, Generator], Tensor]
) -> Update:
    """Return one step of a plain SimCLR loop on a copy of `network`."""
    network = copy.deepcopy(network).train()
    optimiser = torch.optim.SGD(network.parameters(), lr=0.03, momentum=0.9, weight_decay=1e-4)
    generator = Generator(images.device).manual_seed(0)

    def update() -> None:
        batch = images[torch.randint(len(images), (BATCH,), device=images.device)]
        z = F.normalize(network(torch.cat([make_views(view, batch, generator) for _ in range(2)])), dim=1)
        similarity = (z @ z.T / 0.5).fill_diagonal_(-torch.inf)
        loss = F.cross_entropy(similarity, torch.arange(2 * BATCH, device=z.device).roll(BATCH))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return update


def batched(view: View, images: Tensor, generator: Generator) -> Tensor:
    """Make the views of a batch at once."""
    return view(images, generator)


def one_by_one(view: View, images: Tensor, generator: Generator) -> Tensor:
    """Make the views of a batch image by image."""
    return torch.cat([view(image[None], generator) for image in images])


def rate(update: Update, device: str, seconds: float) -> float:
    """Return images per second."""
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        update()
        if device == "cuda":
            torch.cuda.synchronize()
        done += BATCH
    return done / (time.perf_counter() - start)


def measure(name: str, device: str, rounds: int, seconds: float) -> dict[str, float]:
    """Time a case's three loops in turn."""
    shape, words = CASES[name]
    torch.manual_seed(0)
    images = torch.randint(0, 256, (1024, *shape), dtype=torch.uint8).to(device)
    learner, update = ours(compose(shape, words), images)
    view = learner.views[0]
    loops = {
        "ours": update,
        "batched": eager(learner.method.online, images, view, batched),
        "one_by_one": eager(learner.method.online, images, view, one_by_one),
    }
    for loop in loops.values():
        loop()
    found = [{label: rate(loop, device, seconds) for label, loop in loops.items()} for _ in range(rounds)]
    result = {label: statistics.median(row[label] for row in found) for label in loops}
    for label in ("batched", "one_by_one"):
        result[f"ratio_{label}"] = statistics.median(row["ours"] / row[label] for row in found)
    print(name, {key: round(value, 2) for key, value in result.items()}, flush=True)
    return result


def main() -> int:
    """Measure and write the results. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each loop in each round")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args()
    set_threads()
    keep_large_blocks()
    cases = {name: measure(name, options.device, options.rounds, options.seconds) for name in CASES}
    rows = [
        [name, *(f"{c[k]:.2f}x" if k.startswith("ratio") else f"{c[k]:.0f}" for k in KEYS)] for name, c in cases.items()
    ]
    report = {
        "question": "How many images per second does SimCLR pretraining take in, against plain eager loops?",
        "limits": f"Random images, batch {BATCH}; all three use the same encoder, projector and augmentations.",
        "machine": machine.describe(),
        "rounds": options.rounds,
        "table": {"columns": list(COLUMNS), "rows": rows},
        "cases": {name: {key: round(value, 3) for key, value in case.items()} for name, case in cases.items()},
    }
    path = RESULTS / f"pretraining_speed_{options.device}.json"
    path.write_text(json.dumps(report, indent=1) + "\n")
    print(f"wrote {path}")
    return 0


KEYS = ("ours", "batched", "ratio_batched", "one_by_one", "ratio_one_by_one")

if __name__ == "__main__":
    sys.exit(main())
