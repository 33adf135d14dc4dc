"""What every test runs under: rendering without a screen, and its share of the cores, in processes it starts too."""

import os

os.environ.setdefault("MUJOCO_GL", "egl")
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of processes that tests start

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
THREADS = max(1, CORES // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))
"""Of this test process: two OpenMP pools on one core are ten times slower than one."""

settings.register_profile("rlrep", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("rlrep")


@pytest.fixture(autouse=True, scope="session")
def torch_threads() -> None:
    """Use the cores this process was given."""
    torch.set_num_threads(THREADS)


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    """Every test draws the same numbers in every run."""
    torch.manual_seed(0)
    np.random.seed(0)
