"""Objectives with their settings, as heads and image methods take them: by name from `OBJECTIVES`, or by `_target_`."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ..agreement import barlow_twins, negative_cosine, vicreg
from ..objectives import bilinear_info_nce, check_hardness, hard_nt_xent, info_nce, nt_xent, suncet, sup_con
from ..pairs import above_zero, unit
from ..transport import cacr

Views = Tensor | Sequence[Tensor]
"""V embeddings `(N, D)` of the same N samples. Where one predicts another, it is the first."""


@dataclass(frozen=True)
class Among:
    """What the views of N samples stand among; None = nothing of the kind.

    labels: `(N,)`. negatives: `(K, D)` or `(N, K, D)` each, in place of the batch's other samples.
    valid: bool, `(N, N)` or with given negatives `(N, K)`, False = no negative. row_weight: `(N,)`.
    form: `(D, D)` of a learned bilinear similarity. faded: the negatives' lengths, at most 1, count in the similarity.
    """

    labels: Tensor | None = None
    negatives: Sequence[Tensor] | None = None
    valid: Tensor | None = None
    row_weight: Tensor | None = None
    form: Tensor | None = None
    faded: bool = False


class Objective(ABC):
    """A loss of views of samples. Subclasses are frozen dataclasses, and say what they read of `Among`.

    rows: a mean over samples, some of which may be left out (`row_weight`, and `valid` if there are negatives); else
    the batch counts as a whole.
    labels, memory, learned_form: it reads `labels`, `negatives`, `form`. several: it takes more than two views.
    """

    rows: ClassVar[bool] = True
    labels: ClassVar[bool] = False
    memory: ClassVar[bool] = False
    learned_form: ClassVar[bool] = False
    several: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, views: Views, among: Among) -> Tensor:
        """Return the scalar loss."""


@dataclass(frozen=True)
class Tempered(Objective):
    """A loss of similarities over a temperature. Raises ValueError unless that is above 0."""

    temperature: float

    def __post_init__(self) -> None:
        above_zero(self.temperature)


def pair(views: Views) -> tuple[Tensor, Tensor]:
    """Return the two views. Raises ValueError on another number of views."""
    if len(views) != 2:
        raise ValueError(f"this objective compares two views, not {len(views)}: give method.views two names")
    return views[0], views[1]


def stacked(views: Views) -> Tensor:
    """Return `(V, N, D)`."""
    return views if isinstance(views, Tensor) else torch.stack(list(views))


@dataclass(frozen=True)
class BilinearInfoNCE(Tempered):
    """CURL's contrast under a learned bilinear similarity (`bilinear_info_nce`), which has no temperature: 1."""

    temperature: float = 1.0
    learned_form = True

    def __call__(self, views: Views, among: Among) -> Tensor:
        assert among.form is not None, "whoever takes this objective owns its form"
        t, valid, weight = self.temperature, among.valid, among.row_weight
        return bilinear_info_nce(*pair(views), among.form, temperature=t, valid=valid, row_weight=weight)


@dataclass(frozen=True)
class InfoNCE(Tempered):
    """Contrast of a prediction with its target (`info_nce`). weight: 2 x temperature in MoCo v3, 1 in MoCo."""

    temperature: float = 0.2
    weight: float = 1.0
    memory = True

    def __call__(self, views: Views, among: Among) -> Tensor:
        query, key = pair(views)
        loss = info_nce(
            unit(query) if among.faded else query,
            unit(key) if among.faded else key,
            temperature=self.temperature,
            negatives=among.negatives,
            similarity="dot" if among.faded else "cosine",
            valid=among.valid,
            row_weight=among.row_weight,
        )
        return self.weight * loss


@dataclass(frozen=True)
class NTXent(Tempered):
    """SimCLR's contrast of two views with the batch (`nt_xent`)."""

    temperature: float = 0.5

    def __call__(self, views: Views, among: Among) -> Tensor:
        return nt_xent(*pair(views), temperature=self.temperature, valid=among.valid, row_weight=among.row_weight)


