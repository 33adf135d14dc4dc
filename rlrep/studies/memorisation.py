"""Which training objects contrastive learning learns, and when (Sadrtdinov, Chirkova, Lobacheva 2021)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Generator, Tensor

from rlrep.contrast.parts import NTXent, Projection
from rlrep.settings.ranges import at_least, positive
from rlrep.ssl import Classifier, JointEmbedding
from rlrep.ssl.base import Method, MethodConfig
from rlrep.ssl.data import ImageData
from rlrep.ssl.optimiser import OptimiserConfig
from rlrep.views import NoAugment
from rlrep.views.compose import multi_view

from .memorised_images import MemorisationOfEncoder
from .memory import Right, alike, described, looks, partners, reached
from .study import About, Applied, Claim, Line, Measured, Numbers, Panel, Study, Subject
from .training import DIGIT_VIEW, balanced_digits, digit_learner

SIMCLR, SUPERVISED, RANDOM = "simclr", "supervised", "random labels"
_SORTED, _POINTS = "how often objects are right", 50


@dataclass(frozen=True)
class Memorisation(Applied):
    """Settings.

    per_class, size: objects of each of the ten digits, and the side of their images in pixels.
    batch_size: of training, and of the fixed batches of evaluation.
    trainings, pairs: N and M, networks and fixed augmentations per object.
    most: updates of a network, which stops once it has `enough` of the objects right. every: updates between two looks.
    at: share of right objects at which the methods are compared.
    lr: of Adam. temperature: of NT-Xent.
    """

    per_class: int = 50
    size: int = 16
    batch_size: int = 100
    trainings: int = 5
    pairs: int = 4
    most: int = 200
    every: int = 2
    enough: float = 0.4
    at: float = 0.25
    lr: float = 1e-3
    temperature: float = 0.07

    about = About(
        title="What contrastive learning memorises",
        source="Sadrtdinov, Chirkova, Lobacheva 2021, Memorization properties of contrastive learning, 2107.10143",
        claim=(
            "How often a training object is classified right, over trainings and augmentations, tells how complex it "
            "is. Under SimCLR, where an object is told from all others of its batch, objects are about equally "
            "complex, as with random labels, while supervised training finds some easy and some hard; for a single "
            "fixed augmentation SimCLR's objects differ, too: augmentations are easy or hard."
        ),
        setup=(
            "Five hundred of scikit-learn's digits, a small convolutional network, `method=simclr`, "
            "`method=cross_entropy` with the same views, and the same without views on permuted labels; five "
            "trainings, four augmentations drawn once, fixed batches. Compared where a quarter of the objects "
            "is right: the distance of the sorted shares to those of objects that are alike (binomial), and the "
            "variance over objects over the binomial's. The paper trains ResNet-18 on CIFAR-10, 30 times."
        ),
    )
    claims = (
        Claim("supervised objects differ more: distance to binomial over SimCLR's", "supervised over simclr", low=1.6),
        Claim("SimCLR is nearer to random labels than to supervised", "nearer random labels", low=0.0),
        Claim("a fixed augmentation: SimCLR's variance over the binomial's", f"{SIMCLR}/fixed variance", low=2.0),
    )
    panels = (Panel(_SORTED, "objects, sorted", "share of trainings and views"),)

    def __post_init__(self) -> None:
        at_least(self, 1, ("per_class", "pairs", "most", "every"))
        at_least(self, 2, ("batch_size", "trainings"))
        positive(self, ("lr", "temperature"))
        if not 0.0 < self.at <= self.enough <= 1.0:
            raise ValueError(f"at={self.at} must be above 0 and at most enough={self.enough}, which is at most 1")
        if self.per_class * 10 % self.batch_size:
            raise ValueError(f"batch_size={self.batch_size} does not divide the {self.per_class * 10} objects")

    def of(self, subject: Subject) -> Study:
        """Return the study of an encoder's images. Raises ConfigError on fewer than two batches of them."""
        return MemorisationOfEncoder(subject)

    def measure(self) -> Measured:
        """Train networks by each method, and ask them about the same objects, views and batches all along."""
        data = balanced_digits(self.per_class, size=self.size)
        pair = (DIGIT_VIEW, DIGIT_VIEW)
        shown = [multi_view(data.images[:], pair, Generator().manual_seed(number)) for number in range(self.pairs)]
        permuted = data.labels["digit"][torch.randperm(len(data))]
        contrast = JointEmbedding(pair, Projection(256, 64, norm="none"), NTXent(self.temperature), forward="together")
        arms: dict[str, tuple[MethodConfig, ImageData, Right]] = {
            SIMCLR: (contrast, data, lambda method: partners(method, shown, self.batch_size)),
            SUPERVISED: (Classifier((DIGIT_VIEW,)), data, lambda method: _classified(method, data, shown)),
        }
        plain, bare = replace(data, labels={"digit": permuted}), [data.images[:][None]]
        arms[RANDOM] = Classifier((NoAugment(None),)), plain, lambda method: _classified(method, plain, bare)
        numbers: Numbers = {}
        lines: dict[str, Line] = {}
        for name, arm in arms.items():
            hits = self._hits(*arm)
            numbers |= {f"{name}/{key}": value for key, value in described(hits).items()}
            shares, level = np.sort(hits.double().mean((0, 1)).numpy()), alike(hits.flatten(0, 1)).mean(0)
            places = np.linspace(0, len(shares) - 1, _POINTS).round().astype(int)
            lines[name] = places.tolist(), shares[places].tolist()
            lines[f"{name}, if all were alike"] = places.tolist(), level[places].tolist()
        simclr, supervised, random = (numbers[f"{name}/distance"] for name in (SIMCLR, SUPERVISED, RANDOM))
        numbers["supervised over simclr"] = supervised / max(simclr, 1e-9)
        numbers["nearer random labels"] = abs(supervised - simclr) - abs(random - simclr)
        return Measured(numbers, {_SORTED: lines})

    def _hits(self, method: MethodConfig, data: ImageData, right: Right) -> Tensor:
        """Return `(N, M, K)` bool at the first look at which the mean is at least `at`, or at the last."""
        runs = [self._train(method, data, right) for _ in range(self.trainings)]
        return reached(runs, self.at)[1]

    def _train(self, method: MethodConfig, data: ImageData, right: Right) -> list[Tensor]:
        """Train one network and return what it has right, at every look."""
        adam = OptimiserConfig("adamw", self.lr, lr_scale="none", schedule="constant")
        seed = int(torch.randint(2**31, ()))
        learner = digit_learner(method, data, updates=self.most, batch_size=self.batch_size, optimiser=adam, seed=seed)
        found = looks(learner, right, most=self.most, every=self.every, enough=self.enough)
        torch.manual_seed(seed)  # a training does not depend on how long the one before took
        return found


@torch.no_grad()
def _classified(method: Method, data: ImageData, shown: Sequence[Tensor]) -> Tensor:
    """Return whether the first view of every object is given its label."""
    found = []
    for views in shown:
        logits = method.logits(views[0])
        assert logits is not None
        found.append(logits.argmax(1) == data.labels["digit"])
    return torch.stack(found)
