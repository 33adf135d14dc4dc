"""Objectives of `rlrep.contrast` with their settings: of all views at once, or of predictions and their targets."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch.nn.functional as F
from torch import Tensor

from rlrep.contrast import (
    barlow_twins,
    cacr,
    hard_nt_xent,
    info_nce,
    negative_cosine,
    nt_xent,
    suncet,
    sup_con,
    vicreg,
)


class JointObjective(Protocol):
    """A loss of the views' embeddings `(V, N, D)` and, where `uses_labels`, of the images' labels `(N,)`."""

    @property
    def uses_labels(self) -> bool: ...
    def __call__(self, z: Tensor, labels: Tensor | None) -> Tensor: ...


class DirectedObjective(Protocol):
    """A loss of predictions `(N, D)` given their targets `(N, D)` and negatives (None = the batch's other targets)."""

    @property
    def uses_negatives(self) -> bool: ...
    def __call__(self, prediction: Tensor, target: Tensor, negatives: Sequence[Tensor] | None) -> Tensor: ...


def pair(z: Tensor) -> tuple[Tensor, Tensor]:
    """Return the two views of `(2, N, D)`. Raises ValueError on another number of views."""
    if len(z) != 2:
        raise ValueError(f"this objective compares two views, not {len(z)}: give method.views two names")
    return z[0], z[1]


@dataclass(frozen=True)
class NTXent:
    """SimCLR's contrast of two views with the batch (`nt_xent`)."""

    temperature: float = 0.5
    uses_labels = False

    def __call__(self, z: Tensor, labels: Tensor | None) -> Tensor:
        """Return the mean over the 2N anchors."""
        return nt_xent(*pair(z), temperature=self.temperature)


@dataclass(frozen=True)
class HardNTXent:
    """Contrast corrected for false negatives, hard ones weighing more (`hard_nt_xent`); beta 0: debiased only."""

    temperature: float = 0.5
    tau_plus: float = 0.1
    beta: float = 0.0
    uses_labels = False

    def __call__(self, z: Tensor, labels: Tensor | None) -> Tensor:
        """Return the mean over the 2N anchors."""
        return hard_nt_xent(*pair(z), temperature=self.temperature, tau_plus=self.tau_plus, beta=self.beta)


@dataclass(frozen=True)
class SupCon:
    """All views of all images of a class attract (`sup_con`)."""

    temperature: float = 0.1
    form: Literal["out", "in"] = "out"
    uses_labels = True

    def __call__(self, z: Tensor, labels: Tensor | None) -> Tensor:
        """Return the mean over anchors with a positive."""
        return sup_con(z.transpose(0, 1), labels, temperature=self.temperature, form=self.form)


@dataclass(frozen=True)
class Suncet:
    """Soft nearest-neighbour classification of labelled images (`suncet`)."""

    temperature: float = 0.1
    smoothing: float = 0.0

    def __call__(self, z: Tensor, labels: Tensor) -> Tensor:
        """Return the mean over the rows of z `(M, D)`."""
        return suncet(z, labels, temperature=self.temperature, smoothing=self.smoothing)


@dataclass(frozen=True)
class Transport:
    """Contrastive attraction and repulsion of several views (`cacr`)."""

    t_pos: float = 1.0
    t_neg: float = 2.0
    attract: float = 1.0
    repel: float = 1.0
    uses_labels = False

    def __call__(self, z: Tensor, labels: Tensor | None) -> Tensor:
        """Return attraction minus repulsion."""
        return cacr(z, t_pos=self.t_pos, t_neg=self.t_neg, attract=self.attract, repel=self.repel)


@dataclass(frozen=True)
class BarlowTwins:
    """The views' cross-correlation should be the identity (`barlow_twins`)."""

    off_diagonal: float = 0.0051
    weight: float = 1.0
    uses_labels = False

    def __call__(self, z: Tensor, labels: Tensor | None) -> Tensor:
        """Return the sum over the features."""
        return self.weight * barlow_twins(*pair(z), off_diagonal=self.off_diagonal)


@dataclass(frozen=True)
class VICReg:
    """Variance, invariance, covariance (`vicreg`)."""

    invariance: float = 25.0
    variance: float = 25.0
    covariance: float = 1.0
    uses_labels = False

    def __call__(self, z: Tensor, labels: Tensor | None) -> Tensor:
        """Return the weighted sum of the three."""
        return vicreg(*pair(z), invariance=self.invariance, variance=self.variance, covariance=self.covariance)


@dataclass(frozen=True)
class SquaredDistance:
    """Mean over images of ||z1 - z2||^2 (Hua et al. 2021): collapses unless the embeddings are whitened."""

    uses_labels = False

    def __call__(self, z: Tensor, labels: Tensor | None) -> Tensor:
        """Return the mean over images, a sum over features."""
        first, second = pair(z)
        return F.mse_loss(first, second) * z.shape[-1]


@dataclass(frozen=True)
class Contrast:
    """InfoNCE of a prediction with its target (`info_nce`). weight: 2 x temperature in MoCo v3, 1 in MoCo."""

    temperature: float = 0.2
    weight: float = 1.0
    uses_negatives = True

    def __call__(self, prediction: Tensor, target: Tensor, negatives: Sequence[Tensor] | None) -> Tensor:
        """Return the mean over predictions."""
        loss = info_nce(prediction, target.detach(), temperature=self.temperature, negatives=negatives)
        return self.weight * loss


@dataclass(frozen=True)
class Regression:
    """weight x mean of 2 - 2 cos(prediction, target) (`negative_cosine`); SimSiam's -cos / 2 is weight 1/4."""

    weight: float = 1.0
    uses_negatives = False

    def __call__(self, prediction: Tensor, target: Tensor, negatives: Sequence[Tensor] | None) -> Tensor:
        """Return the mean over predictions."""
        return self.weight * negative_cosine(prediction, target)