@dataclass(frozen=True)
class HardNTXent(Tempered):
    """Debiased contrast whose hard negatives weigh more, by beta (`hard_nt_xent`)."""

    temperature: float = 0.5
    tau_plus: float = 0.1
    beta: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_hardness(self.tau_plus, self.beta)

    def __call__(self, views: Views, among: Among) -> Tensor:
        return hard_nt_xent(
            *pair(views),
            temperature=self.temperature,
            tau_plus=self.tau_plus,
            beta=self.beta,
            valid=among.valid,
            row_weight=among.row_weight,
        )


@dataclass(frozen=True)
class Debiased(HardNTXent):
    """The same with negatives of one weight (`debiased_nt_xent`)."""

    beta: float = field(default=0.0, init=False)


@dataclass(frozen=True)
class Transport(Objective):
    """Contrastive attraction and repulsion of several views (`cacr`)."""

    t_pos: float = 1.0
    t_neg: float = 2.0
    attract: float = 1.0
    repel: float = 1.0
    several = True

    def __call__(self, views: Views, among: Among) -> Tensor:
        return cacr(
            stacked(views),
            t_pos=self.t_pos,
            t_neg=self.t_neg,
            attract=self.attract,
            repel=self.repel,
            valid=among.valid,
            row_weight=among.row_weight,
        )


@dataclass(frozen=True)
class SupCon(Tempered):
    """All views of all samples of a class attract (`sup_con`)."""

    temperature: float = 0.1
    form: Literal["out", "in"] = "out"
    labels = True
    several = True

    def __call__(self, views: Views, among: Among) -> Tensor:
        z, valid, weight = stacked(views).transpose(0, 1), among.valid, among.row_weight
        return sup_con(z, among.labels, temperature=self.temperature, form=self.form, valid=valid, row_weight=weight)


@dataclass(frozen=True)
class BarlowTwins(Objective):
    """The views' cross-correlation should be the identity (`barlow_twins`)."""

    off_diagonal: float = 0.0051
    weight: float = 1.0
    rows = False

    def __call__(self, views: Views, among: Among) -> Tensor:
        return self.weight * barlow_twins(*pair(views), off_diagonal=self.off_diagonal)


@dataclass(frozen=True)
class VICReg(Objective):
    """Variance, invariance, covariance (`vicreg`)."""

    invariance: float = 25.0
    variance: float = 25.0
    covariance: float = 1.0
    rows = False

    def __call__(self, views: Views, among: Among) -> Tensor:
        return vicreg(*pair(views), invariance=self.invariance, variance=self.variance, covariance=self.covariance)


@dataclass(frozen=True)
class SquaredDistance(Objective):
    """Mean over samples of ||z1 - z2||^2 (Hua et al. 2021): collapses unless the embeddings are whitened."""

    rows = False

    def __call__(self, views: Views, among: Among) -> Tensor:
        first, second = pair(views)
        return F.mse_loss(first, second) * first.shape[-1]


@dataclass(frozen=True)
class Regression(Objective):
    """weight x mean of 2 - 2 cos(prediction, target) (`negative_cosine`); SimSiam's -cos / 2 is weight 1/4."""

    weight: float = 1.0

    def __call__(self, views: Views, among: Among) -> Tensor:
        return self.weight * negative_cosine(*pair(views), row_weight=among.row_weight)


@dataclass(frozen=True)
class Suncet:
    """Soft nearest-neighbour classification of labelled images (`suncet`)."""

    temperature: float = 0.1
    smoothing: float = 0.0

    def __call__(self, z: Tensor, labels: Tensor) -> Tensor:
        """Return the mean over the rows of z `(M, D)`."""
        return suncet(z, labels, temperature=self.temperature, smoothing=self.smoothing)


OBJECTIVES: dict[str, type[Objective]] = {
    "bilinear": BilinearInfoNCE,
    "info_nce": InfoNCE,
    "mochi": InfoNCE,  # against a queue, and what is mixed from it
    "nt_xent": NTXent,
    "debiased": Debiased,
    "hard_negative": HardNTXent,
    "cacr": Transport,
    "barlow_twins": BarlowTwins,
    "vicreg": VICReg,
}
