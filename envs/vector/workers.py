"""Environments in processes of their own, one each, observations in shared memory."""

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
from .process import WorkerProcess
from .stepped import Vector

START_GRACE_SECONDS = 60.0


class WorkerVector(Vector):
    """One process per environment, observations in shared memory."""

    def __init__(self, config: EnvMaker, seeds: list[int], patience: Patience = FOR_EVER) -> None:
        """Start the workers together and wait for all. Raises RuntimeError with the worker's line when one fails."""
        self._config, self._patience = config, patience
        self._workers: list[WorkerProcess] = []
        try:
            self._workers = [WorkerProcess(config, seed, index) for index, seed in enumerate(seeds)]
            described: list[Description] = [self._begun(worker) for worker in self._workers]
            super().__init__(len(seeds), described[0], Losses(seeds, "environment worker"), shared=True)
            for worker in self._workers:
                self._attach(worker)
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
        for index, worker in enumerate(self._workers):
            if not self._lost[index]:
                worker.send(("step", None))  # to a dead one: step_wait finds out

    def render(self, index: int) -> NDArray[np.uint8]:
        """Return environment `index` as RGB `(H, W, 3)`."""
        return np.asarray(self._ask(index, ("render", None)), np.uint8)

    def close(self) -> None:
        """Stop the workers and free the shared memory; again is harmless."""
        for worker in self._workers:
            worker.send(("close", None))
        for worker in self._workers:
            worker.close()
        self._workers = []
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
        self._workers[index].receive(self._patience)

    def _envs_state(self) -> list[Tree]:
        return self._ask_all([("state", None)] * self.num_envs)

    def _load_envs(self, states: list[Tree]) -> None:
        fresh = [("reset", self._losses.seed(index)) for index in range(self.num_envs)]
        loads = [("load_state", state) for state in states]
        pairs = zip(states, fresh, loads, strict=True)
        self._ask_all([begin if state is None else load for state, begin, load in pairs])

    def _begun(self, worker: WorkerProcess) -> Description:
        """Wait for a worker's simulator, which may take long to build. Raises Lost, or the config's own error."""
        description: Description = worker.receive(replace(self._patience, seconds=None, grace=START_GRACE_SECONDS))
        return description

    def _attach(self, worker: WorkerProcess) -> None:
        worker.send_file(self._arrays.file, self._layout)
        worker.receive(self._patience)

    def _ask_all(self, messages: list[tuple[str, Any]]) -> list[Any]:
        """Send each worker its message, then collect the answers."""
        sent = [worker.send(message) for worker, message in zip(self._workers, messages, strict=True)]
        return [self._answer(index, messages[index], sent=sent[index]) for index in range(self.num_envs)]

    def _ask(self, index: int, message: tuple[str, Any]) -> Any:
        return self._answer(index, message, sent=self._workers[index].send(message))

    def _answer(self, index: int, message: tuple[str, Any], *, sent: bool) -> Any:
        """Wait for an answer. A worker that is lost is replaced and asked again; the next step reports its loss."""
        while True:
            try:
                if not sent:
                    raise Lost(self._workers[index].last_words())
                return self._workers[index].receive(self._patience)
            except Lost as loss:
                self._replace(index, loss)
                self._lost[index] = message[0] in ("state", "render", "set_task")
                if message[0] in ("reset", "set_task") and isinstance(loss, Raised):
                    return None  # the replacement has begun another episode: of this seed it might fail for ever
                sent = self._workers[index].send(message)

    def _replace(self, index: int, loss: Lost) -> None:
        """Start a new worker with a fresh episode in place of a lost one."""
        while True:
            self._losses.bear(index, loss)
            self._workers[index].close()
            try:
                seed = self._losses.seed(index)
                self._workers[index] = worker = WorkerProcess(self._config, seed, index)
                self._begun(worker)
                self._attach(worker)
                if self._tasks[index] is not None:
                    worker.send(("set_task", self._tasks[index]))
                    worker.receive(self._patience)
                worker.send(("reset", seed))
                worker.receive(self._patience)
                return
            except Lost as again:
                loss = again
