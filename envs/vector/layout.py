"""Where N environments put their steps: arrays in one block of memory that worker processes can share."""

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


def allocate(
    num_envs: int, obs_space: spaces.Box, action_space: spaces.Box | spaces.Discrete, *, shared: bool = False
) -> Arrays:
    """Make the arrays. Shared memory has no name: it goes with the last process that maps it, however that ends."""
    size = sum(_padded(shape, dtype) for shape, dtype in _layout(num_envs, obs_space, action_space))
    if not shared:
        return _slice(bytearray(size), num_envs, obs_space, action_space, -1)
    file = _anonymous_file()
    os.ftruncate(file, size)
    return attach(file, num_envs, obs_space, action_space)


def attach(file: int, num_envs: int, obs_space: spaces.Box, action_space: spaces.Box | spaces.Discrete) -> Arrays:
    """Map the arrays of a shared block into this process."""
    return _slice(mmap.mmap(file, 0), num_envs, obs_space, action_space, file)


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


def _layout(
    num_envs: int, obs_space: spaces.Box, action_space: spaces.Box | spaces.Discrete
) -> list[tuple[tuple[int, ...], Any]]:
    obs = ((num_envs, *obs_space.shape), obs_space.dtype)
    actions = ((num_envs, *(action_space.shape or ())), action_space.dtype)
    flag = ((num_envs,), np.bool_)
    number = ((num_envs,), np.float32)
    return [obs, obs, actions, number, number, number, number, flag, flag]


def _slice(
    memory: Any, num_envs: int, obs_space: spaces.Box, action_space: spaces.Box | spaces.Discrete, file: int
) -> Arrays:
    arrays: list[Array] = []
    offset = 0
    for shape, dtype in _layout(num_envs, obs_space, action_space):
        count = int(np.prod(shape))
        arrays.append(np.frombuffer(memory, dtype, count, offset).reshape(shape))
        offset += _padded(shape, dtype)
    obs, final_obs, actions, reward, success, score, context_reward, terminated, truncated = arrays
    return Arrays(obs, final_obs, actions, reward, success, score, context_reward, terminated, truncated, file)


def _padded(shape: tuple[int, ...], dtype: Any) -> int:
    size = int(np.prod(shape)) * int(np.dtype(dtype).itemsize)
    return -(-size // ALIGNMENT) * ALIGNMENT


def _anonymous_file() -> int:
    create = getattr(os, "memfd_create", None)  # Linux only
    if create is not None:
        return int(create("rlrep-envs"))
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
