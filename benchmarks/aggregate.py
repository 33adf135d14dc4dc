"""Aggregates over seeds, with their uncertainty."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

BOOTSTRAPS = 10_000


def interquartile_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of the middle half along the last axis (Agarwal et al. 2021), ends weighted in part."""
    ordered = np.sort(values, axis=-1)
    count = ordered.shape[-1]
    edges = np.arange(count + 1) / count
    weights = np.clip(np.minimum(edges[1:], 0.75) - np.maximum(edges[:-1], 0.25), 0, None)
    result: NDArray[np.float64] = ordered @ (weights / weights.sum())
    return result


def summarise(per_seed: Sequence[float]) -> dict[str, object]:
    """Return mean, standard error, IQM and its 95 % percentile-bootstrap interval over seeds (None for one seed).

    With n seeds the interval has at most n**n distinct values: for two or three it says little, and the tables say so.
    """
    values = np.asarray(per_seed, dtype=np.float64)
    draws = np.random.default_rng(0).integers(len(values), size=(BOOTSTRAPS, len(values)))
    low, high = np.quantile(interquartile_mean(values[draws]), (0.025, 0.975))
    return {
        "per_seed": [round(float(value), 1) for value in values],
        "mean": round(float(values.mean()), 1),
        "standard_error": round(float(values.std(ddof=1) / np.sqrt(len(values))), 1) if len(values) > 1 else None,
        "iqm": round(float(interquartile_mean(values)), 1),
        "iqm_95": [round(float(low), 1), round(float(high), 1)] if len(values) > 1 else None,
    }
