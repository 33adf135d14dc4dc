"""Both losses of supervised learning end in a regular simplex (Graf, Hofer, Niethammer, Kwitt 2021)."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlrep.contrast import sup_con
from rlrep.nn import mlp
from rlrep.settings import ConfigError
from rlrep.settings.ranges import at_least, positive
from rlrep.ssl.optimiser import OptimiserConfig

from .study import About, Applied, Claim, Line, Measured, Numbers, OfEncoder, Panel, Study, Subject
from .training import DIGITS, as_vectors, balanced_digits, drawn, moments, train

_DEVIATION, _WITHIN = "deviation from the simplex", "within class"


def deviation(means: Tensor) -> float:
    """Return the largest |cos + 1/(K-1)| of two rows of means `(K, D)`: 0 at a regular simplex around the origin."""
    unit = F.normalize(means, dim=1)
    others = ~torch.eye(len(unit), dtype=torch.bool)
    return float(((unit @ unit.T)[others] + 1.0 / (len(unit) - 1)).abs().max())


def class_means(z: Tensor, labels: Tensor) -> Tensor:
    """Return the means `(K, D)` of the unit rows of z `(N, D)` by class, the classes of labels `(N,)` in order."""
    unit = F.normalize(z, dim=1)
    return torch.stack([unit[labels == name].mean(0) for name in labels.unique()])


def within(z: Tensor, labels: Tensor) -> float:
    """Return the mean cosine of rows of z `(N, D)` with the mean of their class: 1 where every class is one point."""
    means = class_means(z, labels)[labels.unique(return_inverse=True)[1]]
    return float(F.cosine_similarity(z, means, dim=1).mean())


def angular(means: Tensor) -> float:
    """Return the mean of 1 - angle/pi over pairs of rows of means `(K, D)`; 1 - arccos(-1/(K-1))/pi at a simplex."""
    unit = F.normalize(means.double(), dim=1)
    first, second = torch.triu_indices(len(unit), len(unit), 1)
    cosines = (unit[first] * unit[second]).sum(1).clamp(-1.0, 1.0)
    return float((1.0 - cosines.arccos() / math.pi).mean())


def geometry(z: Tensor, labels: Tensor) -> dict[str, float]:
    """Return how far embeddings `(N, D)` with labels `(N,)` are from the optimum of both losses."""
    means = class_means(z, labels)
    return {"deviation": deviation(means), "within": within(z, labels), "angular": angular(means)}


@dataclass(frozen=True)
class Simplex(Applied):
    """Settings.

    per_class: images of each of the ten digits.
    steps, batch_size, lr: of Adam; batches are drawn with replacement, as the authors draw them.
    hidden_dim, out_dim: of the network, two hidden layers.
    temperatures: of supervised contrast, a network each; the claims are about 0.5.
    radius: length of the rows of the classifier.
    """

    per_class: int = 80
    steps: int = 1000
    batch_size: int = 256
    lr: float = 3e-3
    hidden_dim: int = 256
    out_dim: int = 64
    temperatures: tuple[float, ...] = (0.1, 0.5, 1.0)
    radius: float = 4.0

    about = About(
        title="Supervised losses end in a simplex",
        source="Graf, Hofer, Niethammer, Kwitt 2021, Dissecting supervised contrastive learning, arXiv 2102.08817",
        claim=(
            "On balanced classes both supervised contrast and cross entropy are least where every class is one point "
            "and the points are a regular simplex on the sphere: cosines of class means are -1/(K-1), and the rows of "
            "the classifier are the same simplex (theorems 1 and 2)."
        ),
        setup=(
            "Ten classes of scikit-learn's digits, a ReLU network onto the sphere, `sup_con` of single views at three "
            "temperatures, cross entropy with a linear classifier without bias, whose rows have length 4 (the theorem "
            "bounds them), no augmentation, no weight decay. Measured on the training images, as the theorem is about "
            "those. The paper trains ResNet-18 on CIFAR."
        ),
    )
    claims = (
        Claim(
            "sup_con, t = 0.5: class means are a simplex, max abs(cos + 1/9)",
            "sup_con 0.5/deviation",
            high=0.03,
        ),
        Claim("sup_con, t = 0.5: classes collapse, cosine with the mean", "sup_con 0.5/within", low=0.985),
        Claim("cross entropy: class means are a simplex, max abs(cos + 1/9)", "cross entropy/deviation", high=0.03),
        Claim("cross entropy: classes collapse, cosine with the mean", "cross entropy/within", low=0.985),
        Claim("cross entropy: classifier and means agree, cosine", "cross entropy/classifier", low=0.95),
    )
    panels = (
        Panel(_DEVIATION, "steps", "max abs(cos + 1/(K-1)) of class means"),
        Panel(_WITHIN, "steps", "mean cosine with the class mean"),
    )

    def __post_init__(self) -> None:
        at_least(self, 1, ("per_class", "steps", "hidden_dim", "out_dim"))
        at_least(self, 2, ("batch_size",))
        positive(self, ("lr", "radius"))

    def of(self, subject: Subject) -> Study:
        """Return how far an encoder's return bins are from a simplex. Raises ConfigError on fewer than three bins."""
        return SimplexOfEncoder(subject)

    def measure(self) -> Measured:
        """Train a network by each loss and look at its class means."""
        data = balanced_digits(self.per_class)
        x, labels = as_vectors(data.images[:]), data.labels["digit"]
        numbers: dict[str, float] = {}
        curves: dict[str, dict[str, Line]] = {_DEVIATION: {}, _WITHIN: {}}
        for temperature in (*self.temperatures, None):
            name = "cross entropy" if temperature is None else f"sup_con {temperature:g}"
            found, lines = self._train(x, labels, temperature)
            numbers |= {f"{name}/{key}": value for key, value in found.items()}
            curves[_DEVIATION][name], curves[_WITHIN][name] = lines
        return Measured(numbers, curves)

    def _train(self, x: Tensor, labels: Tensor, temperature: float | None) -> tuple[Numbers, tuple[Line, Line]]:
        """Train one network; temperature None: by cross entropy. Returns its geometry at the end and over time."""
        network = mlp(x.shape[1], (self.hidden_dim, self.hidden_dim), self.out_dim)
        classifier = nn.Parameter(torch.randn(DIGITS, self.out_dim))

        def loss() -> Tensor:
            rows = drawn(len(x), self.batch_size)
            z = F.normalize(network(x[rows]), dim=1)
            if temperature is None:
                return F.cross_entropy(self.radius * z @ F.normalize(classifier, dim=1).T, labels[rows])
            return sup_con(z[:, None], labels[rows], temperature=temperature)

        parameters = [*network.parameters(), *([classifier] if temperature is None else [])]
        adam = OptimiserConfig("adamw", self.lr, lr_scale="none", weight_decay=0.0)
        shown, history = moments(self.steps), list[tuple[int, dict[str, float]]]()
        for step in train(parameters, loss, adam, self.steps):
            if step in shown:
                with torch.no_grad():
                    history.append((step, geometry(network(x), labels)))
        found = dict(history[-1][1])
        if temperature is None:
            means = class_means(network(x).detach(), labels)
            found["classifier"] = float(F.cosine_similarity(classifier.detach(), means, dim=1).mean())
        steps = [step for step, _ in history]
        return found, ((steps, [at["deviation"] for _, at in history]), (steps, [at["within"] for _, at in history]))


