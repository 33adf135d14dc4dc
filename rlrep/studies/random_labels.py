"""How long it takes to fit labels of which a share is random (Graf, Hofer, Niethammer, Kwitt 2021)."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlrep.contrast import sup_con
from rlrep.nn import mlp
from rlrep.settings.ranges import at_least, positive, share
from rlrep.ssl.optimiser import OptimiserConfig

from .simplex import class_means
from .study import About, Claim, Line, Measured, Panel, Study
from .training import DIGITS, as_vectors, balanced_digits, drawn, train

CONTRAST, ENTROPY = "sup_con", "cross entropy"
_TIME = "steps to fit"
_FROM, _LINEAR = 0.6, 1.0 / 0.6


def corrupted(labels: Tensor, part: float, classes: int) -> Tensor:
    """Return labels `(N,)` of which a share is moved to another class, drawn by torch's global generator."""
    rows = torch.randperm(len(labels))[: int(part * len(labels))]
    moved = labels.clone()
    moved[rows] = (labels[rows] + torch.randint(1, classes, (len(rows),))) % classes
    return moved


def slope(shares: list[float], times: list[float]) -> float:
    """Return the slope of log time over log share by least squares: 1 where time is proportional to the share."""
    return float(np.polyfit(np.log(shares), np.log(times), 1)[0])


@dataclass(frozen=True)
class RandomLabels(Study):
    """Settings.

    per_class: images of each of the ten digits.
    shares: of labels that are random; slopes are over those from 0.4 on, and 0.6 and 1 are among them.
    most: steps, after which a network that has not fitted its labels is stopped.
    every: steps between two looks at the error. error: share of labels that may be missed.
    hidden_dim, out_dim, lr, batch_size, temperature: of the network, SGD with momentum 0.9, and supervised contrast.
    """

    per_class: int = 80
    shares: tuple[float, ...] = (0.2, 0.4, 0.6, 0.8, 1.0)
    most: int = 3000
    every: int = 20
    error: float = 0.01
    hidden_dim: int = 256
    out_dim: int = 64
    lr: float = 0.02
    batch_size: int = 128
    temperature: float = 0.1

    about = About(
        title="Time to fit random labels",
        source="Graf, Hofer, Niethammer, Kwitt 2021, Dissecting supervised contrastive learning, arXiv 2102.08817",
        claim=(
            "The steps until a network fits its training labels grow superlinearly with the share of random labels "
            "under supervised contrast, and about linearly under cross entropy (section 5.3)."
        ),
        setup=(
            "Scikit-learn's digits, a ReLU network onto the sphere, SGD, no augmentation; random labels always differ "
            "from the true ones. Fitted are labels of which at most 1 % are missed, by cross entropy's own classifier "
            "and, for `sup_con`, by the nearest class mean, where the paper trains a linear classifier to no error at "
            "all on ResNet-18's features of CIFAR-10. Proportional times have slope 1 and T(1)/T(0.6) = 1.67."
        ),
    )
    claims = (
        Claim("sup_con is superlinear: log-log slope from 0.4 on", f"{CONTRAST}/slope", low=1.0),
        Claim("sup_con is superlinear: T(1)/T(0.6)", f"{CONTRAST}/ratio", low=_LINEAR),
        Claim("cross entropy is at most linear: log-log slope from 0.4 on", f"{ENTROPY}/slope", high=1.0),
        Claim("cross entropy is at most linear: T(1)/T(0.6)", f"{ENTROPY}/ratio", high=_LINEAR),
        Claim("sup_con's slope less cross entropy's", "sup_con - cross entropy", low=0.0),
    )
    panels = (Panel(_TIME, "share of random labels", "steps"),)
    seeds = 5

    def __post_init__(self) -> None:
        at_least(self, 1, ("per_class", "most", "every", "hidden_dim", "out_dim"))
        at_least(self, 2, ("batch_size",))
        positive(self, ("lr", "temperature"))
        share(self, ("error",))
        if not {_FROM, 1.0} <= {*self.shares} or not all(0.0 < part <= 1.0 for part in self.shares):
            raise ValueError(f"shares lie in (0, 1] and have 0.6 and 1 among them, not {list(self.shares)}")

    def measure(self) -> Measured:
        """Fit networks by both losses to every share of random labels."""
        data = balanced_digits(self.per_class)
        x, labels = as_vectors(data.images[:]), data.labels["digit"]
        numbers: dict[str, float] = {}
        lines: dict[str, Line] = {}
        for name in (CONTRAST, ENTROPY):
            times = [self._time(x, corrupted(labels, part, DIGITS), name) for part in self.shares]
            numbers |= {f"{name}/steps at {part:g}": time for part, time in zip(self.shares, times, strict=True)}
            late = [(part, time) for part, time in zip(self.shares, times, strict=True) if part >= 0.4]
            numbers[f"{name}/slope"] = slope([part for part, _ in late], [time for _, time in late])
            numbers[f"{name}/ratio"] = times[self.shares.index(1.0)] / times[self.shares.index(_FROM)]
            numbers[f"{name}/not fitted"] = float(sum(time >= self.most for time in times))
            lines[name] = list(self.shares), times
        numbers["sup_con - cross entropy"] = numbers[f"{CONTRAST}/slope"] - numbers[f"{ENTROPY}/slope"]
        return Measured(numbers, {_TIME: lines})

    def _time(self, x: Tensor, labels: Tensor, name: str) -> float:
        """Return the steps until labels are fitted, `most` if they are not."""
        network = mlp(x.shape[1], (self.hidden_dim, self.hidden_dim), self.out_dim)
        classifier = nn.Linear(self.out_dim, DIGITS, bias=False)

        def loss() -> Tensor:
            rows = drawn(len(x), self.batch_size)
            z = F.normalize(network(x[rows]), dim=1)
            if name == CONTRAST:
                return sup_con(z[:, None], labels[rows], temperature=self.temperature)
            return F.cross_entropy(classifier(z) / self.temperature, labels[rows])

        parameters = [*network.parameters(), *(classifier.parameters() if name == ENTROPY else ())]
        sgd = OptimiserConfig("sgd", self.lr, lr_scale="none", weight_decay=0.0, schedule="constant")
        for step in train(parameters, loss, sgd, self.most):
            if step % self.every == 0:
                with torch.no_grad():
                    z = F.normalize(network(x), dim=1)
                    logits = classifier(z) if name == ENTROPY else z @ F.normalize(class_means(z, labels), dim=1).T
                if float((logits.argmax(1) != labels).float().mean()) <= self.error:
                    return float(step)
        return float(self.most)
