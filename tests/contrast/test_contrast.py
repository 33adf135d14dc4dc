"""Objectives against worked values, closed forms and each other (against slow twins: test_contrast_twins.py)."""

import inspect
import math
from collections.abc import Callable
from functools import partial
from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rlrep import contrast
from rlrep.contrast import (
    align,
    barlow_twins,
    bilinear_info_nce,
    cacr,
    debiased_nt_xent,
    hard_nt_xent,
    info_nce,
    mahalanobis_info_nce,
    negative_cosine,
    nt_xent,
    pair_regression,
    suncet,
    sup_con,
    uniform,
    vicreg,
)
from rlrep.contrast.family import NOTHING, corrected_log_mass

from . import contrast_twins as twins
from .contrast_cases import CASES, LABELS, WEIGHT, draw

FORMS: tuple[Literal["out", "in"], ...] = ("out", "in")
SIMILARITIES: tuple[Literal["cosine", "dot", "neg_sq_dist"], ...] = ("cosine", "dot", "neg_sq_dist")


def test_the_order_of_labelled_samples_does_not_matter() -> None:
    z, order = draw(6, 2, 4, seed=1), torch.tensor([4, 0, 5, 1, 3, 2])
    for form in FORMS:
        moved = sup_con(z[order], LABELS[order], temperature=0.5, form=form)
        torch.testing.assert_close(moved, sup_con(z, LABELS, temperature=0.5, form=form))
    for smoothing in (0.0, 0.3):
        moved = suncet(z[order, 0], 7 - LABELS[order], temperature=0.5, smoothing=smoothing)
        torch.testing.assert_close(moved, suncet(z[:, 0], LABELS, temperature=0.5, smoothing=smoothing))


ONE_POSITIVE = ["cosine", "dot", "neg_sq_dist", "bilinear", "mahalanobis", "wasserstein", "nt_xent", "debiased", "hard"]


@pytest.mark.parametrize("name", ONE_POSITIVE)
def test_the_positive_is_never_masked(name: str) -> None:
    """Without negatives it is alone: loss 0. A mask that only names positives changes nothing."""
    z1, z2, fast = draw(6, 4, seed=1), draw(6, 4, seed=2), CASES[name].fast
    assert fast(z1, z2, 0.5, torch.zeros(6, 6, dtype=torch.bool)).item() == pytest.approx(0.0, abs=1e-12)
    torch.testing.assert_close(fast(z1, z2, 0.5, ~torch.eye(6, dtype=torch.bool)), fast(z1, z2, 0.5, None))


