"""Classes in the data and in methods: fewer and wrong labels, the classifier, micro-batches, what is measured."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from rlrep.contrast import MemoryQueue
from rlrep.nn import save_encoder
from rlrep.settings import UserError
from rlrep.ssl import Classifier, DataShape, ImageBatch, LabelledSubset, LinearHead, Method
from rlrep.ssl.classification import classifier_scores
from rlrep.ssl.classifier import ClassifierMethod
from rlrep.ssl.data import Digits, ImageData
from rlrep.ssl.data.image_data import class_count
from rlrep.ssl.data.labels import corrupt
from rlrep.ssl.evaluation import ProbeConfig, ProbeData, encode
from rlrep.ssl.probes import Fold, linear_classes, linear_map
from rlrep.views import NoChange

from .ssl_rig import ABOUT, SAME, composed, conv_encoder, equal, gradients, images, learner, resnet, statistics, views

CPU = torch.device("cpu")


def classifier(config: Classifier | None = None, about: DataShape = ABOUT) -> ClassifierMethod:
    method = (config or Classifier(SAME[:1])).make(conv_encoder(), about)
    assert isinstance(method, ClassifierMethod)
    return method


@pytest.mark.parametrize("noise", ["symmetric", "asymmetric"])
def test_noise_changes_a_share_of_the_labels_and_keeps_the_true_ones_apart(noise: Any) -> None:
    clean, noisy = (Digits(size=8, label_noise=share, noise=noise).make(CPU) for share in (0.0, 0.4))
    given, true = noisy.train.labels["digit"], noisy.train.truth["digit"]
    wrong = given != true
    assert torch.equal(true, clean.train.labels["digit"]) and not clean.train.truth
    assert torch.equal(noisy.test.labels["digit"], clean.test.labels["digit"])
    assert float(wrong.double().mean()) == pytest.approx(0.36 if noise == "symmetric" else 0.4, abs=0.03)
    if noise == "asymmetric":
        assert torch.equal(given[wrong], (true[wrong] + 1) % 10)
    again, other = (Digits(size=8, label_noise=0.4, noise=noise, noise_seed=seed).make(CPU).train for seed in (0, 1))
    assert torch.equal(again.labels["digit"], given) and not torch.equal(other.labels["digit"], given)
    assert torch.equal(ProbeData.of(noisy, ProbeConfig()).train.labels["digit"], true)


def test_unknown_labels_are_not_made_wrong_and_classes_may_have_gaps() -> None:
    labels = torch.tensor([-1, 2, 5, 5, 2, -1, 7])
    for noise in ("symmetric", "asymmetric"):
        found = corrupt(labels, share=1.0, noise=noise, seed=0)
        assert torch.equal(found < 0, labels < 0) and set(found.tolist()) <= {-1, 2, 5, 7}
    assert corrupt(labels, share=1.0, noise="asymmetric", seed=0).tolist() == [-1, 5, 7, 7, 5, -1, 2]


@pytest.mark.parametrize(("words", "count"), [({"labels_per_class": 3}, 30), ({"label_fraction": 0.1}, 144)])
def test_fewer_images_of_each_class_are_trained_on(words: dict[str, Any], count: int) -> None:
    split, whole = Digits(size=8, **words).make(CPU), Digits(size=8).make(CPU)
    assert len(split.train) == count and torch.equal(split.test.images[:], whole.test.images[:])
    assert not torch.equal(Digits(size=8, **words, label_seed=1).make(CPU).train.images[:], split.train.images[:])


def test_there_are_as_many_classes_as_the_largest_label_says() -> None:
    frames = images(6)
    data = ImageData(frames, {"kind": torch.tensor([0, 3, -1, 1, 0, 3]), "mass": torch.rand(6)})
    assert class_count(data, None) == class_count(data, "kind") == 4
    assert class_count(data, "mass") == class_count(ImageData(frames, {}), None) == 0
    assert class_count(ImageData(frames, {"a": torch.zeros(6).long(), "b": torch.ones(6).long()}), None) == 0


def test_a_labelled_subset_counts_images_of_each_class() -> None:
    labels = torch.arange(40) % 4
    chosen = LabelledSubset(images=3).rows(labels, seed=0)
    assert labels[chosen].bincount().tolist() == [3, 3, 3, 3]
    assert len(LabelledSubset(fraction=0.5).rows(labels, seed=0)) == 20


def test_the_classifier_is_cross_entropy_on_the_latent() -> None:
    method, batch = classifier(replace(Classifier(SAME[:1]), smoothing=0.2)), views(8, 1)
    labels = torch.arange(8) % 4
    logits = method.head(method.encoder(batch.views[0]))
    target = 0.8 * F.one_hot(labels, 4) + 0.2 / 4
    loss = method.loss(replace(batch, labels=labels))[0]
    torch.testing.assert_close(loss, -(target * logits.log_softmax(1)).sum(1).mean())
    assert torch.equal(method.logits(batch.views[0]), logits)
    assert all(bool(gradient.abs().sum() > 0) for gradient in gradients(loss, method))


def test_a_head_starts_as_the_linear_probe() -> None:
    """Of the features as they are: the probe works on standardised ones."""
    method = classifier(Classifier(SAME[:1], LinearHead("probe")), replace(ABOUT, classes=6))
    known, labels = images(40), torch.tensor([0, 1, 3, 5]).repeat(10)
    method.prepare(ImageData(known, {"kind": labels}), labels, NoChange())
    features, others = encode(method.encoder, known), encode(method.encoder, images(30, 1))
    expected = linear_classes(Fold(features, labels, others, torch.zeros(30)))
    assert torch.equal(method.head(others).argmax(1), expected) and len(expected.unique()) > 1
    weight, bias = linear_map(features, labels, classes=6)
    assert not weight[[2, 4]].any() and float(bias[2]) == float(bias[4]) == float(bias.min())


def test_a_frozen_encoder_stays_as_it_is_and_the_head_is_trained() -> None:
    encoder = resnet()
    encoder.body.requires_grad_(False)
    method = Classifier(SAME[:1]).make(encoder, ABOUT).train()
    assert isinstance(method, ClassifierMethod)
    before = statistics(encoder)
    found, _ = method.gradients(
        replace(views(8, 1), labels=torch.arange(8) % 4), [p for p in method.parameters() if p.requires_grad]
    )
    assert len(found) == 2 and all(bool(gradient.any()) for gradient in found)
    assert all(torch.equal(value, before[name]) for name, value in statistics(encoder).items())


def test_micro_batches_of_a_mean_over_images_are_the_batch() -> None:
    """Without batch norm, and by plain gradient descent: Adam's first step is a sign."""
    plain = ("encoder=curl_small", "encoder.strides=[2,1]", "optimiser.name=sgd", "optimiser.lr=0.1")
    whole, parts = (learner("cross_entropy", f"train.micro_batches={count}", *plain) for count in (1, 4))
    before = [parameter.clone() for parameter in whole._parameters]
    for run in (whole, parts):
        run.update()
    for first, second, old in zip(whole._parameters, parts._parameters, before, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-6)
        assert not torch.equal(first, old)
    assert whole.metrics()["train/loss"] == pytest.approx(parts.metrics()["train/loss"], rel=1e-4)


