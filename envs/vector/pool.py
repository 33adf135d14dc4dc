"""Worker processes that the environments of any number of vectors share."""

import os

from .process import WorkerProcess


class Pool:
    """At most so many worker processes, started as they are needed, each with about as many environments as the others.

    most: None = one per core, and two at least.
    """

    def __init__(self, most: int | None = None) -> None:
        self._most, self._workers = most or max(2, _cores()), list[WorkerProcess]()

    def place(self) -> WorkerProcess:
        """Return where the next environment is to live."""
        alive = [worker for worker in self._workers if worker.alive]
        if len(alive) < self._most:
            self._workers.append(WorkerProcess())
            return self._workers[-1]
        return min(alive, key=lambda worker: worker.environments)

    def __contains__(self, worker: WorkerProcess) -> bool:
        return worker in self._workers

    def close(self) -> None:
        """End them all; again is harmless."""
        for worker in self._workers:
            worker.send(("end", None, None))
        for worker in self._workers:
            worker.close()
        self._workers = []


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
