"""Adversarial training: the selections of ASCL against loops, its baselines, and the accuracy under attack."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rlrep.contrast import sup_con
from rlrep.contrast.parts import Attack, Projection
from rlrep.settings import UserError
from rlrep.ssl import ImageBatch, RobustClassifier
from rlrep.ssl.classification import classifier_scores
from rlrep.ssl.evaluation import ProbeConfig
from rlrep.ssl.robust import RobustClassifierMethod
from rlrep.views import NoChange

from .ssl_rig import ABOUT, conv_encoder, equal, images, learner

CONFIG = RobustClassifier((NoChange(),), Projection(hidden_dim=8, out_dim=5), Attack(0.1, steps=2))
LABELS = torch.arange(8) // 2
BATCH = ImageBatch((images(8),), LABELS)


def method(**settings: Any) -> RobustClassifierMethod:
    torch.manual_seed(0)
    made = replace(CONFIG, **settings).make(conv_encoder(), ABOUT).eval()
    assert isinstance(made, RobustClassifierMethod)
    return made


def loop(made: RobustClassifierMethod, latent: Tensor, predicted: Tensor) -> tuple[float, float, float]:
    """Return the contrast of 2N rows and the kept shares, pair by pair."""
    labels, selection = LABELS.repeat(2).tolist(), made.config.selection
    z = F.normalize(made.online.get_submodule("projector")(latent), dim=1)
    seen, losses, kept, count = predicted.tolist(), list[float](), [0, 0], [0, 0]
    for i in range(len(z)):
        positives, negatives = [], []
        for j in range(len(z)):
            if j == i:
                continue
            if labels[j] == labels[i]:
                count[0] += 1
                if selection != "leaked" or seen[j] == seen[i]:
                    positives.append(j)
            else:
                count[1] += 1
                wrong = {"all": True, "hard": seen[j] == labels[i]}.get(selection, seen[j] == seen[i])
                negatives += [j] if wrong else []
        kept = [kept[0] + len(positives), kept[1] + len(negatives)]
        if positives:
            similar = z[i] @ z.T / made.config.temperature
            mass = similar[positives + negatives].logsumexp(0)
            losses.append(float((mass - similar[positives].mean()).detach()))
    return sum(losses) / len(losses), kept[0] / count[0], kept[1] / count[1]


@pytest.mark.parametrize("selection", ["all", "soft", "hard", "leaked"])
def test_selected_pairs_are_contrasted_as_a_loop_over_them_does(selection: Any) -> None:
    made = method(selection=selection)
    latent = torch.randn(16, made.encoder.latent_dim)
    predicted = torch.tensor([0, 1, 1, 1, 2, 0, 3, 2, 0, 0, 1, 3, 2, 2, 1, 1])
    loss, kept = made._contrast(latent, LABELS.repeat(2), predicted)
    expected = loop(made, latent, predicted)
    found = (float(loss.detach()), float(kept["kept_positives"]), float(kept["kept_negatives"]))
    assert found == pytest.approx(expected, rel=1e-5)
    if selection == "all":
        z = made.online.get_submodule("projector")(latent)
        torch.testing.assert_close(loss, sup_con(z[:, None], LABELS.repeat(2), temperature=0.2))
    if selection == "leaked":  # who alone passes for something has no positive, and counts in nothing
        alone, _ = made._contrast(latent, LABELS.repeat(2), torch.arange(16))
        assert float(alone.detach()) == 0.0


def test_attract_of_everyone_is_supcon_and_of_nobody_nothing() -> None:
    z, everyone = torch.randn(6, 2, 4, requires_grad=True), torch.ones(6, 6, dtype=torch.bool)
    plain = sup_con(z, LABELS[:6], temperature=0.5)
    assert torch.equal(sup_con(z, LABELS[:6], temperature=0.5, attract=everyone), plain)
    nothing = sup_con(z, LABELS[:6], temperature=0.5, attract=~everyone)
    (gradient,) = torch.autograd.grad(nothing, z)
    assert float(nothing.detach()) == 0.0 and not gradient.any()
    with pytest.raises(ValueError, match="attract must be bool"):
        sup_con(z, LABELS[:6], temperature=0.5, attract=everyone[:3])


def test_the_loss_is_its_weighted_terms() -> None:
    made = method(natural=0.5, adversarial=2.0, divergence=3.0, contrast=0.7)
    torch.manual_seed(3)
    loss, metrics = made.loss(BATCH)
    torch.manual_seed(3)
    moved = made._moved(BATCH.views[0], LABELS)
    plain, attacked = made.logits(BATCH.views[0]), made.logits(moved)
    reach = (moved - BATCH.views[0].float()).abs()
    assert float(reach.max()) <= 25.5 + 1e-3 and float(moved.min()) >= 0 and float(moved.max()) <= 255
    assert bool(F.cross_entropy(attacked, LABELS) > F.cross_entropy(plain, LABELS))
    divergence = (attacked.softmax(1) * (attacked.log_softmax(1) - plain.log_softmax(1))).sum(1).mean()
    expected = 0.5 * F.cross_entropy(plain, LABELS) + 2.0 * F.cross_entropy(attacked, LABELS) + 3.0 * divergence
    torch.testing.assert_close(loss, expected + 0.7 * metrics["contrast"])


def test_the_baselines_are_pgd_at_and_trades() -> None:
    made = method(selection="none", divergence=0.0)
    torch.manual_seed(3)
    loss, metrics = made.loss(BATCH)
    torch.manual_seed(3)
    moved = made._moved(BATCH.views[0], LABELS)
    torch.testing.assert_close(loss, F.cross_entropy(made.logits(moved), LABELS))
    assert "contrast" not in metrics and "kept_positives" not in metrics
    trades = method(selection="none", against="prediction", natural=1.0, adversarial=0.0, divergence=6.0)
    torch.manual_seed(3)
    loss, _ = trades.loss(BATCH)
    torch.manual_seed(3)
    moved = trades._moved(BATCH.views[0], LABELS)
    plain, attacked = trades.logits(BATCH.views[0]), trades.logits(moved)
    robust = F.kl_div(attacked.log_softmax(1), plain.softmax(1), reduction="batchmean")
    torch.testing.assert_close(loss, F.cross_entropy(plain, LABELS) + 6.0 * robust)


def test_accuracy_falls_with_the_attack_and_is_the_same_each_time() -> None:
    run = learner("cross_entropy", "augment=none", "train.updates=40")
    for _ in range(40):
        run.update()
    scores = []
    for attack in (None, Attack(0.05, 1, 0.05), Attack(0.05, 7), Attack(0.05, 20), Attack(0.05, 20)):
        found = classifier_scores(
            run.method, run.data, run.data.rows(torch.arange(200)), "digit", run.views[0], ProbeConfig(attack=attack)
        )
        scores.append(found[-1].value)
    clean, fgsm, seven, twenty, again = scores
    assert clean > fgsm >= seven >= twenty == again
    assert clean - twenty > 0.1


def test_it_resumes_bit_for_bit() -> None:
    whole, first = learner("ascl"), learner("ascl")
    for _ in range(2):
        whole.update()
        first.update()
    second = learner("ascl")
    second.load_state(first.state())
    for _ in range(2):
        whole.update()
        second.update()
    assert equal(second.method.state_dict().values(), whole.method.state_dict().values())


def test_what_it_cannot_train_on_is_refused() -> None:
    with pytest.raises(UserError, match="one view"):
        learner("ascl", "method.views=[mild,mild]")
    with pytest.raises(ValueError, match="weights"):
        replace(CONFIG, adversarial=-1.0)
    for wrong in ({"epsilon": 0.0}, {"steps": 0}, {"step": -1.0}):
        with pytest.raises(ValueError, match="epsilon must be"):
            Attack(**wrong)
