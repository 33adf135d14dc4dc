"""Which objects networks in training have right, and how that is told apart from chance (Sadrtdinov et al. 2021)."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rlrep.contrast.pairs import unit
from rlrep.ssl import Learner
from rlrep.ssl.base import Method
from rlrep.ssl.evaluation import encode

from .study import Numbers

_DRAWS = 10
Right = Callable[[Method], Tensor]
"""Which objects a network has right, bool `(M, K)`: by fixed augmentation and object."""


def looks(learner: Learner, right: Right, *, most: int, every: int, enough: float) -> list[Tensor]:
    """Train for up to `most` updates and return what was right at every look, until `enough` of the objects are."""
    found: list[Tensor] = []
    for update in range(1, most + 1):
        learner.update()
        if update % every == 0 or update == most:
            found.append(right(learner.method))
            if float(found[-1].double().mean()) >= enough:
                break
    return found


def reached(runs: Sequence[Sequence[Tensor]], at: float) -> tuple[int, Tensor]:
    """Return the first look at which the mean over N runs is at least `at`, or the last: its place, and `(N, M, K)`."""
    shared = min(map(len, runs))
    hits = torch.stack([torch.stack(list(run[:shared])) for run in runs], 1)  # look, training, pair, object
    found = (hits.double().mean((1, 2, 3)) >= at).nonzero().flatten().tolist()
    place = found[0] if found else shared - 1
    return place, hits[place]


def partners(method: Method, shown: Sequence[Tensor], batch_size: int) -> Tensor:
    """Return bool `(M, K)`: whether every object's second view is found from its first, among those of its fixed batch.

    shown: M pairs of views `(2, K, C, H, W)`.
    """
    found = []
    for views in shown:
        first, second = (encode(method.online, each).split(batch_size) for each in views)
        found.append(torch.cat([partner_found(*both) for both in zip(first, second, strict=True)]))
    return torch.stack(found)


def partner_found(first: Tensor, second: Tensor) -> Tensor:
    """Return bool `(B,)`: of which rows of first `(B, D)` the most similar of all 2B - 1 others is its own second view.

    Among random embeddings that is so with probability 1/(2B - 1).
    """
    z = unit(torch.cat([first, second]))
    nearest = (z @ z.T).fill_diagonal_(-2.0)[: len(first)].argmax(1)
    return nearest == torch.arange(len(first)) + len(first)


def distance_to_binomial(hits: Tensor) -> float:
    """Return the mean distance of the sorted shares of hits `(T, K)` of K objects to those of objects that are alike.

    Alike: every hit has the same probability, the mean one; the mean over ten draws of T hits for K objects.
    """
    return float(np.abs(alike(hits) - np.sort(hits.double().mean(0).numpy())).mean())


def alike(hits: Tensor) -> NDArray[np.float64]:
    """Return sorted shares `(10, K)` of objects that are alike, drawn ten times."""
    trials, count = hits.shape
    random = np.random.default_rng(0)
    return np.sort(random.binomial(trials, float(hits.double().mean()), (_DRAWS, count)) / trials, axis=1)


def excess_variance(hits: Tensor) -> float:
    """Return the variance over K objects of the shares of hits `(T, K)` over that of objects that are alike: 1."""
    shares, p = hits.double().mean(0), hits.double().mean()
    return float(shares.var() / (p * (1.0 - p) / len(hits)).clamp_min(1e-12))


def described(hits: Tensor) -> Numbers:
    """Return what hits `(N, M, K)` of N trainings and M augmentations say of K objects."""
    return {
        "right": float(hits.double().mean()),
        "distance": distance_to_binomial(hits.flatten(0, 1)),
        "fixed variance": float(np.mean([excess_variance(pair) for pair in hits.unbind(1)])),
    }
