"""Scores on a common scale, so that tasks can be averaged."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from rlrep.envs.atari_scores import SCORES

Array = NDArray[np.float64]
DMC_PERFECT = 1000.0
"""Return of an episode of the Control Suite in which every one of 1000 steps earns 1 (Tassa et al. 2018)."""


def human_normalised(game: str, returns: Array, references: Mapping[str, tuple[float, float]] = SCORES) -> Array:
    """Return `(score - random) / (human - random)` (Mnih et al. 2015). Raises ValueError for an unknown game."""
    if game not in references:
        raise ValueError(f"{game} has no random and human score to normalise by")
    random, human = references[game]
    return (np.asarray(returns, np.float64) - random) / (human - random)


def dmc_normalised(returns: Array) -> Array:
    """Return returns of the Control Suite divided by 1000, the most that an episode can earn."""
    return np.asarray(returns, np.float64) / DMC_PERFECT
