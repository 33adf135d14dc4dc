"""The objectives once more, slowly: loops over floats that follow the papers' sums, with plain exponentials."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import mean

from torch import Tensor

Vector = list[float]


def dot(a: Vector, b: Vector) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def cosine(a: Vector, b: Vector) -> float:
    return dot(a, b) / math.sqrt(dot(a, a) * dot(b, b))


def square_distance(a: Vector, b: Vector) -> float:
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))


def sphere_distance(a: Vector, b: Vector) -> float:
    return 2.0 - 2.0 * cosine(a, b)


SIMILARITIES: dict[str, Callable[[Vector, Vector], float]] = {
    "cosine": cosine,
    "dot": dot,
    "neg_sq_dist": lambda a, b: -square_distance(a, b),
}


def allowed(valid: Tensor | None, i: int, j: int) -> bool:
    return valid is None or bool(valid[i, j])


def diagonal(score: Callable[[int, int], float], count: int, valid: Tensor | None) -> float:
    """Cross entropy with the diagonal; the positive is never masked."""
    losses = []
    for i in range(count):
        own = math.exp(score(i, i))
        rest = sum(math.exp(score(i, j)) for j in range(count) if j != i and allowed(valid, i, j))
        losses.append(-math.log(own / (own + rest)))
    return mean(losses)


def info_nce(query: Tensor, key: Tensor, t: float, kind: str, valid: Tensor | None = None) -> float:
    q, k, score = query.tolist(), key.tolist(), SIMILARITIES[kind]
    return diagonal(lambda i, j: score(q[i], k[j]) / t, len(q), valid)


def info_nce_against(query: Tensor, key: Tensor, negatives: Tensor, t: float, kind: str, valid: Tensor | None) -> float:
    q, k, score, losses = query.tolist(), key.tolist(), SIMILARITIES[kind], []
    for i, anchor in enumerate(q):
        rows = (negatives if negatives.ndim == 2 else negatives[i]).tolist()
        own = math.exp(score(anchor, k[i]) / t)
        rest = sum(math.exp(score(anchor, row) / t) for j, row in enumerate(rows) if allowed(valid, i, j))
        losses.append(-math.log(own / (own + rest)))
    return mean(losses)


def model_contrast(z: Tensor, received: Tensor, earlier: list[Tensor], t: float) -> float:
    total = 0.0
    for i, row in enumerate(z.tolist()):
        near, *far = (math.exp(cosine(row, other[i].tolist()) / t) for other in (received, *earlier))
        total -= math.log(near / (near + sum(far)))
    return total / len(z)


def bilinear(query: Tensor, key: Tensor, weight: Tensor, t: float, valid: Tensor | None = None) -> float:
    return diagonal(lambda i, j: float(query[i] @ weight @ key[j]) / t, len(query), valid)


def mahalanobis(mq: Tensor, vq: Tensor, mk: Tensor, vk: Tensor, t: float, valid: Tensor | None = None) -> float:
    def score(i: int, j: int) -> float:
        parts = [(mq[i, d] - mk[j, d]) ** 2 / (1e-3 + (vq[i, d] + vk[j, d]) / 2) for d in range(mq.shape[1])]
        return -float(sum(parts)) / t

    return diagonal(score, len(mq), valid)


def wasserstein(mq: Tensor, vq: Tensor, mk: Tensor, vk: Tensor, t: float, valid: Tensor | None = None) -> float:
    def score(i: int, j: int) -> float:
        means = square_distance(mq[i].tolist(), mk[j].tolist())
        return -(means + square_distance(vq[i].sqrt().tolist(), vk[j].sqrt().tolist())) / t

    return diagonal(score, len(mq), valid)


def distance_metric(features: Tensor, labels: list[int], weight: list[float] | None = None) -> float:
    rows, total = features.tolist(), {True: [0.0, 0.0], False: [0.0, 0.0]}
    for i in range(len(rows)):
        for j in range(i):
            square, same = square_distance(rows[i], rows[j]) / len(rows[i]), labels[i] == labels[j]
            share = 1.0 if weight is None else weight[i] * weight[j]
            total[same][0] += share * (math.sqrt(square + 1e-3) if same else 1.0 / (square + 0.1))
            total[same][1] += share
    return sum(value / share for value, share in total.values() if share)


def hard(z1: Tensor, z2: Tensor, t: float, tau: float, beta: float, valid: Tensor | None = None) -> float:
    """NT-Xent with tau = beta = 0, debiased with beta = 0."""
    count, rows, losses = len(z1), z1.tolist() + z2.tolist(), []
    for i, anchor in enumerate(rows):
        pos = math.exp(cosine(anchor, rows[(i + count) % (2 * count)]) / t)
        neg = [
            math.exp(cosine(anchor, row) / t)
            for j, row in enumerate(rows)
            if j % count != i % count and allowed(valid, i % count, j % count)
        ]
        mass = 0.0
        if neg:
            importance = [n**beta for n in neg]
            weighted = sum(w * n for w, n in zip(importance, neg, strict=True)) / mean(importance)
            mass = max((weighted - tau * len(neg) * pos) / (1 - tau), len(neg) * math.exp(-1 / t))
        losses.append(-math.log(pos / (pos + mass)))
    return mean(losses)


def sup_con(
    features: Tensor, labels: Tensor | None, t: float, form: str, contrast: str = "all", valid: Tensor | None = None
) -> float:
    """form `in`, `out`, or `sum` (SuNCEt)."""
    count, views, _ = features.shape
    names = list(range(count)) if labels is None else labels.tolist()
    rows = [(n, features[n, v].tolist()) for v in range(views) for n in range(count)]
    losses = []
    for i, (n, anchor) in enumerate(rows[:count] if contrast == "one" else rows):
        others = [(m, math.exp(cosine(anchor, row) / t)) for j, (m, row) in enumerate(rows) if j != i]
        positive = [e for m, e in others if names[m] == names[n]]
        total = sum(positive) + sum(e for m, e in others if names[m] != names[n] and allowed(valid, n, m))
        if not positive:
            continue
        if form == "out":
            losses.append(-mean(math.log(e / total) for e in positive))
        else:
            losses.append(-math.log((mean(positive) if form == "in" else sum(positive)) / total))
    return mean(losses) if losses else 0.0


def suncet(features: Tensor, labels: Tensor, t: float, smoothing: float, classes: int | None = None) -> float:
    rows, names, losses = features.tolist(), labels.tolist(), []
    classes = classes or len(set(names))
    for i, anchor in enumerate(rows):
        others = [(names[j], math.exp(cosine(anchor, row) / t)) for j, row in enumerate(rows) if j != i]
        if names[i] not in [name for name, _ in others]:
            continue
        total, loss = sum(e for _, e in others), 0.0
        for name in set(names):
            target = smoothing / classes + (1 - smoothing) * (name == names[i])
            loss -= target * math.log(sum(e for other, e in others if other == name) / total)
        losses.append(loss)
    return mean(losses)


def cacr(
    views: Tensor, t_pos: float, t_neg: float, attract: float = 1.0, repel: float = 1.0, valid: Tensor | None = None
) -> float:
    z = views.tolist()
    count, samples = len(z), range(views.shape[1])

    def transport(anchor: Vector, others: list[Vector], sharpness: float) -> float:
        costs = [sphere_distance(anchor, other) for other in others]
        weights = [math.exp(sharpness * cost) for cost in costs]
        return sum(w * c for w, c in zip(weights, costs, strict=True)) / (sum(weights) or 1.0)

    far = [transport(z[x][n], [z[k][n] for k in range(count) if k != x], t_pos) for x in range(count) for n in samples]
    near = [
        transport(z[x][n], [z[y][m] for m in samples if m != n and allowed(valid, n, m)], -t_neg)
        for y in range(count)
        for x in range(y)
        for n in samples
    ]
    return attract * mean(far) - repel * mean(near)


def negative_cosine(prediction: Tensor, target: Tensor) -> float:
    return mean(sphere_distance(p, t) for p, t in zip(prediction.tolist(), target.tolist(), strict=True))


def columns(z: Tensor) -> list[Vector]:
    return [[x - mean(column) for x in column] for column in z.T.tolist()]


def barlow_twins(z1: Tensor, z2: Tensor, off_diagonal: float) -> float:
    count = len(z1)
    first, second = ([[x / math.sqrt(dot(c, c) / count + 1e-5) for x in c] for c in columns(z)] for z in (z1, z2))
    loss = 0.0
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            correlation = dot(a, b) / count
            loss += (correlation - 1) ** 2 if i == j else off_diagonal * correlation**2
    return loss


def vicreg(z1: Tensor, z2: Tensor, invariance: float, variance: float, covariance: float) -> float:
    count, dim = z1.shape
    loss = invariance * mean(square_distance(a, b) / dim for a, b in zip(z1.tolist(), z2.tolist(), strict=True))
    for z in (z1, z2):
        c = columns(z)
        cov = [[dot(a, b) / (count - 1) for b in c] for a in c]
        loss += variance * mean(max(0.0, 1 - math.sqrt(cov[i][i] + 1e-4)) for i in range(dim)) / 2
        loss += covariance * sum(cov[i][j] ** 2 for i in range(dim) for j in range(dim) if i != j) / dim
    return loss


def align(z1: Tensor, z2: Tensor, alpha: float) -> float:
    pairs = zip(z1.tolist(), z2.tolist(), strict=True)
    return mean(math.pow(sphere_distance(a, b), alpha / 2) for a, b in pairs)


def uniform(z: Tensor, t: float) -> float:
    rows = z.tolist()
    return math.log(mean(math.exp(-t * sphere_distance(rows[i], rows[j])) for j in range(len(rows)) for i in range(j)))


def feature_correlation(z: Tensor) -> float:
    c = columns(z)
    return mean(abs(cosine(c[i], c[j])) for i in range(len(c)) for j in range(len(c)) if i != j)
