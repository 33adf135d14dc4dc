"""VideoMoCo on moving digits: what an encoder still sees when frames are missing, and whether the adversary finds the
frames that matter.

    python -m benchmarks.seed_video [--seeds N]

Writes results/seed_video.json.
"""

import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rlrep.config.pretrain_compose import compose_pretraining
from rlrep.contrast.parts import Dropped, Dropper, Estimator, embedding_change
from rlrep.loops.pretraining.job import build
from rlrep.ssl import Learner
from rlrep.ssl.data import Split
from rlrep.ssl.evaluation import encode
from rlrep.ssl.probes import Fold, accuracy, linear_classes

from . import result
from .tables import spread

WORDS = (
    *("method=video_moco", "data=moving_digits", "preset=cpu", "device=cpu", "logger=none", "method.splits=1"),
    *("train.batch_size=256", "train.updates=400", "train.evaluations=1"),
)
PLAIN, OURS = "moco", "video_moco"
ARMS: dict[str, tuple[str, ...]] = {
    PLAIN: ("method.queue.decay=1.0", "method.dropper=null"),
    "random drop": ("method.dropper.estimator=random",),
    OURS: (),
}
CONDITIONS = ("whole", "2 of 8 dropped", "4 of 8 dropped", "worst adjacent pair")
ESTIMATORS: tuple[Estimator, ...] = ("random", "straight_through", "score_function")
FROZEN_SEEDS, STEPS = 3, 200
Found = Mapping[str, Sequence[Mapping[str, float]]]
"""By arm, the accuracies of every seed."""


@dataclass(frozen=True)
class Trained:
    """An arm's run of one seed."""

    learner: Learner
    split: Split


def train(seed: int, *words: str) -> Trained:
    """Train one arm."""
    config = compose_pretraining([*WORDS, *words, f"seed={seed}", "out=unused"]).config
    split, _, learner = build(config, torch.device("cpu"))
    for _ in range(learner.length.updates):
        learner.update()
    return Trained(learner, split)


def without(clips: Tensor, mask: Tensor) -> Tensor:
    """Return clips `(N, S, H, W)` whose frames in mask `(N, S)` are their own mean."""
    mean = clips.float().mean((2, 3), keepdim=True).round().to(torch.uint8)
    return torch.where(mask[:, :, None, None], mean, clips)


def velocity_read(run: Trained) -> dict[str, float]:
    """Return how well a linear probe fitted on whole clips reads the velocity, by what is missing in the test clips."""
    encoder, train_, test = run.learner.method.encoder, run.split.train, run.split.test
    train_x, frames = encode(encoder, train_.images), test.images.shape[1]
    labels = train_.labels["velocity"], test.labels["velocity"]
    order = torch.rand(len(test), frames, generator=torch.Generator().manual_seed(0)).argsort(1).argsort(1)
    masks = [order < 0, order < 2, order < 4]
    masks += [(torch.arange(frames) == t) | (torch.arange(frames) == t + 1) for t in range(frames - 1)]
    tests = [encode(encoder, without(test.images[:], mask.expand(len(test), frames))) for mask in masks]
    predicted = linear_classes(Fold(train_x, labels[0], torch.cat(tests), labels[1])).chunk(len(masks))
    found = [accuracy(each, labels[1]) for each in predicted]
    return dict(zip(CONDITIONS, [*found[:3], min(found[3:])], strict=True))


def change_found(run: Trained, estimator: Estimator, seed: int) -> float:
    """Return the mean change of a frozen encoder's embedding by the drops of an adversary trained against it."""
    torch.manual_seed(seed)
    network, images = run.learner.method.online.eval(), run.split.train.images
    dropper = Dropper(images.shape[1], 2, estimator).make(images.shape[1])
    adam = torch.optim.Adam(dropper.parameters(), 1e-3)
    changes = []
    for _ in range(STEPS if estimator != "random" else 40):
        clips = images[torch.randint(len(images), (128,))]
        drop: Dropped = dropper(clips, torch.rand(128, images.shape[1]))
        loss, change = _learn(network, dropper, drop, clips)
        if estimator != "random":
            adam.zero_grad()
            loss.backward()
            adam.step()
        changes.append(float(change.detach()))
    return statistics.fmean(changes[-20:])


def _learn(network: nn.Module, dropper: Any, drop: Dropped, clips: Tensor) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        whole = network(clips)
    pixels = drop.clip.requires_grad_()
    change: Tensor = embedding_change(network(pixels), whole)
    if dropper.config.estimator != "straight_through":
        return dropper.loss(drop, change), change.mean()
    (gradient,) = torch.autograd.grad(change.mean(), pixels)
    return dropper.straight_loss(drop, gradient), change.mean()


def rows(read: Found) -> Iterable[Sequence[object]]:
    """Return the table's lines."""
    for arm, seeds in read.items():
        told = ([seed[name] for seed in seeds] for name in CONDITIONS)
        yield [arm, len(seeds), *(f"{statistics.fmean(values):.3f}{spread(values, 3)}" for values in told)]


def marks(read: Found, changes: Mapping[str, Sequence[float]]) -> str:
    """Say which of our marks the means reach, and how much more than random drops the adversaries change."""
    video, moco = ({name: statistics.fmean(s[name] for s in read[arm]) for name in CONDITIONS} for arm in (OURS, PLAIN))
    gain = {name: video[name] - moco[name] for name in CONDITIONS}
    factors = {name: [a / b for a, b in zip(v, changes["random"], strict=True)] for name, v in changes.items()}
    asked = {
        "worst adjacent pair at least .15 above moco": gain[CONDITIONS[3]] >= 0.15,
        "2 of 8 dropped at least .05 above": gain[CONDITIONS[1]] >= 0.05,
        "whole at most .06 below": gain[CONDITIONS[0]] >= -0.06,
        "a frozen encoder's change at least twice that of random drops": min(factors["score_function"]) >= 2.0,
    }
    told = "; ".join(f"{said}: {'reached' if reached else 'not reached'}" for said, reached in asked.items())
    found = ", ".join(
        f"{name} {' '.join(f'{factor:.2f}' for factor in factors[name])}" for name in ESTIMATORS if name != "random"
    )
    return f"Asked for, of the means: {told}. Change of frozen encoders over that of random drops: {found}."


def main() -> int:
    """Run the command line; the result file is written after every seed."""
    parser = result.command_line(__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    read: dict[str, list[dict[str, float]]] = {arm: [] for arm in ARMS}
    changes: dict[str, list[float]] = {estimator: [] for estimator in ESTIMATORS}
    for seed in result.fresh_seeds(options.seeds):
        for arm, words in ARMS.items():
            run = train(seed, *words)
            read[arm].append(velocity_read(run))
            if arm == PLAIN and seed <= FROZEN_SEEDS:
                for estimator in ESTIMATORS:
                    changes[estimator].append(change_found(run, estimator, seed))
        result.save(
            options.results / "seed_video.json",
            ("arm", "seeds", *CONDITIONS),
            rows(read),
            limits="Accuracy of a linear probe of the velocity (nine classes), fitted on whole clips; 400 updates.",
            more={"lines": {"marks": marks(read, changes)}, "values": read, "change": changes},
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
