"""Which training objects contrastive learning learns, and when (Sadrtdinov, Chirkova, Lobacheva 2021)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from rlrep.contrast.pairs import unit
from rlrep.contrast.parts import NTXent, Projection
from rlrep.settings.ranges import at_least, positive
from rlrep.ssl import Classifier, JointEmbedding
from rlrep.ssl.base import Method, MethodConfig
from rlrep.ssl.data import ImageData
from rlrep.ssl.evaluation import encode
from rlrep.ssl.optimiser import OptimiserConfig
from rlrep.views import NoAugment
from rlrep.views.compose import multi_view

from .study import About, Claim, Line, Measured, Numbers, Panel, Study
from .training import DIGIT_VIEW, balanced_digits, digit_learner

SIMCLR, SUPERVISED, RANDOM = "simclr", "supervised", "random labels"
_SORTED, _POINTS = "how often objects are right", 50
_DRAWS = 10
Right = Callable[[Method], Tensor]
"""Which objects a network has right, bool `(M, K)`: by fixed augmentation and object."""


def partner_found(first: Tensor, second: Tensor) -> Tensor:
    """Return bool `(B,)`: of which rows of first `(B, D)` the most similar of all 2B - 1 others is its own second view.

    Among random embeddings that is so with probability 1/(2B - 1).
    """
    z = unit(torch.cat([first, second]))
    nearest = (z @ z.T).fill_diagonal_(-2.0)[: len(first)].argmax(1)
    return nearest == torch.arange(len(first)) + len(first)


def distance_to_binomial(hits: Tensor) -> float:
    """Return the mean distance of the sorted shares of hits `(T, K)` of K objects to those of objects that are alike.

    Alike: every hit has the same probability, the mean one; the mean over ten draws of T hits for K objects.
    """
    return float(np.abs(alike(hits) - np.sort(hits.double().mean(0).numpy())).mean())


def alike(hits: Tensor) -> NDArray[np.float64]:
    """Return sorted shares `(10, K)` of objects that are alike, drawn ten times."""
    trials, count = hits.shape
    random = np.random.default_rng(0)
    return np.sort(random.binomial(trials, float(hits.double().mean()), (_DRAWS, count)) / trials, axis=1)


def excess_variance(hits: Tensor) -> float:
    """Return the variance over K objects of the shares of hits `(T, K)` over that of objects that are alike: 1."""
    shares, p = hits.double().mean(0), hits.double().mean()
    return float(shares.var() / (p * (1.0 - p) / len(hits)).clamp_min(1e-12))


@dataclass(frozen=True)
class Memorisation(Study):
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

    def measure(self) -> Measured:
        """Train networks by each method, and ask them about the same objects, views and batches all along."""
        data = balanced_digits(self.per_class, size=self.size)
        pair = (DIGIT_VIEW, DIGIT_VIEW)
        shown = [multi_view(data.images, pair, Generator().manual_seed(number)) for number in range(self.pairs)]
        permuted = data.labels["digit"][torch.randperm(len(data))]
        contrast = JointEmbedding(pair, Projection(256, 64, norm="none"), NTXent(self.temperature), forward="together")
        arms: dict[str, tuple[MethodConfig, ImageData, Right]] = {
            SIMCLR: (contrast, data, lambda method: self._partners(method, shown)),
            SUPERVISED: (Classifier((DIGIT_VIEW,)), data, lambda method: _classified(method, data, shown)),
        }
        plain, bare = replace(data, labels={"digit": permuted}), [data.images[None]]
        arms[RANDOM] = Classifier((NoAugment(None),)), plain, lambda method: _classified(method, plain, bare)
        numbers: Numbers = {}
        lines: dict[str, Line] = {}
        for name, arm in arms.items():
            hits = self._hits(*arm)
            numbers |= {f"{name}/{key}": value for key, value in _described(hits).items()}
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
        looks = min(map(len, runs))
        hits = torch.stack([torch.stack(run[:looks]) for run in runs], 1)  # look, training, pair, object
        reached = (hits.double().mean((1, 2, 3)) >= self.at).nonzero().flatten().tolist()
        return hits[reached[0] if reached else -1]

    def _train(self, method: MethodConfig, data: ImageData, right: Right) -> list[Tensor]:
        """Train one network and return what it has right, at every look."""
        adam = OptimiserConfig("adamw", self.lr, lr_scale="none", schedule="constant")
        seed = int(torch.randint(2**31, ()))
        learner = digit_learner(method, data, updates=self.most, batch_size=self.batch_size, optimiser=adam, seed=seed)
        looks: list[Tensor] = []
        for update in range(1, self.most + 1):
            learner.update()
            if update % self.every == 0 or update == self.most:
                looks.append(right(learner.method))
                if float(looks[-1].double().mean()) >= self.enough:
                    break
        torch.manual_seed(seed)  # a training does not depend on how long the one before took
        return looks

    def _partners(self, method: Method, shown: Sequence[Tensor]) -> Tensor:
        """Return whether every object's second view is found from its first, among the views of its fixed batch."""
        found = []
        for views in shown:
            first, second = (encode(method.online, each).split(self.batch_size) for each in views)
            found.append(torch.cat([partner_found(*both) for both in zip(first, second, strict=True)]))
        return torch.stack(found)


@torch.no_grad()
def _classified(method: Method, data: ImageData, shown: Sequence[Tensor]) -> Tensor:
    """Return whether the first view of every object is given its label."""
    found = []
    for views in shown:
        logits = method.logits(views[0])
        assert logits is not None
        found.append(logits.argmax(1) == data.labels["digit"])
    return torch.stack(found)


def _described(hits: Tensor) -> Numbers:
    """Return what hits `(N, M, K)` of N trainings and M augmentations say of K objects."""
    return {
        "right": float(hits.double().mean()),
        "distance": distance_to_binomial(hits.flatten(0, 1)),
        "fixed variance": float(np.mean([excess_variance(pair) for pair in hits.unbind(1)])),
    }