def test_values_worked_out_elsewhere() -> None:
    """The value of every line was computed by the named public codes (SimCLR's is twice the first)."""
    k = torch.arange(24, dtype=torch.float64).reshape(6, 4)
    a = torch.sin(1.3 * k + 0.5)
    b = a + 0.35 * torch.cos(2.1 * k)
    z1, z2 = F.normalize(a), F.normalize(b)
    queue = F.normalize(torch.cos(0.9 * torch.arange(32, dtype=torch.float64).reshape(4, 8)), dim=0).T
    weight = torch.arange(16, dtype=torch.float64).reshape(4, 4) / 16
    both = torch.stack([z1, z2])
    for value, want in [
        (nt_xent(z1, z2, temperature=0.5), 1.0717500360),  # lightly, pytorch-metric-learning, SupContrast, solo-learn
        (nt_xent(a, b, temperature=0.5), 1.0717500360),
        (sup_con(both.transpose(0, 1), LABELS, temperature=0.5), 2.8878595408),  # SupContrast with base = temperature
        (debiased_nt_xent(z1, z2, temperature=0.5, tau_plus=0.1), 0.6974094811),  # HCL with beta 0
        (info_nce(z1, z2, temperature=0.5), 0.6800376074),
        (align(z1, z2), 0.0925047763),
        (uniform(z1), -2.7250818645),
        (cacr(both, t_pos=1.0, t_neg=1.0, repel=0.0), 0.0925047763),  # CACR-SSL
        (info_nce(z1, z2, negatives=queue, temperature=0.5), 1.2459616273),  # lightly with a memory bank
        (bilinear_info_nce(a, b, weight), 1.7318020111),  # curl
    ]:
        assert value.item() == pytest.approx(want, abs=6e-11)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_identical_features(count: int) -> None:
    same, other = torch.ones(count, 3, dtype=torch.float64), 3 * torch.ones(count, 3, dtype=torch.float64)
    assert nt_xent(same, other, temperature=0.07).item() == pytest.approx(math.log(2 * count - 1))
    assert info_nce(same, other, temperature=0.07).item() == pytest.approx(math.log(count))
    assert bilinear_info_nce(same, other, torch.zeros(3, 3)).item() == pytest.approx(math.log(count))
    against = info_nce(same, other, temperature=0.07, negatives=torch.ones(4, 3, dtype=torch.float64))
    assert against.item() == pytest.approx(math.log(5))
    assert uniform(same).item() == pytest.approx(0.0, abs=1e-12)
    assert align(same, other).item() == pytest.approx(0.0, abs=1e-12)
    assert negative_cosine(same, other).item() == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_members_of_the_family_meet(temperature: float) -> None:
    z1, z2 = draw(6, 4, seed=1), draw(6, 4, seed=2)
    pairs, t = torch.stack([z1, z2], 1), temperature
    plain = nt_xent(z1, z2, temperature=t)
    debiased = debiased_nt_xent(z1, z2, temperature=t, tau_plus=0.1)
    hard = hard_nt_xent(z1, z2, temperature=t, tau_plus=0.1, beta=0.0)
    torch.testing.assert_close(debiased_nt_xent(z1, z2, temperature=t, tau_plus=0.0), plain)
    torch.testing.assert_close(hard, debiased)
    torch.testing.assert_close(hard_nt_xent(z1, z2, temperature=t, tau_plus=0.1, beta=1e-9), debiased)
    assert hard_nt_xent(z1, z2, temperature=t, tau_plus=0.0, beta=2.0) > plain
    assert debiased_nt_xent(z1, z1, temperature=t, tau_plus=0.1) < nt_xent(z1, z1, temperature=t)
    for labels in (None, torch.arange(6)):
        torch.testing.assert_close(sup_con(pairs, labels, temperature=t), plain)
        torch.testing.assert_close(sup_con(pairs, labels, temperature=t, form="in"), plain)
    one_by_one = [sup_con(each, temperature=t, contrast="one") for each in (pairs, pairs.flip(1))]
    torch.testing.assert_close((one_by_one[0] + one_by_one[1]) / 2, plain)
    only = torch.eye(6, dtype=torch.bool)
    in_batch = torch.stack([z2[~row] for row in only])
    torch.testing.assert_close(info_nce(z1, z2, temperature=t, negatives=in_batch), info_nce(z1, z2, temperature=t))


def test_sup_con_and_suncet_are_one_gradient() -> None:
    """L_in = SuNCEt + mean log |P|, and it is at most L_out."""
    z = draw(6, 4, seed=1).requires_grad_()
    labels = torch.tensor([0, 1, 0, 1, 1, 0])
    inside = sup_con(z[:, None], labels, temperature=0.3, form="in")
    neighbours = suncet(z, labels, temperature=0.3)
    assert (inside - neighbours).item() == pytest.approx(math.log(2))
    gradients = [torch.autograd.grad(loss, z)[0] for loss in (inside, neighbours)]
    torch.testing.assert_close(*gradients)
    assert inside <= sup_con(z[:, None], labels, temperature=0.3)


