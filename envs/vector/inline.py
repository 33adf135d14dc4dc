"""Environments in this process, stepped one after another."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlrep.contract.env import EnvMaker, Task, Tree

from .checked import BadEnvironment, Checked
from .layout import step_into
from .losses import FOR_EVER, Losses, Lost, Patience, raised
from .stepped import Vector
from .watchdog import Watchdog


class InlineVector(Vector):
    """Environments in this process, stepped one after another."""

    def __init__(self, config: EnvMaker, seeds: list[int], patience: Patience = FOR_EVER) -> None:
        self._config = config
        self._envs = [Checked(config.make(seed)) for seed in seeds]
        self._dog, self._pieces = Watchdog(patience), 0
        super().__init__(len(seeds), self._envs[0].description, Losses(seeds, "environment"), shared=False)

    def set_task(self, index: int, task: Task) -> None:
        """Give environment `index`, and its replacements, the task from the next episode on. Raises BadEnvironment."""
        self._tasks[index] = task
        try:
            self._guarded(index, self._envs[index].set_task, task)
        except Lost as loss:
            self._replace(index, loss)
            self._lost[index] = True

    def render(self, index: int) -> NDArray[np.uint8]:
        """Return environment `index` as RGB `(H, W, 3)`."""
        return np.array(self._envs[index].render(), np.uint8)

    def close(self) -> None:
        """Close the environments; again is harmless."""
        for index, env in enumerate(self._envs):
            with suppress(Lost):  # what does not end well has nothing left to lose
                self._guarded(index, env.close)
        self._dog.close()

    def _reset(self, seeds: Sequence[int | None]) -> None:
        for index, seed in enumerate(seeds):
            self._restart(index, seed)

    def _restart(self, index: int, seed: int | None) -> None:
        try:
            self._guarded(index, self._begin, index, seed)
        except Lost as loss:
            self._replace(index, loss)  # which begins another episode: of this seed it might fail for ever

    def _step(self, index: int) -> None:
        self._guarded(index, step_into, self._envs[index], self._arrays, index)

    def _replace(self, index: int, loss: Lost) -> None:
        while True:
            self._losses.bear(index, loss)
            with suppress(Lost):  # what has failed may fail at its end, too
                self._guarded(index, self._envs[index].close)
            try:
                self._guarded(index, self._renew, index, self._losses.seed(index))
                return
            except Lost as again:
                loss = again

    def _begin(self, index: int, seed: int | None) -> None:
        self._arrays.obs[index] = self._envs[index].reset(seed=seed)

    def _renew(self, index: int, seed: int) -> None:
        self._envs[index] = env = Checked(self._config.make(seed))
        if (task := self._tasks[index]) is not None:
            env.set_task(task)
        self._begin(index, seed)  # `make` need not know what to do with a seed

    def _envs_state(self) -> list[Tree]:
        return [env.state() for env in self._envs]

    def _load_envs(self, states: list[Tree]) -> None:
        for index, state in enumerate(states):
            if state is None:
                self._restart(index, self._losses.seed(index))
            else:
                self._arrays.obs[index] = self._envs[index].load_state(state)

    def _guarded(self, index: int, work: Callable[..., None], *given: Any) -> None:
        """Turn whatever an environment does wrong into Lost, but for what no fresh episode mends."""
        self._pieces += 1
        self._dog.begun = self._pieces
        try:
            work(*given)
        except (BadEnvironment, Lost):
            raise
        except (Exception, SystemExit) as error:  # some end the process where a window is closed
            raise raised(error, self._envs[index].where) from error
        finally:
            self._dog.begun = None
