"""What vectors of environments have in common: a step's results, and the episodes that are lost with a simulator."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from rlrep.contract.env import Array, Step, Task, Tree

from .checked import Description
from .layout import Arrays, allocate, layout
from .losses import Losses, Lost
from .tasks import task_from, task_state


class Vector(ABC):
    """What both kinds do alike: the arrays, tasks, and the episodes that are lost with a simulator.

    A simulator that is lost (its process died, its code raised, it did not answer) is replaced, by a reproducible seed,
    and its episode dropped: the step says `died`. exact: whether `state()` holds everything.
    """

    def __init__(self, num_envs: int, like: Description, losses: Losses, *, shared: bool) -> None:
        self.num_envs = num_envs
        self.single_observation_space, self.single_action_space = like.observation_space, like.action_space
        self.frame_stack, self.action_repeat = like.frame_stack, like.action_repeat
        self.gives_score, self.exact, self.notes = like.gives_score, like.exact, like.notes
        self._losses = losses
        self._tasks: list[Task | None] = [None] * num_envs
        self._lost = [False] * num_envs  # replaced, not yet reported by a step
        self._layout = layout(num_envs, like.observation_space, like.action_space)
        self._arrays = allocate(self._layout, shared=shared)

    @abstractmethod
    def _reset(self, seeds: Sequence[int | None]) -> None:
        """Start an episode everywhere."""

    @abstractmethod
    def _restart(self, index: int, seed: int) -> None:
        """Start the episode of `seed` in one environment."""

    @abstractmethod
    def _envs_state(self) -> list[Tree]:
        """Return the environments' states, None of one that has none to give."""

    @abstractmethod
    def _load_envs(self, states: list[Tree]) -> None:
        """Load the environments' states; None begins a new episode, by a seed of its own."""

    def reset(self, seeds: list[int] | None = None) -> Array:
        """Start an episode everywhere, reproducibly with `seeds`; return observations `(N, ...)`."""
        if seeds is not None:
            self._losses.begin(seeds)
        self._lost = [False] * self.num_envs
        self._reset(seeds or [None] * self.num_envs)
        return np.array(self._arrays.obs)

    def restart(self, index: int, seed: int) -> Array:
        """Start the episode of `seed` in environment `index`; return its observation."""
        self._lost[index] = False
        self._restart(index, seed)
        return np.array(self._arrays.obs[index])

    def step_async(self, actions: Array) -> None:
        """Take `actions` `(N, ...)` and return at once."""
        self._arrays.actions[:] = actions

    @abstractmethod
    def _step(self, index: int) -> None:
        """End one environment's step. Raises Lost."""

    @abstractmethod
    def _replace(self, index: int, loss: Lost) -> None:
        """Put an environment with a fresh episode in place of a lost one."""

    def step_wait(self) -> Step:
        """End the step. Raises EnvironmentFailed (one is lost again and again) or BadEnvironment (breaks its word)."""
        arrays, losses = self._arrays, self._losses
        for index in range(self.num_envs):
            if self._lost[index]:
                continue
            try:
                self._step(index)
                if not losses.calm:
                    losses.stepped(index, ended=bool(arrays.terminated[index] or arrays.truncated[index]))
            except Lost as loss:
                self._replace(index, loss)
                self._lost[index] = True
        died = np.zeros(self.num_envs, np.bool_)
        if True in self._lost:
            died[:] = self._lost
            for index in np.flatnonzero(died):
                self._drop_episode(index)
            self._lost = [False] * self.num_envs
        return _read(arrays, died)

    def state(self) -> list[Tree]:
        """Return every environment's state and what its replacements would be given."""
        envs = self._envs_state()
        return [
            {"env": env, "task": task_state(self._tasks[i]), **self._losses.state(i), "lost": self._lost[i]}
            for i, env in enumerate(envs)
        ]

    def load_state(self, states: list[Tree]) -> Array:
        """Load every environment's state; return observations `(N, ...)`.

        One without a state begins a new episode, and the next step says that the old one was lost.
        """
        for index, state in enumerate(states):
            self._losses.load_state(index, state)
            self._tasks[index] = task_from(state.get("task"))
            self._lost[index] = state.get("lost", False) or state["env"] is None
        self._load_envs([state["env"] for state in states])
        return np.array(self._arrays.obs)

    def _drop_episode(self, index: int) -> None:
        arrays = self._arrays
        arrays.final_obs[index] = arrays.obs[index]
        arrays.reward[index] = 0.0
        arrays.success[index] = arrays.score[index] = arrays.context_reward[index] = np.nan
        arrays.terminated[index], arrays.truncated[index] = False, True


def _read(arrays: Arrays, died: NDArray[np.bool_]) -> Step:
    """Copy the step out of the (shared) arrays, which the next step overwrites."""
    obs = np.array(arrays.obs)
    step = Step(
        obs=obs,
        final_obs=obs,
        reward=arrays.reward.copy(),
        terminated=arrays.terminated.copy(),
        truncated=arrays.truncated.copy(),
        died=died,
        success=arrays.success.copy(),
        score=arrays.score.copy(),
        context_reward=arrays.context_reward.copy(),
    )
    ended = step.terminated | step.truncated
    if not np.count_nonzero(ended):  # a tenth of the time of any()
        return step
    final_obs = obs.copy()
    final_obs[ended] = arrays.final_obs[ended]
    return replace(step, final_obs=final_obs)