def test_anchors_without_a_positive_are_not_counted() -> None:
    """Sample 3 is alone in its class: it is a negative, no anchor."""
    z, alone = draw(6, 4, seed=1), torch.arange(6)
    for form in FORMS:
        want = twins.sup_con(z[:, None], LABELS, 0.5, form)
        assert sup_con(z[:, None], LABELS, temperature=0.5, form=form).item() == pytest.approx(want)
        z.requires_grad_()
        nothing = sup_con(z[:, None], alone, temperature=0.5, form=form)
        assert nothing.item() == 0.0 and not torch.autograd.grad(nothing, z)[0].any()
        z.requires_grad_(False)
    assert suncet(z, alone, temperature=0.5).item() == suncet(z, alone, temperature=0.5, smoothing=0.1).item() == 0.0


def test_suncet_smoothing() -> None:
    """Smoothing mixes the own class with the mean over classes; a class that is not there is left out."""
    z, labels = draw(6, 4, seed=1), torch.tensor([5, 9, 5, 9, 9, 5])
    one_hot, half = suncet(z, labels, temperature=0.5), suncet(z, labels, temperature=0.5, smoothing=0.5)
    swapped = twins.suncet(z, labels, 0.5, 0.5)
    assert half.item() == pytest.approx(swapped)
    assert suncet(z, labels, temperature=0.5, num_classes=2, smoothing=0.5).item() == pytest.approx(swapped)
    wide = suncet(z, labels, temperature=0.5, num_classes=10, smoothing=0.5)
    assert wide.item() == pytest.approx(twins.suncet(z, labels, 0.5, 0.5, 10))
    torch.testing.assert_close(suncet(z, labels, temperature=0.5, num_classes=3), one_hot)


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("shape", [(7, 4), (6, 7, 4)])
def test_given_negatives(similarity: Literal["cosine", "dot", "neg_sq_dist"], shape: tuple[int, ...]) -> None:
    z1, z2, negatives, valid = draw(6, 4, seed=1), draw(6, 4, seed=2), draw(*shape, seed=3), draw(6, 7, seed=4) > 0
    for mask in (None, valid):
        got = info_nce(z1, z2, temperature=0.5, negatives=negatives, similarity=similarity, valid=mask)
        assert got.item() == pytest.approx(twins.info_nce_against(z1, z2, negatives, 0.5, similarity, mask))


def test_negatives_add_up() -> None:
    z1, z2, queue, own = draw(6, 4, seed=1), draw(6, 4, seed=2), draw(7, 4, seed=3), draw(6, 3, 4, seed=5)
    losses = [
        info_nce(z1, z2, temperature=0.5, negatives=negatives).item()
        for negatives in (queue[:0], queue[:3], queue, [queue, own])
    ]
    assert losses == sorted(losses) and losses[0] == 0.0 and len(set(losses)) == 4
    joined = torch.cat([queue.expand(6, -1, -1), own], 1)
    assert info_nce(z1, z2, temperature=0.5, negatives=joined).item() == pytest.approx(losses[3])
    for bad in (queue[:, :3], own[:5], queue[0]):
        with pytest.raises(ValueError, match=r"negatives must be \(K, 4\) or \(6, K, 4\), got"):
            info_nce(z1, z2, temperature=0.5, negatives=bad)
    with pytest.raises(ValueError, match=r"bool \(6, 7\).*\(6, 6\)"):
        info_nce(z1, z2, temperature=0.5, negatives=queue, valid=torch.ones(6, 6, dtype=torch.bool))


ROW_WEIGHTED: dict[str, Callable[..., Tensor]] = {
    "cosine": info_nce,
    "bilinear": partial(bilinear_info_nce, weight=WEIGHT),
    "mahalanobis": lambda a, b, **more: mahalanobis_info_nce(a, a**2, b, b**2, **more),
    "nt_xent": nt_xent,
    "debiased": partial(debiased_nt_xent, tau_plus=0.1),
    "hard": partial(hard_nt_xent, tau_plus=0.1, beta=1.0),
    "sup_con": lambda a, b, **more: sup_con(torch.stack([a, b], 1), LABELS, **more),
}


