"""What is set once per process: threads, allocator, device, random streams."""

import ctypes
import os
import random
import sys
from dataclasses import dataclass

import numpy as np
import torch

from .errors import UserError
from .protocols import Tree

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_NEVER_BYTES = 2**31 - 1


def cores() -> int:
    """Return the cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_threads() -> int:
    """Give torch every core, unless OMP_NUM_THREADS says otherwise; other pools get one thread. Returns torch's count.

    Two OpenMP pools on the same cores slow everything down many times, hence one place that decides.
    """
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]  # more numbers are for nested threads
    if asked and not (asked.isdecimal() and int(asked)):
        raise UserError(f"OMP_NUM_THREADS={asked} is no number of threads: unset it, or say how many")
    count = int(asked or cores())
    for pool in ("OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"):
        os.environ.setdefault(pool, "1")
    torch.set_num_threads(count)
    return count


def keep_large_blocks() -> bool:
    """Tell glibc to keep freed large blocks instead of returning them to the system (Linux only).

    An update allocates and frees the same tens of megabytes; mapping them anew each time costs page faults.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # musl
        return False
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, _NEVER_BYTES))


def pick_device(name: str) -> torch.device:
    """Return the device of `auto`, `cpu` or `cuda`. Raises UserError if a GPU is asked for and absent."""
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        built = "none is visible" if torch.version.cuda else "this torch was built without CUDA"
        raise UserError(
            f"device=cuda: no GPU can be used here ({built}): use device=cpu, or install a CUDA build of torch"
        )
    return torch.device("cuda" if name == "cuda" or (name == "auto" and available) else "cpu")


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
