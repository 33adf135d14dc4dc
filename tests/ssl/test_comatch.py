"""CoMatch against the same thing written out, and the regulariser against wrong labels in the classifier."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from rlrep.contrast import early_learning, graph_contrast
from rlrep.contrast.parts import EarlyLearning, Projection
from rlrep.settings import UserError
from rlrep.ssl import Classifier, CoMatch, ImageBatch, LabelledSubset
from rlrep.ssl.classifier import ClassifierMethod
from rlrep.ssl.comatch import CoMatchMethod

from .ssl_rig import ABOUT, SAME, conv_encoder, images, learner

CONFIG = CoMatch(
    SAME + SAME[:1],
    Projection(hidden_dim=8, out_dim=5, norm="none"),
    LabelledSubset(1.0, 4, 2),
    threshold=0.3,
    smoothing=0.6,
    alignment=3,
    memory=16,
    edge=0.27,
    unlabelled=0.5,
    contrast=2.0,
    average=0.9,
)


def comatch(config: CoMatch = CONFIG) -> CoMatchMethod:
    method = config.make(conv_encoder(), ABOUT)
    assert isinstance(method, CoMatchMethod)
    return method


def batch(seed: int = 0) -> ImageBatch:
    views = tuple(images(8, 10 * seed + number) for number in range(3))
    return ImageBatch(views, torch.arange(8) % 4, images(8, 10 * seed + 5), torch.arange(8) % 4)


def said(method: CoMatchMethod, seen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    latent = method.encoder(seen)
    return method.head(latent), method.online.get_submodule("projector")(latent)


def test_the_loss_is_what_the_paper_says() -> None:
    """Three batches: by the third the memory is full, and three means are divided out."""
    method, means = comatch(), list[torch.Tensor]()
    bank_z, bank_p = torch.zeros(0, 5), torch.zeros(0, 4)
    for step in range(3):
        given = batch(step)
        assert given.labelled is not None and given.labelled_classes is not None
        (weak, z_weak), (first, z0), (_, z1) = (said(method, view) for view in given.views)
        known, z_known = said(method, given.labelled)
        p = weak.softmax(1).detach()
        means.append(p.mean(0))
        p = p / torch.stack(means[-3:]).mean(0)
        p = p / p.sum(1, keepdim=True)
        q = p
        if len(bank_z) >= 16:
            near = (F.normalize(z_weak.detach(), dim=1) @ bank_z[-16:].T / 0.2).softmax(1)
            q = 0.6 * p + 0.4 * near @ bank_p[-16:]
        mask = (q.max(1).values >= 0.3).float()
        unlabelled = (mask * -(q * first.log_softmax(1)).sum(1)).mean()
        expected = F.cross_entropy(known, given.labelled_classes) + 0.5 * unlabelled
        expected = expected + 2.0 * graph_contrast(z0, z1, q, temperature=0.2, threshold=0.27)
        loss, metrics = method.loss(given)
        torch.testing.assert_close(loss, expected)
        assert float(metrics["sure"]) == float(mask.mean())
        bank_z = torch.cat([bank_z, F.normalize(torch.cat([z_weak, z_known]).detach(), dim=1)])
        bank_p = torch.cat([bank_p, p, F.one_hot(given.labelled_classes, 4).float()])
        assert len(method.memory) == 16 * step or step > 1, "the memory is read before it is written"
        method.after_step(step / 10)
    torch.testing.assert_close(method.memory.values(), bank_p[-16:])
    torch.testing.assert_close(method.memory.keys(), bank_z[-16:])


def test_without_memory_and_alignment_it_is_fixmatch_with_soft_labels() -> None:
    method = comatch(replace(CONFIG, smoothing=1.0, alignment=0, contrast=0.0, threshold=0.26))
    for step in range(2):
        given = batch(step)
        assert given.labelled is not None and given.labelled_classes is not None
        weak, strong = (said(method, view)[0] for view in given.views[:2])
        p = weak.softmax(1).detach()
        mask = p.max(1).values >= 0.26
        unlabelled = (mask * -(p * strong.log_softmax(1)).sum(1)).mean()
        expected = F.cross_entropy(said(method, given.labelled)[0], given.labelled_classes) + 0.5 * unlabelled
        loss, metrics = method.loss(given)
        torch.testing.assert_close(loss, expected)
        assert "contrast" not in metrics and not method.means.any()
        method.after_step(0.1)


def test_true_classes_are_measured_and_not_used() -> None:
    given = batch()
    losses, right = [], []
    for labels in (given.labels, torch.full((8,), -1), None):
        torch.manual_seed(0)
        loss, metrics = comatch(replace(CONFIG, threshold=0.0)).loss(replace(given, labels=labels))
        losses.append(float(loss.detach()))
        right.append(metrics.get("pseudo_accuracy"))
    assert len(set(losses)) == 1 and right[2] is None and right[1] is not None and float(right[1]) == 0.0


def test_evaluation_reads_the_average_of_the_networks() -> None:
    method, seen = comatch(), images(4)
    before = method.logits(seen)
    torch.testing.assert_close(before, said(method, seen)[0].detach())
    with torch.no_grad():
        method.head.bias.add_(1.0)
    assert torch.equal(method.logits(seen), before)
    method.after_step(0.1)
    torch.testing.assert_close(method.logits(seen), before + 0.1)


def test_the_regulariser_stands_beside_the_cross_entropy_and_moves_its_rows_after_the_step() -> None:
    config = Classifier(SAME[:1], regulariser=EarlyLearning(0.5, 2.0))
    method = config.make(conv_encoder(), ABOUT)
    assert isinstance(method, ClassifierMethod) and method.memory is not None and method.needs.index
    index, labels = torch.tensor([7, 3, 11, 30]), torch.arange(4)
    given = ImageBatch((images(4),), labels, index=index)
    logits = method.logits(given.views[0])
    p = logits.softmax(1)
    expected = F.cross_entropy(logits, labels) + 2.0 * early_learning(p, 0.5 * p.detach())
    loss, metrics = method.loss(given)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(metrics["cross_entropy"] + metrics["regulariser"], loss.detach())
    assert not method.memory.targets.any()
    method.after_step(0.1)
    assert set(method.memory.targets.any(1).nonzero()[:, 0].tolist()) == set(index.tolist())
    without = replace(config, regulariser=EarlyLearning(0.5, 0.0)).make(conv_encoder(), ABOUT)
    without.load_state_dict(method.state_dict())
    torch.testing.assert_close(without.loss(given)[0], F.cross_entropy(logits, labels))


@pytest.mark.parametrize("name", ["elr", "comatch"])
def test_a_resumed_run_goes_on_bit_for_bit(name: str) -> None:
    """The averages of predictions, the memory and the alignment's means are in the state."""
    words = ("method.memory=60", "method.alignment=2") if name == "comatch" else ("data.label_noise=0.3",)
    whole, resumed = (learner(name, *words) for _ in range(2))
    whole.update()
    whole.update()
    resumed.load_state(whole.state())
    for run in (whole, resumed):
        run.update()
        run.update()
    left, right = whole.method.state_dict(), resumed.method.state_dict()
    assert left.keys() == right.keys() and all(torch.equal(value, right[key]) for key, value in left.items())
    assert whole.metrics() == resumed.metrics()


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("comatch", ("method.views=[none,none]",), "a weak and two strong views, not 2"),
        ("comatch", ("train.label=mass",), "train.label="),
        ("comatch", ("method.smoothing=2",), r"smoothing must be in \[0, 1\]"),
        ("comatch", ("method.labelled.images=1",), "images=1 of a class are below"),
        ("elr", ("method.regulariser.beta=1",), "beta is the weight of the old average"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(name: str, words: tuple[str, ...], message: str) -> None:
    with pytest.raises((UserError, ValueError), match=message) as refused:
        learner(name, *words)
    assert "\n" not in str(refused.value)