@pytest.mark.parametrize("objective", ROW_WEIGHTED.values(), ids=ROW_WEIGHTED)
def test_row_weights_select_samples(objective: Callable[..., Tensor]) -> None:
    z1, z2 = draw(6, 4, seed=1), draw(6, 4, seed=2)

    def loss(row_weight: Tensor | None) -> Tensor:
        return objective(z1, z2, temperature=0.5, row_weight=row_weight)

    each = [loss(row) for row in torch.eye(6, dtype=torch.float64)]
    torch.testing.assert_close(torch.stack(each).mean(), loss(None))
    some = torch.tensor([1.0, 0.0, 3.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(loss(some), each[0] * 0.25 + each[2] * 0.75)
    z1.requires_grad_()
    none = loss(torch.zeros(6))
    assert none.item() == 0.0 and not torch.autograd.grad(none, z1)[0].any()
    with pytest.raises(ValueError, match=r"row_weight must be \(6,\), got \(3,\)"):
        loss(torch.ones(3))


def test_row_weights_of_the_others() -> None:
    z1, z2, only = draw(6, 4, seed=1), draw(6, 4, seed=2), torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0, 0.0])
    torch.testing.assert_close(negative_cosine(z1, z2, row_weight=only), negative_cosine(z1[2:3], z2[2:3]))
    pair = torch.stack([z1, z2])
    weighted = cacr(pair, t_pos=1.0, t_neg=1.0, repel=0.0, row_weight=only)
    torch.testing.assert_close(weighted, cacr(pair[:, 2:3], t_pos=1.0, t_neg=1.0, repel=0.0))


def test_bilinear_closed_forms() -> None:
    query, key, weight = draw(7, 4, seed=1), draw(7, 4, seed=2), draw(4, 4, seed=3)
    key[:, 3] = 1.0
    shifted = weight.clone()
    shifted[:, 3] += draw(4, seed=5) * 100  # adds q . c to every logit of a row
    torch.testing.assert_close(bilinear_info_nce(query, key, shifted), bilinear_info_nce(query, key, weight))
    torch.testing.assert_close(
        bilinear_info_nce(query, key, torch.eye(4).double(), temperature=0.5),
        info_nce(query, key, temperature=0.5, similarity="dot"),
    )
    with pytest.raises(ValueError, match=r"\(7, 4\), \(5, 4\)"):
        bilinear_info_nce(query, key[:5], weight)
    with pytest.raises(ValueError, match=r"\(4, 3\)"):
        bilinear_info_nce(query, key, weight[:, :3])


def test_mahalanobis_with_one_variance_is_a_distance() -> None:
    mean_q, mean_k, var = draw(6, 4, seed=1), draw(6, 4, seed=2), torch.full((6, 4), 0.999, dtype=torch.float64)
    torch.testing.assert_close(
        mahalanobis_info_nce(mean_q, var, mean_k, var, temperature=0.5),
        info_nce(mean_q, mean_k, temperature=0.5, similarity="neg_sq_dist"),
    )


def test_distances_beside_large_norms() -> None:
    """float32 must see differences of 0.1 at an offset of 1000."""
    z1, z2 = draw(6, 4, seed=1) * 0.1, draw(6, 4, seed=2) * 0.1
    want = info_nce(z1, z2, temperature=0.1, similarity="neg_sq_dist").float()
    far = [(z + 1000.0).float() for z in (z1, z2)]
    torch.testing.assert_close(info_nce(*far, temperature=0.1, similarity="neg_sq_dist"), want, rtol=5e-3, atol=0.0)


