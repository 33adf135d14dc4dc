"""Times pretraining (SimCLR) in images per second against plain eager loops with the same encoder and views.

    python -m benchmarks.pretraining_speed [--rounds 5] [--device cpu]

The loops are what one writes first: float images, torch.optim, a matrix of similarities; one makes the views image by
image, as data loaders do, the other with our batched views. All are timed in turn, ratios taken round by round.
Writes results/pretraining_speed_DEVICE.json.
"""

import copy
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

from . import result
from .timing import UPDATES, Numbers, Rounds, rate

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

    def timed(label: str) -> Numbers:
        return {UPDATES: rate(loops[label], device, seconds, stretch=1)}

    found = Rounds(list(loops), rounds, timed)
    speed = {label: BATCH * found.median(label)[UPDATES] for label in loops}
    ratios = {f"ratio_{label}": found.ratio("ours", label)["ratio"] for label in ("batched", "one_by_one")}
    return {key: round(value, 3) for key, value in (speed | ratios).items()}


def main() -> None:
    """Measure and write the results."""
    options = result.timing(__doc__, seconds=3.0).parse_args()
    set_threads()
    keep_large_blocks()
    cases = {name: measure(name, options.device, options.rounds, options.seconds) for name in CASES}
    result.save(
        options.results / f"pretraining_speed_{options.device}.json",
        COLUMNS,
        [
            [name, *(f"{c[k]:.2f}x" if k.startswith("ratio") else f"{c[k]:.0f}" for k in KEYS)]
            for name, c in cases.items()
        ],
        limits=f"Random images, batch {BATCH}; all three use the same encoder, projector and augmentations.",
        more={"rounds": options.rounds, "cases": cases},
    )


KEYS = ("ours", "batched", "ratio_batched", "one_by_one", "ratio_one_by_one")

if __name__ == "__main__":
    main()