def test_micro_batches_all_reach_the_queue_and_share_out_a_labelled_batch() -> None:
    run = learner("moco_v2", "train.micro_batches=2", "method.splits=1")
    run.update()
    queue = run.method.get_submodule("queue")
    assert isinstance(queue, MemoryQueue) and len(queue) == 32
    labels = torch.arange(12) // 4
    batch = replace(views(6), labelled=images(12), labelled_classes=labels, index=torch.arange(6))
    first, second = batch.split(2)
    assert first.labelled_classes is not None and first.labelled_classes.tolist() == [0, 0, 1, 1, 2, 2]
    assert second.index is not None and second.index.tolist() == [1, 3, 5] and second.labels is None


class Known(Method):
    """Classifies an image as its first pixel says, and flags what differs from it."""

    def __init__(self, data: ImageData) -> None:
        super().__init__(conv_encoder(), torch.nn.Identity())
        self.data = data

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        return F.one_hot(images[:, 0, 0, 0].long(), 4).float()

    def flagged(self, labels: torch.Tensor) -> torch.Tensor:
        return labels != self.data.images[:][:, 0, 0, 0]


def test_what_became_of_wrong_labels_is_measured() -> None:
    """Six images; the classifier says 0 1 2 3 0 1, the labels 0 1 2 3 1 0, the truth 0 1 2 0 0 0."""
    frames = torch.tensor([0, 1, 2, 3, 0, 1], dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 16, 16)
    given, true = torch.tensor([0, 1, 2, 3, 1, 0]), torch.tensor([0, 1, 2, 0, 0, 0])
    data = ImageData(frames, {"kind": given}, truth={"kind": true})
    scores = classifier_scores(Known(data), data, data.true(), "kind", NoChange(), ProbeConfig())
    assert {(score.probe, score.metric): score.value for score in scores} == pytest.approx(
        {
            ("classifier", "accuracy"): 4 / 6,
            ("classifier", "memorised"): 1 / 2,
            ("flagged", "precision"): 1 / 2,
            ("flagged", "recall"): 1 / 2,
        }
    )
    silent = learner("simclr")
    assert classifier_scores(silent.method, data, data, "kind", NoChange(), ProbeConfig()) == []