def test_where_the_floor_holds_negatives_get_no_gradient() -> None:
    negatives = torch.tensor([[-2.0, -1.0, NOTHING], [1.0, 2.0, 1.5]], dtype=torch.float64).requires_grad_()
    positive = torch.tensor([2.0, -1.0], dtype=torch.float64).requires_grad_()
    count = torch.tensor([2.0, 3.0], dtype=torch.float64)
    mass = corrected_log_mass(negatives, count, positive, tau_plus=0.3, beta=0.0, floor=-2.0)
    assert mass[0].item() == pytest.approx(math.log(2) - 2.0)
    assert mass[1].exp().item() == pytest.approx((math.e + math.e**2 + math.e**1.5 - 0.9 / math.e) / 0.7)
    to_negatives, to_positive = torch.autograd.grad(mass.sum(), [negatives, positive])
    assert not to_negatives[0].any() and to_positive[0] == 0.0
    assert bool((to_negatives[1] > 0).all()) and to_positive[1] < 0.0


def test_cacr_closed_forms() -> None:
    pair = torch.stack([draw(6, 4, seed=1), draw(6, 4, seed=2)])
    torch.testing.assert_close(cacr(pair, t_pos=3.0, t_neg=1.0, repel=0.0), align(pair[0], pair[1]))
    three = torch.cat([pair, draw(1, 6, 4, seed=3)])
    flat = cacr(three, t_pos=0.0, t_neg=0.0, attract=1.0, repel=0.0)
    want = (align(three[0], three[1]) + align(three[0], three[2]) + align(three[1], three[2])) / 3
    torch.testing.assert_close(flat, want)
    with pytest.raises(ValueError, match=r"\(1, 6, 4\)"):
        cacr(pair[:1], t_pos=1.0, t_neg=1.0)


def test_no_target_gets_a_gradient_from_negative_cosine() -> None:
    prediction, target = draw(5, 4, seed=1).requires_grad_(), draw(5, 4, seed=2).requires_grad_()
    torch.autograd.backward(negative_cosine(prediction, target))
    assert target.grad is None and prediction.grad is not None
    assert negative_cosine(prediction, -prediction).item() == pytest.approx(4.0)


def test_detached_key_gets_no_gradient_and_query_does() -> None:
    query, key = draw(5, 4, seed=1).requires_grad_(), draw(5, 4, seed=2).requires_grad_()
    torch.autograd.backward(info_nce(query, key.detach(), temperature=0.5))
    assert key.grad is None
    assert query.grad is not None and query.grad.abs().sum() > 0


def test_redundancy_is_least_without_any() -> None:
    white = torch.linalg.qr(draw(20, 5) - draw(20, 5).mean(0))[0]
    white = torch.linalg.qr(white - white.mean(0))[0] * math.sqrt(20)
    assert barlow_twins(white, 3 * white + 1, off_diagonal=1.0).item() < 1e-3
    assert barlow_twins(white, -white, off_diagonal=0.0).item() == pytest.approx(20.0, rel=1e-4)
    assert vicreg(2 * white, 2 * white).item() == pytest.approx(0.0, abs=1e-9)
    assert vicreg(torch.ones(8, 3), torch.ones(8, 3)).item() == pytest.approx(25.0 * 0.99)


def test_pair_regression() -> None:
    score = torch.tensor([0.0, 0.5, 1.0, 0.2], dtype=torch.float64, requires_grad=True)
    same = torch.tensor([True, True, False, False])
    assert pair_regression(score, same).item() == pytest.approx((0.0**2 + 0.5**2 + 0.0**2 + 0.8**2) / 4)
    assert torch.autograd.gradcheck(lambda s: pair_regression(s, same), [score])
    assert pair_regression(torch.tensor([0.25]), torch.tensor([0.75])).item() == 0.0
    with pytest.raises(ValueError, match=r"\(4,\) and \(3,\)"):
        pair_regression(score, same[:3])


