"""Data for what is measured without training: episodes played at random, single steps for an agent's replay."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlrep.contract.env import Step
from rlrep.envs.dmc.env import DMC

Array = NDArray[Any]


class Play(NamedTuple):
    """E episodes of T agent steps, all ended by the time limit. obs: `(E, T + 1, ...)`. action: `(E, T, A)`.
    reward: `(E, T)`. told: `(E, T + 1, V)`, what was asked of the simulator."""

    obs: Array
    action: Array
    reward: Array
    told: Array


def play(task: DMC, episodes: int, seed: int = 0, ask: Callable[[Any], Sequence[float]] = lambda _: ()) -> Play:
    """Play with random actions, each held for so many steps as the episode's number says (1 to 10)."""
    env, rng = task.make(seed), np.random.default_rng(seed)
    played = []
    for episode in range(episodes):
        obs, over = env.reset(seed=1000 * seed + episode)[0], False
        rows: tuple[list[Any], ...] = ([np.array(obs)], [], [], [ask(env)])
        while not over:
            if len(rows[1]) % (episode % 10 + 1) == 0:
                action = rng.uniform(-1.0, 1.0, env.action_space.shape).astype(np.float32)
            obs, reward, terminated, over, _ = env.step(action)
            assert not terminated
            for row, value in zip(rows, (np.array(obs), action, float(reward), ask(env)), strict=True):
                row.append(value)
        played.append([np.array(row) for row in rows])
    env.close()
    return Play(*(np.stack(part) for part in zip(*played, strict=True)))


def one_step(obs: Array, final_obs: Array, reward: float, *, terminated: bool = False, truncated: bool = False) -> Step:
    """Return what one environment answers. obs, final_obs: `(1, ...)`, the same unless an episode ended."""
    ended, cut, died = (np.array([flag]) for flag in (terminated, truncated, False))
    unknown = np.full(1, np.nan, np.float32)
    return Step(obs, final_obs, np.array([reward], np.float32), ended, cut, died, unknown, unknown, unknown)
