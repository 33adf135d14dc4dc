"""Probes of frozen features: nearest neighbours, logistic regression, ridge regression, and their scores."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

_ITERATIONS = 200
_JOINT_ITERATIONS = 30
_CHUNK = 4096
_TOGETHER = 1 << 23
"""Values of the features of few labelled images that are worked on at once."""


class Fold(NamedTuple):
    """Features `(N, D)` and targets `(N,)` to fit a probe on, and others to score it on."""

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor


def nearest_neighbours(fold: Fold, *, neighbours: int, temperature: float) -> Tensor:
    """Return the classes `(M,)` that the nearest training features vote for, weighted by e^(cosine / temperature).

    Wu et al. 2018 (arXiv 1805.01978), section 3.4. targets: int64. neighbours: at most all.
    """
    names, train_y = fold.train_y.unique(return_inverse=True)
    train, found = F.normalize(fold.train_x.float(), dim=1), []
    for rows in F.normalize(fold.test_x.float(), dim=1).split(_CHUNK):
        similarity, index = (rows @ train.T).topk(min(neighbours, len(train)), dim=1)
        votes = torch.zeros(len(rows), len(names), device=rows.device)
        found.append(votes.scatter_add_(1, train_y[index], ((similarity - 1.0) / temperature).exp()).argmax(1))
    chosen: Tensor = names[torch.cat(found)]
    return chosen


def linear_classes(fold: Fold, *, strength: float = 1.0) -> Tensor:
    """Return the classes `(M,)` of a logistic regression on standardised features, fitted to the end by L-BFGS.

    It minimises sum of cross entropies + ||W||^2 / (2 strength); the biases are free.
    """
    names, target = fold.train_y.unique(return_inverse=True)
    train, test = standardise(fold.train_x, fold.test_x)
    weight, bias = _fitted(train, target, len(names), strength)
    chosen: Tensor = names[(test @ weight + bias).argmax(1)]
    return chosen


def linear_map(x: Tensor, y: Tensor, *, classes: int, strength: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return weight `(classes, D)` and bias `(classes,)` of `linear_classes` as a map of features as they are.

    x: `(N, D)`. y: classes `(N,)` from 0; those that do not occur get the smallest bias and no weight.
    """
    names, target = y.unique(return_inverse=True)
    mean, deviation = _scale(x, dim=0)
    fitted, offset = (each.detach() for each in _fitted((x - mean) / deviation, target, len(names), strength))
    weight = x.new_zeros(classes, x.shape[1])
    weight[names] = (fitted / deviation.T).T
    bias = (offset - (mean / deviation) @ fitted).flatten()
    whole = bias.min().repeat(classes)
    whole[names] = bias
    return weight, whole


def _fitted(x: Tensor, target: Tensor, classes: int, strength: float) -> tuple[Tensor, Tensor]:
    """Return weight `(D, classes)` and bias of the logistic regression on features that are standardised."""
    weight = torch.zeros(x.shape[1], classes, dtype=x.dtype, device=x.device, requires_grad=True)
    bias = torch.zeros(classes, dtype=x.dtype, device=x.device, requires_grad=True)

    def loss() -> Tensor:
        return F.cross_entropy(x @ weight + bias, target) + weight.square().sum() / (2.0 * strength * len(x))

    _minimise(loss, [weight, bias], _ITERATIONS)
    return weight, bias