@pytest.mark.parametrize(
    ("method", "words", "message"),
    [
        ("cross_entropy", ("method.views=[none,none]",), "needs one view to classify, not 2"),
        ("cross_entropy", ("train.label=mass",), "train.label="),
        ("cross_entropy", ("method.smoothing=1",), "smoothing must be in"),
        ("cross_entropy", ("train.micro_batches=5",), "micro_batches=5 does not share out a batch of 32"),
        ("simclr", ("train.micro_batches=32",), "micro_batches=32 does not share out"),
        ("suncet", ("method.labelled.per_class=1",), "per_class must be at least 2"),
        ("suncet", ("method.labelled.images=3",), "images=3 of a class are below"),
        ("simclr", ("data.labels_per_class=3", "data.label_fraction=0.1"), "twice"),
        ("simclr", ("data.label_noise=2",), "label_noise must be a share"),
        ("simclr", ("data.labels_per_class=1000",), "per_class=1000 does not fit class 0"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(method: str, words: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message) as refused:
        learner(method, *words)
    assert "\n" not in str(refused.value)


def test_fine_tuning_starts_from_a_saved_encoder(tmp_path: Path) -> None:
    words = ("method.head.start=probe", "encoder.freeze=true")
    trained = learner("cross_entropy")
    save_encoder(tmp_path, trained.method.encoder, composed("cross_entropy").encoder, (1, 16, 16), command="x")
    run = learner("cross_entropy", f"encoder.load={tmp_path}", "data.labels_per_class=8", *words)
    assert equal(run.method.encoder.parameters(), trained.method.encoder.parameters())
    before = [parameter.clone() for parameter in run.method.encoder.body.parameters()]
    (score,) = classifier_scores(run.method, run.data, run.data, "digit", run.views[0], ProbeConfig())
    assert score.value > 0.8, "before the first update"
    run.update()
    assert equal(before, run.method.encoder.body.parameters())


def test_a_batch_knows_its_rows() -> None:
    run = learner("cross_entropy")
    run.method.needs = replace(run.method.needs, index=True)
    batch: ImageBatch = run.next_batch()
    assert batch.index is not None and batch.labels is not None
    assert torch.equal(run.data.labels["digit"][batch.index], batch.labels)
