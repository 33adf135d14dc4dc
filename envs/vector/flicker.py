"""Frames that are not seen: each blank with a probability of its own, in every stack that shows it."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from rlrep.contract.env import Array, Step, Task, Tree, VectorEnv

_STREAM = 77  # apart from what else is drawn by an episode's seed


class Flicker:
    """Environments whose frames are blank with probability `chance` (Flickering Atari: Hausknecht & Stone 2015, arXiv
    1507.06527, section 4).

    A frame's draw follows from the seed of its episode alone. The first frame of an episode fills its stack, and is
    blank or seen as one. For evaluation: its state is not saved.
    Raises ValueError unless observations are frames and the chance is in [0, 1].
    """

    def __init__(self, envs: VectorEnv, chance: float) -> None:
        space = envs.single_observation_space
        if len(space.shape) != 3 or space.dtype != np.uint8 or not 0.0 <= chance <= 1.0:
            raise ValueError(f"env.flicker={chance} is a probability that frames are blank; observations are {space}")
        self._envs, self._chance = envs, chance
        self.num_envs, self.frame_stack, self.action_repeat = envs.num_envs, envs.frame_stack, envs.action_repeat
        self.single_observation_space, self.single_action_space = space, envs.single_action_space
        self.gives_score, self.exact, self.notes = envs.gives_score, False, envs.notes
        self._draws = [np.random.default_rng(0)] * self.num_envs
        self._seen = np.ones((self.num_envs, self.frame_stack), np.bool_)

    def reset(self, seeds: list[int] | None = None) -> Array:
        obs = np.array(self._envs.reset(seeds))
        for index in range(self.num_envs):
            self._begin(index, seeds[index] if seeds else index)
        return self._shown(obs)

    def restart(self, index: int, seed: int) -> Array:
        obs = np.array(self._envs.restart(index, seed))
        self._begin(index, seed)
        shown: Array = self._shown(obs[None], slice(index, index + 1))[0]
        return shown

    def step_async(self, actions: Array) -> None:
        self._envs.step_async(actions)

    def step_wait(self) -> Step:
        step = self._envs.step_wait()
        new = np.array([draw.random() >= self._chance for draw in self._draws])
        self._seen = np.concatenate([self._seen[:, 1:], new[:, None]], 1)
        final = self._shown(np.array(step.final_obs))
        over = step.terminated | step.truncated | step.died
        self._seen[over] = new[over, None]
        return replace(step, obs=self._shown(np.array(step.obs)), final_obs=final)

    def set_task(self, index: int, task: Task) -> None:
        self._envs.set_task(index, task)

    def render(self, index: int) -> NDArray[np.uint8]:
        picture: NDArray[np.uint8] = self._envs.render(index)
        return picture

    def state(self) -> list[Tree]:
        return self._envs.state()

    def load_state(self, states: list[Tree]) -> Array:
        raise ValueError("flickering environments are for evaluation, they go on from no saved state")

    def close(self) -> None:
        self._envs.close()

    def _begin(self, index: int, seed: int) -> None:
        self._draws[index] = np.random.default_rng((seed, _STREAM))
        self._seen[index] = self._draws[index].random() >= self._chance

    def _shown(self, obs: Array, rows: slice = slice(None)) -> Array:
        frames: Sequence[int] = (self.frame_stack, -1, *obs.shape[2:])
        obs.reshape(len(obs), *frames)[~self._seen[rows]] = 0
        return obs
