"""Contrastive objectives: pure functions of tensors that return a scalar, the mean over anchors in natural logarithm.

They are members of one family (`family.py`) over pairs (`pairs.py`). Arguments that several of them share:
    temperature: divides the similarities; above 0.
    valid: `(N, N)` bool over samples, tiled over views; False at (i, j) = j is not a negative for i. It never masks a
        positive.
    row_weight: `(N,)`, not negative; the mean over samples is weighted by it (0 if all weights are 0).
All raise ValueError on shapes that do not fit and on settings out of range. Stop a gradient by detaching the input.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from .family import (
    NOTHING,
    anchor_mean,
    corrected_log_mass,
    diagonal_cross_entropy,
    log_sum,
    log_sum_by_class,
    one_positive,
    weighted_mean,
)
from .pairs import (
    Similarity,
    above_zero,
    check_embeddings,
    check_valid,
    compare,
    dot,
    label_pairs,
    same_label,
    two_views,
)


def info_nce(
    query: Tensor,
    key: Tensor,
    *,
    temperature: float,
    negatives: Tensor | Sequence[Tensor] | None = None,
    similarity: Similarity = "cosine",
    valid: Tensor | None = None,
    row_weight: Tensor | None = None,
) -> Tensor:
    """InfoNCE in one direction (van den Oord et al. 2018, eq. 4; MoCo, He et al. 2020, eq. 1).

    query, key: `(N, D)`; row i of key is the positive of row i of query.
    negatives: None = the other rows of key; else only these, `(K, D)` or `(N, K, D)`, or several such in a sequence
        (a queue and what is mixed from it). K may be 0.
    similarity: `cosine`, `dot`, or `neg_sq_dist` = -||a - b||^2; the last two take embeddings as they are.
    valid: `(N, N)`, or `(N, K)` where negatives are given (K of all of them together).
    """
    check_embeddings("query, key", query, key)
    if negatives is None:
        logits = compare(query, key, similarity) / above_zero(temperature)
        return diagonal_cross_entropy(logits, valid=valid, row_weight=row_weight)
    sources = [negatives] if isinstance(negatives, Tensor) else list(negatives)
    for source in sources:
        _check_negatives(query, source)
    logits = torch.cat([compare(query, each, similarity) for each in (key[:, None], *sources)], 1)
    positive, negative = (logits / above_zero(temperature)).split([1, logits.shape[1] - 1], 1)
    check_valid(valid, *negative.shape)
    return anchor_mean(one_positive(positive[:, 0], log_sum(negative, valid)), row_weight)


def latent_contrast(
    predicted: Tensor,
    target: Tensor,
    *,
    temperature: float,
    valid: Tensor | None = None,
    row_weight: Tensor | None = None,
) -> Tensor:
    """Contrast of predicted latents with those that followed (DR.Q, 2026, its code): cosine InfoNCE from predictions
    to targets within the batch.

    predicted, target: `(N, D)`; target is detached. valid, row_weight: as of `info_nce`.
    """
    return info_nce(predicted, target.detach(), temperature=temperature, valid=valid, row_weight=row_weight)


def model_contrast(z: Tensor, z_global: Tensor, z_previous: Tensor, *, temperature: float) -> Tensor:
    """Contrast of models (MOON, Li et al. 2021, arXiv 2103.16257, eq. 3): what a model makes of an image is to be near
    to what the global model makes of it, and far from what earlier models made.

    z, z_global: `(N, D)`. z_previous: `(N, D)`, or `(N, M, D)` of M earlier models. Raises ValueError on other shapes.
    """
    earlier = z_previous[:, None] if z_previous.ndim == 2 else z_previous
    return info_nce(z, z_global, temperature=temperature, negatives=earlier)


def bilinear_info_nce(
    query: Tensor,
    key: Tensor,
    weight: Tensor,
    *,
    temperature: float = 1.0,
    valid: Tensor | None = None,
    row_weight: Tensor | None = None,
) -> Tensor:
    """InfoNCE with a bilinear similarity: cross entropy of `query @ weight @ key.T / temperature` with the diagonal.

    CURL (Laskin et al. 2020, equation 4), on embeddings as they are. query, key: `(N, D)`. weight: `(D, D)`.
    """
    logits = bilinear_logits(query, key, weight) / above_zero(temperature)
    return diagonal_cross_entropy(logits, valid=valid, row_weight=row_weight)


def bilinear_logits(query: Tensor, key: Tensor, weight: Tensor) -> Tensor:
    """Return `query @ weight @ key.T`, `(N, N)`, in float32 at least, also under autocast. ValueError as above."""
    if query.ndim != 2 or query.shape != key.shape or weight.shape != (query.shape[1], query.shape[1]):
        raise ValueError(
            "Bilinear similarity needs query (N, D), key (N, D) and weight (D, D), "
            f"got {tuple(query.shape)}, {tuple(key.shape)} and {tuple(weight.shape)}."
        )
    return dot(dot(query, weight.mT), key)


def nt_xent(
    z1: Tensor, z2: Tensor, *, temperature: float, valid: Tensor | None = None, row_weight: Tensor | None = None
) -> Tensor:
    """SimCLR (Chen et al. 2020, eq. 1): mean over the 2N anchors, half of the value of the authors' code.

    z1, z2: `(N, D)`. The positive is the other view; negatives are both views of the other samples.
    """
    rows = two_views(z1, z2, temperature, valid)
    return anchor_mean(one_positive(rows.positive, log_sum(rows.logits, rows.negative)), row_weight, views=2)


def debiased_nt_xent(
    z1: Tensor,
    z2: Tensor,
    *,
    temperature: float,
    tau_plus: float,
    valid: Tensor | None = None,
    row_weight: Tensor | None = None,
) -> Tensor:
    """Debiased contrastive loss (Chuang et al. 2020, eq. 8, M = 1): `nt_xent` with a share of false negatives.

    tau_plus: probability that a random sample is of the anchor's class, in [0, 1). 0 gives `nt_xent`.
    """
    return hard_nt_xent(
        z1, z2, temperature=temperature, tau_plus=tau_plus, beta=0.0, valid=valid, row_weight=row_weight
    )


def check_hardness(tau_plus: float, beta: float) -> None:
    """Raise ValueError unless these can be the settings of `hard_nt_xent`."""
    if not 0.0 <= tau_plus < 1.0 or not beta >= 0.0:
        raise ValueError(f"tau_plus must be in [0, 1) and beta at least 0, not {tau_plus} and {beta}.")


def hard_nt_xent(
    z1: Tensor,
    z2: Tensor,
    *,
    temperature: float,
    tau_plus: float,
    beta: float,
    valid: Tensor | None = None,
    row_weight: Tensor | None = None,
) -> Tensor:
    """Contrastive loss with hard negatives (HCL, Robinson et al. 2021), debiased by tau_plus.

    beta: concentration of the importance weights e^(beta s / temperature), at least 0; they carry gradient. 0 gives
    `debiased_nt_xent`.
    """
    check_hardness(tau_plus, beta)
    rows = two_views(z1, z2, temperature, valid)
    mass = corrected_log_mass(
        rows.logits.where(rows.negative, NOTHING),
        rows.negative.sum(1, dtype=rows.logits.dtype),
        rows.positive,
        tau_plus=tau_plus,
        beta=beta,
        floor=-1.0 / temperature,
    )
    return anchor_mean(one_positive(rows.positive, mass), row_weight, views=2)


def sup_con(
    features: Tensor,
    labels: Tensor | None = None,
    *,
    temperature: float,
    form: Literal["out", "in"] = "out",
    contrast: Literal["all", "one"] = "all",
    attract: Tensor | None = None,
    valid: Tensor | None = None,
    row_weight: Tensor | None = None,
) -> Tensor:
    """Supervised contrastive loss (Khosla et al. 2020, eq. 2 and 3), without the factor temperature / base.

    features: `(N, V, D)`, V views. labels: `(N,)`; None = only views of one sample attract (`nt_xent` over V views).
    form: `out` averages over positives outside the logarithm, `in` inside.
    contrast: `all` views are anchors, or only the first `one`. Candidates are always all views.
    attract: `(N, N)` bool over samples, tiled over views; False at (i, j) = j is no positive of i, and no negative.
    Anchors without a positive are not counted; 0 if none has one.
    """
    if form not in ("out", "in") or contrast not in ("all", "one"):
        raise ValueError(f"form must be out or in and contrast all or one, not {form!r} and {contrast!r}.")
    anchors = 1 if contrast == "one" else None
    logits, positive, negative = label_pairs(features, labels, temperature, valid, anchors, attract)
    count = positive.sum(1, dtype=logits.dtype)
    if form == "out":
        pull = (logits * positive).sum(1) / count.clamp_min(1)
    else:
        pull = log_sum(logits, positive) - count.clamp_min(1).log()
    losses = log_sum(logits, positive | negative) - pull
    if row_weight is None:
        return weighted_mean(losses, count > 0)
    if row_weight.shape != features.shape[:1]:
        raise ValueError(f"row_weight must be {tuple(features.shape[:1])}, got {tuple(row_weight.shape)}.")
    return weighted_mean(losses, (count > 0) * row_weight.repeat(len(losses) // len(features)))


def suncet(
    features: Tensor,
    labels: Tensor,
    *,
    temperature: float,
    num_classes: int | None = None,
    smoothing: float = 0.0,
    valid: Tensor | None = None,
) -> Tensor:
    """Soft nearest-neighbour classification of every row by the others (SuNCEt, Assran et al. 2020).

    features: `(N, D)`. labels: `(N,)`, any integers.
    smoothing: e in [0, 1): the target is 1 - e + e/C on the own class and e/C on the others; classes that are not in
        the batch are left out. num_classes: C (None = the number of classes in the batch).
    Rows without another of their class are not counted; 0 if there is none.
    """
    if not 0.0 <= smoothing < 1.0:
        raise ValueError(f"smoothing must be in [0, 1), not {smoothing}.")
    check_embeddings("features", features)
    logits, positive, negative = label_pairs(features[:, None], labels, temperature, valid)
    mass, counted = log_sum(logits, positive | negative), positive.any(1)
    if smoothing == 0.0:
        return weighted_mean(mass - log_sum(logits, positive), counted)
    column = same_label(labels, len(labels)).byte().argmax(1)  # of a class: the index of its first row
    by_class = log_sum_by_class(logits, positive | negative, column)
    present = (column == torch.arange(len(column), device=column.device)).sum(dtype=logits.dtype)
    off = smoothing / (present if num_classes is None else num_classes)
    target = (torch.zeros_like(logits).scatter(1, column[:, None], 1.0 - smoothing) + off).masked_fill(
        by_class <= NOTHING, 0.0
    )
    return weighted_mean((target * (mass[:, None] - by_class)).sum(1), counted)


def _check_negatives(query: Tensor, negatives: Tensor) -> None:
    count, dim = query.shape
    if negatives.ndim not in (2, 3) or negatives.shape[-1] != dim or (negatives.ndim == 3 and len(negatives) != count):
        raise ValueError(f"negatives must be (K, {dim}) or ({count}, K, {dim}), got {tuple(negatives.shape)}.")
