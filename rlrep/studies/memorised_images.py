"""Which of an encoder's images contrastive learning learns late, after Sadrtdinov, Chirkova, Lobacheva 2021."""

from copy import deepcopy

import torch
from torch import Generator, Tensor

from rlrep.contrast.parts import NTXent, Projection
from rlrep.nn import Encoder
from rlrep.settings import ConfigError
from rlrep.ssl import JointEmbedding, Learner
from rlrep.ssl.data import ImageData
from rlrep.ssl.optimiser import OptimiserConfig
from rlrep.views import RandomShift
from rlrep.views.compose import multi_view

from .memory import described, looks, partners, reached
from .study import About, Claim, Line, Measured, OfEncoder, Panel, Subject
from .training import learner_of

OBJECTS, BATCH = 200, 50
TRAININGS, PAIRS, MOST, EVERY = 5, 4, 60, 3
AT, ENOUGH = 0.25, 0.5
_RISE, _BINS = "objects found over training", "learned where a quarter is"


class MemorisationOfEncoder(OfEncoder):
    """Which images SimCLR finds early, from random weights, and which the encoder tells apart already."""

    about = About(
        title="Which of an encoder's images are learned late?",
        source="After Sadrtdinov, Chirkova, Lobacheva 2021, Memorization of contrastive learning, 2107.10143",
        claim=(
            "Over trainings and augmentations SimCLR's objects are about equally complex; for a fixed augmentation "
            "they differ. An encoder that was trained on such images finds more of them than one of random weights."
        ),
        setup=(
            "Images that an agent sees while it acts, or that a pretraining run held out, in an order drawn once: "
            f"{OBJECTS} of them, batches of {BATCH}, {PAIRS} pairs of random shifts drawn once. SimCLR trains "
            f"{TRAININGS} networks of the same architecture from random weights, and one from the encoder's; an image "
            "is right where its second view is the most similar one of its batch. The right panel has the share of "
            "each bin's images that are right where a quarter of all is: low bins are learned late. Bins are "
            "of the return that follows an observation, of a class, or of the time in an episode."
        ),
    )
    claims = (
        Claim("a fixed augmentation: variance over the binomial's", "random weights/fixed variance", low=2.0),
        Claim("over augmentations about alike: distance to binomial", "random weights/distance", high=0.1),
        Claim("before any update the encoder finds more than random weights", "found before training", low=0.0),
    )
    panels = (
        Panel(_RISE, "updates", "share of trainings and views"),
        Panel(_BINS, "bin", "share of trainings and views"),
    )

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.count = min(OBJECTS, len(subject.images)) // BATCH * BATCH
        if self.count < 2 * BATCH:
            raise ConfigError(
                f"{subject.place} gives {len(subject.images)} images, memorisation needs {2 * BATCH}: give frames=1000"
            )

    def measure(self) -> Measured:
        """Train from random weights and from the encoder, and ask about the same views and batches all along."""
        order = torch.randperm(len(self.subject.images))[: self.count]
        images, bins = self.subject.images[order], self.subject.bins[order]
        view = RandomShift(None)
        shown = [multi_view(images, (view, view), Generator().manual_seed(number)) for number in range(PAIRS)]
        random = [self._train(self.subject.make(), images, shown) for _ in range(TRAININGS)]
        own = self._train(deepcopy(self.subject.encoder), images, shown)
        look, hits = reached(random, AT)
        numbers = {f"random weights/{key}": value for key, value in described(hits).items()}
        before = {"encoder": float(own[0].double().mean()), "random weights": share([run[0] for run in random])}
        numbers |= {f"{name}/before training": value for name, value in before.items()}
        numbers |= {"found before training": before["encoder"] - before["random weights"], "updates": look * EVERY}
        shares, present = hits.double().mean((0, 1)), bins.unique()
        by_bin = [float(shares[bins == each].mean()) for each in present]
        numbers |= {f"bin {int(each)}": value for each, value in zip(present, by_bin, strict=True)}
        rise = {"from random weights": rising(random), "from the encoder": rising([own])}
        return Measured(numbers, {_RISE: rise, _BINS: {self.subject.binned: (present.tolist(), by_bin)}})

    def _train(self, encoder: Encoder, images: Tensor, shown: list[Tensor]) -> list[Tensor]:
        """Train one network and return what it has right, before the first update and at every look."""
        seed, view = int(torch.randint(2**31, ())), RandomShift(None)
        method = JointEmbedding((view, view), Projection(256, 64, norm="none"), NTXent(0.07), forward="together")
        adam = OptimiserConfig("adamw", 1e-3, lr_scale="none", schedule="constant")
        learner: Learner = learner_of(
            encoder, method, ImageData(images, {}), updates=MOST, batch_size=BATCH, optimiser=adam, seed=seed
        )
        before = partners(learner.method, shown, BATCH)
        after = looks(learner, lambda each: partners(each, shown, BATCH), most=MOST, every=EVERY, enough=ENOUGH)
        torch.manual_seed(seed)  # a training does not depend on how long the one before took
        return [before, *after]


def share(hits: list[Tensor]) -> float:
    """Return the share of what is right in all of these."""
    return float(torch.stack(hits).double().mean())


def rising(runs: list[list[Tensor]]) -> Line:
    """Return the mean share that is right at every look that all runs had."""
    shared = min(map(len, runs))
    return [EVERY * look for look in range(shared)], [share([run[look] for run in runs]) for look in range(shared)]
