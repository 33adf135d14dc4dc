"""The random streams of a run."""

import random
from dataclasses import dataclass

import numpy as np
import torch

from rlrep.contract.env import Tree


@dataclass(frozen=True)
class Seeds:
    """Independent streams of one run's seed. Evaluation is seeded per episode, so that nothing of it needs saving."""

    seed: int

    @property
    def agent(self) -> int:
        """Seed of the agent's own generators."""
        return self._draw(1)

    def envs(self, count: int) -> list[int]:
        """Seeds of the training simulators."""
        return [self._draw(2, index) for index in range(count)]

    def episode(self, evaluation: int, episode: int) -> int:
        """Seed of an evaluation episode."""
        return self._draw(3, evaluation, episode)

    @property
    def collection(self) -> int:
        """Seed of what a meta-training loop draws."""
        return self._draw(7)

    def set_globals(self) -> None:
        """Seed python, numpy and torch."""
        random.seed(self._draw(4))
        np.random.seed(self._draw(5))
        torch.manual_seed(self._draw(6))

    def _draw(self, *key: int) -> int:
        return int(np.random.SeedSequence(self.seed, spawn_key=key).generate_state(1, np.uint32)[0] >> 1)


def random_state() -> Tree:
    """Return the state of every global random stream."""
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "python": [version, list(words), gauss],
        "numpy": [str(name), np.asarray(keys), int(position), int(has_gauss), float(cached)],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def load_random_state(tree: Tree) -> None:
    """Put every global random stream back. CUDA streams are left alone on a machine with another number of GPUs."""
    version, words, gauss = tree["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, position, has_gauss, cached = tree["numpy"]
    np.random.set_state((name, keys, position, has_gauss, cached))
    torch.set_rng_state(tree["torch"])
    if torch.cuda.is_available() and len(tree["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(tree["cuda"])
