"""How well a method that trains a classifier classifies, how many wrong labels it learnt by heart, which it flags."""

from functools import partial

import torch
from torch import Generator, Tensor
from torch.nn.functional import cross_entropy

from rlrep.contrast.parts import Attack
from rlrep.views import View

from .base import Method
from .data import ImageData
from .evaluation import BATCH, ProbeConfig, Score, evaluating, in_parts, thinned


@torch.no_grad()
def classifier_scores(
    method: Method, train: ImageData, test: ImageData, label: str, view: View, config: ProbeConfig
) -> list[Score]:
    """Return the accuracy on test images and, where training labels were made wrong, what became of these.

    robust_accuracy: of test images under `config.attack`, where there is one.
    memorised: share of the images with a wrong label that are classified as that label says. precision, recall: of the
    labels that the method flags as wrong. No scores of a method without a classifier.
    """
    if (found := _classes(method, test, view)) is None:
        return []
    known = test.known(label)
    scores = {("classifier", "accuracy"): _share(found[known] == test.labels[label][known])}
    if config.attack is not None:
        scores["classifier", "robust_accuracy"] = _robust_accuracy(
            method, test.rows(known.nonzero()[:, 0]), label, view, config.attack
        )
    if label in train.truth:
        scores |= _noise_scores(method, train, label, view, config)
    return [Score("encoder", label, probe, metric, value) for (probe, metric), value in scores.items()]


def _noise_scores(
    method: Method, train: ImageData, label: str, view: View, config: ProbeConfig
) -> dict[tuple[str, str], float]:
    seen = thinned(train, config.max_train)
    wrong = seen.labels[label] != seen.truth[label]
    found = _classes(method, seen, view)
    assert found is not None
    scores = {("classifier", "memorised"): _share((found == seen.labels[label])[wrong])}
    flagged = method.flagged(train.labels[label])
    if flagged is not None:
        wrong = train.labels[label] != train.truth[label]
        scores |= {("flagged", "precision"): _share(wrong[flagged]), ("flagged", "recall"): _share(flagged[wrong])}
    return scores


def _robust_accuracy(method: Method, test: ImageData, label: str, view: View, attack: Attack) -> float:
    """Return the share of images that are classified right although an adversary has moved their pixels."""
    hits, draws = [], Generator(test.images.device).manual_seed(0)
    with evaluating(method):
        for images, classes in zip(test.images.split(BATCH), test.labels[label].split(BATCH), strict=True):
            moved = attack(partial(_error, method, classes), view.fixed(images), draws)
            hits.append(_logits(method, moved).argmax(1) == classes)
    return _share(torch.cat(hits))


def _error(method: Method, classes: Tensor, images: Tensor) -> Tensor:
    return cross_entropy(_logits(method, images), classes)


def _classes(method: Method, data: ImageData, view: View) -> Tensor | None:
    with evaluating(method):
        if method.logits(view.fixed(data.images[:2])) is None:
            return None
        return in_parts(lambda images: _logits(method, images), data.images, view).argmax(1)


def _logits(method: Method, images: Tensor) -> Tensor:
    logits = method.logits(images)
    assert logits is not None
    return logits


def _share(hits: Tensor) -> float:
    """Return the share that is true, 0 of none."""
    return float(hits.double().mean()) if len(hits) else 0.0