class SimplexOfEncoder(OfEncoder):
    """How far the return bins of an agent's latents are from the simplex that `aux=sup_con_return` would end in."""

    about = About(
        title="Are an encoder's return bins a simplex?",
        source="After Graf et al. 2021, Dissecting supervised contrastive learning, arXiv 2102.08817",
        claim=(
            "Supervised contrast of return bins is least where every bin is one point of a regular simplex; an encoder "
            "that such a head has shaped should have come nearer to it than one of random weights."
        ),
        setup=(
            "An agent acts on its environment; its observations are binned by quantiles of the return that follows, "
            "discounted by 0.9 over 20 steps, and its latents compared with those of an encoder of random weights. "
            "Of a pretraining run: images that it held out, and their classes."
        ),
    )
    claims = (
        Claim("return bins are a simplex: max abs(cos + 1/(K-1))", "encoder/deviation", high=0.03),
        Claim("return bins collapse: cosine with the mean", "encoder/within", low=0.985),
        Claim("nearer to the simplex than random weights: rise of the deviation", "rise of the deviation", high=0.0),
    )
    panels = (Panel("cosines of bins' means", "pairs, sorted", "cosine"),)

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        count = len(subject.bins.unique())
        if not subject.classes or count < 3:
            raise ConfigError(
                f"{subject.place}: its images have {count} bins of {subject.binned}, a simplex needs three classes: "
                f"give a run on labelled images, or of an agent whose returns differ"
            )

    def measure(self) -> Measured:
        """Compare both encoders' latents."""
        numbers, lines = dict[str, float](), dict[str, Line]()
        for name, z in (("encoder", self.subject.latents), ("random weights", self.subject.untrained)):
            z = z - z.mean(0)  # the simplex is around the origin, a latent after a ReLU or layer norm need not be
            numbers |= {f"{name}/{key}": value for key, value in geometry(z, self.subject.bins).items()}
            unit = F.normalize(class_means(z, self.subject.bins), dim=1)
            first, second = torch.triu_indices(len(unit), len(unit), 1)
            cosines = (unit[first] * unit[second]).sum(1).sort().values.tolist()
            lines[name] = list(range(len(cosines))), cosines
            lines["simplex"] = list(range(len(cosines))), [-1.0 / (len(unit) - 1)] * len(cosines)
        numbers["rise of the deviation"] = numbers["encoder/deviation"] - numbers["random weights/deviation"]
        return Measured(numbers, {self.panels[0].title: lines})
