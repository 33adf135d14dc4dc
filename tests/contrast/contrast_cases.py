"""Every objective of two batches of embeddings beside its slow twin, and batches that make little sense."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from rlrep.contrast import (
    align,
    barlow_twins,
    bilinear_info_nce,
    cacr,
    debiased_nt_xent,
    distance_metric,
    hard_nt_xent,
    info_nce,
    latent_contrast,
    mahalanobis_info_nce,
    model_contrast,
    negative_cosine,
    nt_xent,
    suncet,
    sup_con,
    uniform,
    vicreg,
    wasserstein_info_nce,
)

from . import contrast_twins as twins

LABELS = torch.tensor([0, 1, 0, 2, 1, 0])
WEIGHT = torch.randn(4, 4, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
QUEUE = torch.randn(7, 4, generator=torch.Generator().manual_seed(8), dtype=torch.float64)


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def first(labels: Tensor, z: Tensor) -> Tensor:
    return labels[: len(z)]


@dataclass(frozen=True)
class Case:
    """An objective of two views and a mask, at temperature t, and its twin (None: it takes no mask)."""

    fast: Callable[[Tensor, Tensor, float, Tensor | None], Tensor]
    slow: Callable[[Tensor, Tensor, float, Tensor | None], float]
    masked: bool = True


def views(z1: Tensor, z2: Tensor) -> Tensor:
    return torch.stack([z1, z2, z1 - 2 * z2], 1)


CASES = {
    "cosine": Case(
        lambda a, b, t, v: info_nce(a, b, temperature=t, valid=v),
        lambda a, b, t, v: twins.info_nce(a, b, t, "cosine", v),
    ),
    "latent_contrast": Case(
        lambda a, b, t, v: latent_contrast(a, b, temperature=t, valid=v),
        lambda a, b, t, v: twins.info_nce(a, b, t, "cosine", v),
    ),
    "dot": Case(
        lambda a, b, t, v: info_nce(a, b, temperature=t, similarity="dot", valid=v),
        lambda a, b, t, v: twins.info_nce(a, b, t, "dot", v),
    ),
    "neg_sq_dist": Case(
        lambda a, b, t, v: info_nce(a, b, temperature=t, similarity="neg_sq_dist", valid=v),
        lambda a, b, t, v: twins.info_nce(a, b, t, "neg_sq_dist", v),
    ),
    "bilinear": Case(
        lambda a, b, t, v: bilinear_info_nce(a, b, WEIGHT.to(a.dtype), temperature=t, valid=v),
        lambda a, b, t, v: twins.bilinear(a, b, WEIGHT, t, v),
    ),
    "mahalanobis": Case(
        lambda a, b, t, v: mahalanobis_info_nce(a, a**2, b, b**2, temperature=t, valid=v),
        lambda a, b, t, v: twins.mahalanobis(a, a**2, b, b**2, t, v),
    ),
    "wasserstein": Case(
        lambda a, b, t, v: wasserstein_info_nce(a, a**2, b, b**2, temperature=t, valid=v),
        lambda a, b, t, v: twins.wasserstein(a, a**2, b, b**2, t, v),
    ),
    "distance_metric": Case(
        lambda a, b, t, v: distance_metric(torch.cat([a, b]), torch.arange(len(a)).repeat(2)),
        lambda a, b, t, v: twins.distance_metric(torch.cat([a, b]), list(range(len(a))) * 2),
        masked=False,
    ),
    "nt_xent": Case(
        lambda a, b, t, v: nt_xent(a, b, temperature=t, valid=v), lambda a, b, t, v: twins.hard(a, b, t, 0.0, 0.0, v)
    ),
    "debiased": Case(
        lambda a, b, t, v: debiased_nt_xent(a, b, temperature=t, tau_plus=0.2, valid=v),
        lambda a, b, t, v: twins.hard(a, b, t, 0.2, 0.0, v),
    ),
    "hard": Case(
        lambda a, b, t, v: hard_nt_xent(a, b, temperature=t, tau_plus=0.1, beta=1.5, valid=v),
        lambda a, b, t, v: twins.hard(a, b, t, 0.1, 1.5, v),
    ),
    "sup_con_out": Case(
        lambda a, b, t, v: sup_con(views(a, b), first(LABELS, a), temperature=t, valid=v),
        lambda a, b, t, v: twins.sup_con(views(a, b), first(LABELS, a), t, "out", "all", v),
    ),
    "sup_con_in": Case(
        lambda a, b, t, v: sup_con(views(a, b), first(LABELS, a), temperature=t, form="in", valid=v),
        lambda a, b, t, v: twins.sup_con(views(a, b), first(LABELS, a), t, "in", "all", v),
    ),
    "sup_con_one": Case(
        lambda a, b, t, v: sup_con(views(a, b), first(LABELS, a), temperature=t, contrast="one", valid=v),
        lambda a, b, t, v: twins.sup_con(views(a, b), first(LABELS, a), t, "out", "one", v),
    ),
    "sup_con_unlabelled": Case(
        lambda a, b, t, v: sup_con(views(a, b), temperature=t, form="in", contrast="one", valid=v),
        lambda a, b, t, v: twins.sup_con(views(a, b), None, t, "in", "one", v),
    ),
    "suncet": Case(
        lambda a, b, t, v: suncet(a + b, first(LABELS, a), temperature=t, valid=v),
        lambda a, b, t, v: twins.sup_con((a + b)[:, None], first(LABELS, a), t, "sum", "all", v),
    ),
    "suncet_smooth": Case(
        lambda a, b, t, v: suncet(a + b, first(LABELS, a), temperature=t, smoothing=0.2),
        lambda a, b, t, v: twins.suncet(a + b, first(LABELS, a), t, 0.2),
        masked=False,
    ),
    "cacr": Case(
        lambda a, b, t, v: cacr(views(a, b).transpose(0, 1), t_pos=t, t_neg=2 * t, attract=0.7, repel=1.3, valid=v),
        lambda a, b, t, v: twins.cacr(views(a, b).transpose(0, 1), t, 2 * t, 0.7, 1.3, v),
    ),
    "queue": Case(
        lambda a, b, t, v: info_nce(a, b, temperature=t, negatives=QUEUE.to(a.dtype)),
        lambda a, b, t, v: twins.info_nce_against(a, b, QUEUE, t, "cosine", None),
        masked=False,
    ),
    "model_contrast": Case(
        lambda a, b, t, v: model_contrast(a, b, torch.stack([a.roll(1, -1), 2 * b - a], -2), temperature=t),
        lambda a, b, t, v: twins.model_contrast(a, b, [a.roll(1, 1), 2 * b - a], t),
        masked=False,
    ),
    "negative_cosine": Case(
        lambda a, b, t, v: negative_cosine(a, b), lambda a, b, t, v: twins.negative_cosine(a, b), masked=False
    ),
    "barlow_twins": Case(
        lambda a, b, t, v: barlow_twins(a, b, off_diagonal=t),
        lambda a, b, t, v: twins.barlow_twins(a, b, t),
        masked=False,
    ),
    "vicreg": Case(
        lambda a, b, t, v: vicreg(a, b, covariance=t),
        lambda a, b, t, v: twins.vicreg(a, b, 25.0, 25.0, t),
        masked=False,
    ),
    "align": Case(lambda a, b, t, v: align(a, b), lambda a, b, t, v: twins.align(a, b, 2), masked=False),
    "align_1": Case(lambda a, b, t, v: align(a, b, alpha=1), lambda a, b, t, v: twins.align(a, b, 1), masked=False),
    "uniform": Case(lambda a, b, t, v: uniform(a, t=t), lambda a, b, t, v: twins.uniform(a, t), masked=False),
}
MASKED = {name: case for name, case in CASES.items() if case.masked}
UNLABELLED = {name: case for name, case in CASES.items() if "sup_con" not in name and "suncet" not in name}
EVERY = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
EVERY_MASKED = pytest.mark.parametrize("case", MASKED.values(), ids=MASKED)


BATCHES: dict[str, tuple[Tensor, Tensor]] = {
    "one_sample": (draw(1, 4, seed=1), draw(1, 4, seed=2)),
    "identical": (torch.ones(6, 4), torch.ones(6, 4)),
    "opposite": (torch.ones(6, 4), -torch.ones(6, 4)),
    "zeros": (torch.zeros(6, 4), torch.zeros(6, 4)),
    "one_zero_row": (draw(6, 4, seed=1).index_fill(0, torch.tensor(2), 0.0), draw(6, 4, seed=2)),
    "collapsed_pairs": (draw(6, 4, seed=1), draw(6, 4, seed=1)),
    "large": (1e4 * draw(6, 4, seed=1), 1e4 * draw(6, 4, seed=2)),
}
