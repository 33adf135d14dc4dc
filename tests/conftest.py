"""What every test runs under: rendering without a screen, as many torch threads as there are cores."""

import os

os.environ.setdefault("MUJOCO_GL", "egl")

import numpy as np
import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def torch_threads() -> None:
    """Use the cores this process was given: two OpenMP pools on one core are ten times slower than one."""
    torch.set_num_threads(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    """Every test draws the same numbers in every run."""
    torch.manual_seed(0)
    np.random.seed(0)
