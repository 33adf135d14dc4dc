"""What is known of a context encoder: does its latent tell tasks apart, and how does certainty grow with experience."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rlrep.contract.agent import MetaAgent
from rlrep.contract.meta import Trajectory

Floats = NDArray[np.float32]
_WINDOWS = 16
"""Contexts drawn of each task, for fitting the probe and again for scoring it."""


@dataclass(frozen=True)
class Health:
    """metrics: by name. means `(R, D)` of the probe's beliefs, of tasks `(R,)`.

    variance: mean posterior variance after so many transitions.
    """

    metrics: dict[str, float]
    means: Floats
    tasks: NDArray[np.int64]
    variance: dict[int, float]


def measure(
    agent: MetaAgent, first: Sequence[Trajectory], last: Sequence[Trajectory], *, size: int, seed: int
) -> Health | None:
    """Return what the agent's beliefs say of tasks, None if it infers nothing, or if there is one task only.

    first, last: an early and the last episode of each task, in the same order. A linear probe learns to name the task
    from beliefs by windows of the one, and is scored on windows of the other. size: transitions of a window, at
    most half of the shortest episode.
    """
    if len(first) < 2 or agent.beliefs(first[:1]) is None:
        return None
    shortest = min(len(episode) for episode in (*first, *last))
    length = min(size, max(1, shortest // 2))  # of whole episodes there would be one window each
    random = np.random.default_rng(seed)
    fit, score = (_means(agent, episodes, length, random) for episodes in (first, last))
    tasks = np.repeat(np.arange(len(first)), _WINDOWS)
    variance = _certainty(agent, first, length)
    metrics = {
        "context/task_accuracy": _probe(fit, score, tasks),
        "context/task_chance": 1 / len(first),
        **{f"context/variance_{count}": value for count, value in variance.items()},
    }
    return Health(metrics, score, tasks, variance)


def _means(agent: MetaAgent, episodes: Sequence[Trajectory], length: int, random: np.random.Generator) -> Floats:
    """Return mean beliefs `(tasks * _WINDOWS, D)` by random windows of each episode."""
    windows = [
        cut(episode, int(random.integers(len(episode) - length + 1)), length)
        for episode in episodes
        for _ in range(_WINDOWS)
    ]
    found = agent.beliefs(windows)
    assert found is not None
    return found[0]


def _certainty(agent: MetaAgent, episodes: Sequence[Trajectory], length: int) -> dict[int, float]:
    """Return the mean variance of beliefs by the first 1, 2, 4, ... transitions, at most `length`."""
    counts = [2**k for k in range(length.bit_length())]
    found = {count: agent.beliefs([cut(episode, 0, count) for episode in episodes]) for count in counts}
    return {count: float(belief[1].mean()) for count, belief in found.items() if belief is not None}


def _probe(fit: Floats, score: Floats, tasks: NDArray[np.int64]) -> float:
    """Return the share of `score` whose task a linear classifier fitted on `fit` names, NaN for beliefs that are not
    finite."""
    if not (np.isfinite(fit).all() and np.isfinite(score).all()):
        return float("nan")
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(fit, tasks)
    return float(probe.score(score, tasks))


def cut(episode: Trajectory, start: int, length: int) -> Trajectory:
    """Return `length` transitions of an episode from `start` on."""
    stop = start + length
    return Trajectory(
        episode.obs[start : stop + 1],
        episode.action[start:stop],
        episode.reward[start:stop],
        episode.context_reward[start:stop],
        episode.terminated and stop == len(episode),
    )
