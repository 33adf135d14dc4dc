"""Where N environments put their steps: arrays in one block of memory that worker processes can share."""

import math
import mmap
import os
import tempfile
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from rlrep.contract.env import Array

from .checked import Checked

ALIGNMENT = 64


@dataclass(frozen=True)
class Arrays:
    """What goes in and comes out of a step; row i is environment i's. `file`: the shared block, -1 when private."""

    obs: Array
    final_obs: Array
    actions: Array
    reward: NDArray[np.float32]
    success: NDArray[np.float32]
    score: NDArray[np.float32]
    context_reward: NDArray[np.float32]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    file: int


Layout = list[tuple[tuple[int, ...], str]]
"""Shape and type of each of `Arrays`, in its order; plain, so that it can be sent to a worker."""


def layout(num_envs: int, obs_space: spaces.Box, action_space: spaces.Box | spaces.Discrete) -> Layout:
    """Return what N environments of these spaces need."""
    obs, number, flag = ((num_envs, *obs_space.shape), obs_space.dtype), ((num_envs,), "f4"), ((num_envs,), "?")
    actions = ((num_envs, *(action_space.shape or ())), action_space.dtype)
    arrays = (obs, obs, actions, number, number, number, number, flag, flag)
    return [(shape, np.dtype(dtype).str) for shape, dtype in arrays]


def allocate(arrays: Layout, *, shared: bool = False) -> Arrays:
    """Make the arrays. Shared memory has no name: it goes with the last process that maps it, however that ends."""
    size = sum(_padded(*each) for each in arrays)
    if not shared:
        return _slice(bytearray(size), arrays, -1)
    file = _anonymous_file()
    os.ftruncate(file, size)
    return attach(file, arrays)


def attach(file: int, arrays: Layout) -> Arrays:
    """Map the arrays of a shared block into this process."""
    return _slice(mmap.mmap(file, 0), arrays, file)


def step_into(env: Checked, arrays: Arrays, index: int) -> None:
    """Step one environment with its row's action, reset it where its episode ended, and write the row."""
    obs, reward, terminated, truncated, info = env.step(arrays.actions[index])
    arrays.reward[index], arrays.success[index] = reward, info.get("success", np.nan)
    arrays.score[index] = info.get("score", np.nan)
    arrays.context_reward[index] = info.get("context_reward", np.nan)
    arrays.terminated[index], arrays.truncated[index] = terminated, truncated
    if terminated or truncated:
        arrays.final_obs[index] = obs
        obs = env.reset()
    arrays.obs[index] = obs


def _slice(memory: Any, arrays: Layout, file: int) -> Arrays:
    views: list[Array] = []
    offset = 0
    for shape, dtype in arrays:
        views.append(np.frombuffer(memory, dtype, math.prod(shape), offset).reshape(shape))
        offset += _padded(shape, dtype)
    return Arrays(*views, file=file)  # type: ignore[arg-type, misc]  # in their order


def _padded(shape: tuple[int, ...], dtype: str) -> int:
    size = math.prod(shape) * np.dtype(dtype).itemsize
    return -(-size // ALIGNMENT) * ALIGNMENT


def _anonymous_file() -> int:
    create = getattr(os, "memfd_create", None)  # Linux only
    if create is not None:
        return int(create("rlrep-envs"))
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
