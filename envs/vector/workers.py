"""Environments in worker processes, observations in shared memory."""

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlrep.contract.env import Array, EnvMaker, Task, Tree

from .checked import Description
from .layout import Arrays
from .losses import FOR_EVER, Losses, Lost, Patience, Raised
from .pool import Pool
from .process import WorkerProcess
from .stepped import Vector

START_GRACE_SECONDS = 60.0


class WorkerVector(Vector):
    """Environments in worker processes, each of which steps its own one after another.

    pool: those processes, which other vectors may share; None = as many of its own as there are cores. An environment
    that is lost goes on in a process of its own, so that those beside it stay where they are; a process that is lost
    takes all of its environments with it, each of which goes on in one of its own.
    """

    def __init__(
        self, config: EnvMaker, seeds: list[int], patience: Patience = FOR_EVER, pool: Pool | None = None
    ) -> None:
        """Start the workers together and wait for all. Raises RuntimeError with the worker's line when one fails."""
        self._config, self._patience = config, patience
        self._pool, self._private = pool or Pool(), pool is None
        self._workers: list[WorkerProcess] = []  # of each environment
        self._keys: list[int] = []  # its number there
        try:
            for seed in seeds:
                worker = self._pool.place()
                self._keys.append(worker.make(config, seed))
                self._workers.append(worker)
            described = [self._begun(index) for index in range(len(seeds))]
            super().__init__(len(seeds), described[0], Losses(seeds, "environment worker"), shared=True)
            for worker, rows in self._each().items():
                self._attach(worker, rows)
        except Lost as death:
            raise RuntimeError(f"environment worker died at its start: {death}") from death
        except BaseException:
            self.close()
            raise

    def set_task(self, index: int, task: Task) -> None:
        """Give environment `index`, and its replacements, the task from the next episode on. Raises BadEnvironment."""
        self._tasks[index] = task
        self._ask(index, ("set_task", task))

    def step_async(self, actions: Array) -> None:
        """Send `actions` `(N, ...)` to the workers and return at once."""
        super().step_async(actions)
        for worker, rows in self._each().items():
            if stepped := [self._keys[row] for row in rows if not self._lost[row]]:
                worker.send(("step", None, stepped))  # to a dead one: step_wait finds out

    def render(self, index: int) -> NDArray[np.uint8]:
        """Return environment `index` as RGB `(H, W, 3)`."""
        return np.asarray(self._ask(index, ("render", None)), np.uint8)

    def close(self) -> None:
        """Close the environments and free the shared memory; again is harmless."""
        for index in range(len(self._workers)):
            self._leave(index)
        self._workers = []
        if self._private:
            self._pool.close()
        arrays: Arrays | None = self.__dict__.pop("_arrays", None)
        if arrays is not None:
            os.close(arrays.file)

    def __del__(self) -> None:
        if getattr(self, "_workers", None):
            self.close()

    def _reset(self, seeds: Sequence[int | None]) -> None:
        self._ask_all([("reset", seed) for seed in seeds])

    def _restart(self, index: int, seed: int) -> None:
        self._ask(index, ("reset", seed))

    def _step(self, index: int) -> None:
        self._receive(index)

    def _envs_state(self) -> list[Tree]:
        return self._ask_all([("state", None)] * self.num_envs)

    def _load_envs(self, states: list[Tree]) -> None:
        fresh = [("reset", self._losses.seed(index)) for index in range(self.num_envs)]
        loads = [("load_state", state) for state in states]
        pairs = zip(states, fresh, loads, strict=True)
        self._ask_all([begin if state is None else load for state, begin, load in pairs])

    def _each(self) -> dict[WorkerProcess, list[int]]:
        """Return the workers, and the rows of their environments."""
        found: dict[WorkerProcess, list[int]] = {}
        for row, worker in enumerate(self._workers):
            found.setdefault(worker, []).append(row)
        return found

    def _begun(self, index: int) -> Description:
        """Wait for a simulator, which may take long to build. Raises Lost, or the config's own error."""
        patience = replace(self._patience, seconds=None, grace=START_GRACE_SECONDS)
        description: Description = self._workers[index].receive(self._keys[index], patience)
        return description

    def _attach(self, worker: WorkerProcess, rows: list[int]) -> None:
        """Show a worker where these environments of it write to."""
        places = {self._keys[row]: row for row in rows}
        worker.send_file(self._arrays.file, ("attach", self._keys[rows[0]], (self._layout, places)))
        self._receive(rows[0])

    def _receive(self, index: int) -> Any:
        return self._workers[index].receive(self._keys[index], self._patience)

    def _ask_all(self, messages: list[tuple[str, Any]]) -> list[Any]:
        """Send each worker its message, then collect the answers."""
        sent = [self._tell(index, message) for index, message in enumerate(messages)]
        return [self._answer(index, messages[index], sent=sent[index]) for index in range(self.num_envs)]

    def _ask(self, index: int, message: tuple[str, Any]) -> Any:
        return self._answer(index, message, sent=self._tell(index, message))

    def _tell(self, index: int, message: tuple[str, Any]) -> bool:
        command, payload = message
        return self._workers[index].send((command, self._keys[index], payload))

    def _answer(self, index: int, message: tuple[str, Any], *, sent: bool) -> Any:
        """Wait for an answer. A worker that is lost is replaced and asked again; the next step reports its loss."""
        while True:
            try:
                if not sent:
                    raise Lost(self._workers[index].last_words())
                return self._receive(index)
            except Lost as loss:
                self._replace(index, loss)
                self._lost[index] = message[0] in ("state", "render", "set_task")
                if message[0] in ("reset", "set_task") and isinstance(loss, Raised):
                    return None  # the replacement has begun another episode: of this seed it might fail for ever
                sent = self._tell(index, message)

    def _replace(self, index: int, loss: Lost) -> None:
        """Start a new worker with a fresh episode in place of a lost one."""
        while True:
            self._losses.bear(index, loss)
            self._leave(index)
            try:
                seed = self._losses.seed(index)
                self._workers[index] = worker = WorkerProcess()
                self._keys[index] = worker.make(self._config, seed)
                self._begun(index)
                self._attach(worker, [index])
                for message in (("set_task", self._tasks[index]), ("reset", seed)):
                    if message[1] is not None:
                        self._tell(index, message)
                        self._receive(index)
                return
            except Lost as again:
                loss = again

    def _leave(self, index: int) -> None:
        """Close an environment, and its process if that is its own."""
        worker = self._workers[index]
        worker.leave(self._keys[index])
        if worker not in self._pool:
            worker.close()