def linear_classes_of_few(fold: Fold, draws: Tensor, *, strength: float = 1.0) -> list[Tensor]:
    """Return for every row of `draws` `(R, n)` what `linear_classes` of these n training images does: classes `(M,)`.

    As many draws as fit into memory take the same steps of L-BFGS, each in the space that its n images span, which
    holds the minimum: a third of the time of one after the other. Every draw must hold the same classes. In float64.
    """
    together = max(1, _TOGETHER // (draws.shape[1] * fold.train_x.shape[1]))
    return [classes for part in draws.split(together) for classes in _classes_of_few(fold, part, strength)]


def _classes_of_few(fold: Fold, draws: Tensor, strength: float) -> list[Tensor]:
    names, target = fold.train_y[draws].unique(return_inverse=True)
    few = fold.train_x.double()[draws]
    mean, deviation = _scale(few, dim=1)
    basis, spanned = torch.linalg.qr(((few - mean) / deviation).transpose(1, 2))
    x = spanned.transpose(1, 2)
    weight = torch.zeros(len(draws), x.shape[2], len(names), dtype=x.dtype, device=x.device, requires_grad=True)
    bias = torch.zeros(len(draws), 1, len(names), dtype=x.dtype, device=x.device, requires_grad=True)
    penalty = 1.0 / (2.0 * strength * draws.shape[1])

    def loss() -> Tensor:
        errors = F.cross_entropy((x @ weight + bias).flatten(0, 1), target.flatten(), reduction="sum")
        return errors / draws.shape[1] + penalty * weight.square().sum()

    _minimise(loss, [weight, bias], _ITERATIONS)
    test = fold.test_x.double()
    maps = zip(mean, deviation, basis @ weight.detach(), bias.detach(), strict=True)
    return [names[(((test - m) / d) @ w + b).argmax(1)] for m, d, w, b in maps]


def linear_classes_jointly(
    train_x: Tensor, train_ys: Sequence[Tensor], test_x: Tensor, *, strength: float = 1.0
) -> list[Tensor]:
    """Return for every variable the classes `(M,)` of a logistic regression on standardised features.

    Each minimises what `linear_classes` does, all in the same few steps of L-BFGS on decorrelated features, which share
    the cost: a hundred variables take seconds, and end within 0.01 of the macro-F1 of the minimum.
    """
    train, test = standardise(train_x, test_x)
    targets = [y.unique(return_inverse=True) for y in train_ys]
    sizes = [len(names) for names, _ in targets]
    mixing = _decorrelating(train, 2.0 / (strength * len(train)))
    train, test = train @ mixing, test @ mixing
    weight = torch.zeros(train.shape[1], sum(sizes), device=train.device, requires_grad=True)
    bias = torch.zeros(sum(sizes), device=train.device, requires_grad=True)

    def loss() -> Tensor:
        scores = (train @ weight + bias).split(sizes, dim=1)
        value = torch.stack([F.cross_entropy(part, y) for part, (_, y) in zip(scores, targets, strict=True)]).sum()
        return value + (mixing @ weight).square().sum() / (2.0 * strength * len(train))

    _minimise(loss, [weight, bias], _JOINT_ITERATIONS)
    scores = (test @ weight + bias).detach().split(sizes, dim=1)
    return [names[part.argmax(1)] for part, (names, _) in zip(scores, targets, strict=True)]


def _minimise(loss: Callable[[], Tensor], parameters: Sequence[Tensor], iterations: int) -> None:
    """Move the parameters to the minimum of a smooth loss, in at most this many iterations of L-BFGS."""
    optimiser = torch.optim.LBFGS(
        parameters, max_iter=iterations, tolerance_grad=1e-6, history_size=20, line_search_fn="strong_wolfe"
    )

    def step() -> Tensor:
        optimiser.zero_grad()
        value = loss()
        value.backward()
        return value

    with torch.enable_grad():
        optimiser.step(step)


def _decorrelating(features: Tensor, penalty: float) -> Tensor:
    """Return `(D, D)` after which the features' covariance, plus the penalty's share, is about the identity."""
    x = features.double()
    gram = x.T @ x / len(x) + penalty * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    mixing: Tensor = torch.linalg.inv(torch.linalg.cholesky(gram)).T.float()
    return mixing


def merge_classes(train_y: Tensor, test_y: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Merge neighbouring values where there are more than `most`, into groups of about as many training images each."""
    values, counts = train_y.unique(return_counts=True)
    if len(values) <= most:
        return train_y, test_y
    middle = (counts.cumsum(0) - counts / 2.0) / len(train_y)
    groups = (middle * most).long()

    def group(y: Tensor) -> Tensor:
        """A value that training lacks belongs to the next larger one."""
        found: Tensor = groups[torch.searchsorted(values, y).clamp(max=len(values) - 1)]
        return found

    return group(train_y), group(test_y)


def ridge_values(fold: Fold, *, penalty: float = 1.0) -> Tensor:
    """Return the values `(M,)` that ridge regression on standardised features predicts, in float64.

    It minimises the squared error + penalty x ||w||^2; the intercept is free.
    """
    train, test = standardise(fold.train_x.double(), fold.test_x.double())
    mean = fold.train_y.double().mean()
    gram = train.T @ train + penalty * torch.eye(train.shape[1], dtype=train.dtype, device=train.device)
    weight = torch.linalg.solve(gram, train.T @ (fold.train_y.double() - mean))
    values: Tensor = test @ weight + mean
    return values


def standardise(train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    """Return both less the training features' mean, over their standard deviation (over 1 where that is 0)."""
    train, test = (x if x.dtype == torch.float64 else x.float() for x in (train, test))
    mean, deviation = _scale(train, dim=0)
    return (train - mean) / deviation, (test - mean) / deviation


def _scale(train: Tensor, *, dim: int) -> tuple[Tensor, Tensor]:
    mean, deviation = train.mean(dim, keepdim=True), train.std(dim, correction=0, keepdim=True)
    return mean, torch.where(deviation > 1e-6 * (1.0 + mean.abs()), deviation, 1.0)


def accuracy(predicted: Tensor, target: Tensor) -> float:
    """Return the share of equal entries."""
    return float((predicted == target).double().mean())


def macro_f1(predicted: Tensor, target: Tensor) -> float:
    """Return the mean of F1 over the classes that occur in either."""
    scores = []
    for name in torch.cat([predicted, target]).unique():
        hit = float(((predicted == name) & (target == name)).sum())
        scores.append(2.0 * hit / float((predicted == name).sum() + (target == name).sum()))
    return sum(scores) / len(scores)


def r_squared(predicted: Tensor, target: Tensor) -> float:
    """Return 1 - squared error / variance, at most 1; negative where the mean of the targets does better."""
    target = target.double()
    return 1.0 - float((predicted - target).square().sum() / (target - target.mean()).square().sum())