def test_pair_regression_is_least_at_the_mean_label() -> None:
    same = torch.tensor([1.0, 1.0, 1.0, 0.0])
    losses = [pair_regression(torch.full((4,), value), same).item() for value in (0.2, 0.25, 0.3)]
    assert losses[1] == min(losses) == pytest.approx(0.25 * 0.75)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda z: nt_xent(z, z, temperature=0.0), "temperature"),
        (lambda z: info_nce(z, z, temperature=math.nan), "temperature"),
        (lambda z: bilinear_info_nce(z, z, WEIGHT, temperature=-1.0), "temperature"),
        (lambda z: nt_xent(z, z[:5], temperature=1.0), r"z1, z2 .* \(6, 4\), \(5, 4\)"),
        (lambda z: negative_cosine(z, z[:, :3]), r"prediction, target .* \(6, 4\), \(6, 3\)"),
        (lambda z: debiased_nt_xent(z, z, temperature=1.0, tau_plus=1.0), "tau_plus"),
        (lambda z: hard_nt_xent(z, z, temperature=1.0, tau_plus=0.0, beta=-1.0), "beta"),
        (lambda z: sup_con(z, temperature=1.0), r"\(N, V, D\).*\(6, 4\)"),
        (lambda z: sup_con(z[:, None], LABELS[:5], temperature=1.0), r"\(6,\).*\(5,\)"),
        (lambda z: sup_con(z[:, None], temperature=1.0, form="no"), "form"),  # type: ignore[arg-type]
        (lambda z: suncet(z, LABELS, temperature=1.0, smoothing=1.0), "smoothing"),
        (lambda z: info_nce(z, z, temperature=1.0, similarity="no"), "neg_sq_dist"),  # type: ignore[arg-type]
    ],
)
def test_settings_out_of_range_are_named(call: Callable[[Tensor], Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(draw(6, 4))


SIGNATURES = """
info_nce(query, key, *, temperature, negatives, similarity, valid)
bilinear_info_nce(query, key, weight, *, temperature, valid)
mahalanobis_info_nce(mean_q, var_q, mean_k, var_k, *, temperature, valid)
wasserstein_info_nce(mean_q, var_q, mean_k, var_k, *, temperature, valid)
distance_metric(features, labels, *, row_weight)
nt_xent(z1, z2, *, temperature, valid)
sup_con(features, labels, *, temperature, form, contrast, valid)
suncet(features, labels, *, temperature, num_classes, smoothing, valid)
debiased_nt_xent(z1, z2, *, temperature, tau_plus, valid)
hard_nt_xent(z1, z2, *, temperature, tau_plus, beta, valid)
cacr(views, *, t_pos, t_neg, attract, repel, valid)
negative_cosine(prediction, target)
barlow_twins(z1, z2, *, off_diagonal)
vicreg(z1, z2, *, invariance, variance, covariance)
pair_regression(score, same)
align(z1, z2, alpha)
uniform(z, t)
effective_rank(z)
feature_std(z)
feature_correlation(z)
MemoryQueue(size, dim)
mix_hard_negatives(query, negatives, *, hardest, mixed, query_mixed, generator)
MomentumTarget(module, tau, *, buffers)
DirectPredictor(dim, *, rho, eps, every)
GroupWhitening(dim, *, groups, shuffle)
Bilinear(dim)
gather_with_grad(z)
"""


@pytest.mark.parametrize("line", SIGNATURES.split("\n")[1:-1])
def test_public_signatures_stay(line: str) -> None:
    """Names and order; more options may follow, by keyword."""
    name, _, rest = line.removesuffix(")").partition("(")
    by_order, _, by_name = rest.partition("*, ") if "*" in rest else (rest, "", "")
    found = inspect.signature(getattr(contrast, name)).parameters.values()
    ordered = [p.name for p in found if p.kind is not inspect.Parameter.KEYWORD_ONLY]
    assert ordered == [word for word in by_order.split(", ") if word]
    assert set(by_name.split(", ")) - {""} <= {p.name for p in found if p.kind is inspect.Parameter.KEYWORD_ONLY}
