"""The parent's end of a worker process that runs one or more environments."""

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any

from .checked import BadEnvironment
from .losses import Lost, Patience, Raised
from .tail import Tail

STOP_SECONDS = 5.0
_POLL_MILLISECONDS = 500
ONE_THREAD = {
    name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
}
# llvmpipe then rasterises in the worker's own thread: the learner has the other cores
GL_THREADS = {"LP_NUM_THREADS": "0"}


class WorkerProcess:
    """A fresh interpreter running `rlrep.envs.vector.worker`: it imports neither the caller's main module nor torch."""

    def __init__(self, config: Any, seeds: Mapping[int, int]) -> None:
        """Start it with an environment for each of the `seeds`, by their rows, which it describes one after another.

        Raises ValueError for a config it cannot import.
        """
        if type(config).__module__ == "__main__":
            raise ValueError(
                f"{type(config).__name__} is defined in the main script, which workers do not run; "
                "move it to a module or set env.workers=inline"
            )
        self._answers: dict[int, deque[Any]] = {index: deque() for index in seeds}
        parent_end, child_end = socket.socketpair()
        self._said = Tail()
        with child_end:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "rlrep.envs.vector.worker", str(child_end.fileno()), *_unlisted()],
                pass_fds=[child_end.fileno()],
                env={**ONE_THREAD, **GL_THREADS, **os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                stdin=subprocess.DEVNULL,
                stdout=self._said.descriptor,
                stderr=self._said.descriptor,
                start_new_session=True,  # Ctrl-C in the terminal is the parent's to handle
            )
        self._said.start()
        self._socket = parent_end
        self._connection = Connection(os.dup(parent_end.fileno()))
        self._poll = select.poll()  # Connection.poll makes a selector each time: 20 us
        self._poll.register(self._connection.fileno(), select.POLLIN)
        self.send((config, dict(seeds)))

    def send(self, message: Any) -> bool:
        """Send a message; False when the worker is gone."""
        try:
            self._connection.send(message)
        except OSError:
            return False
        return True

    def send_file(self, file: int, message: Any) -> bool:
        """Send an open file with a message, both for whichever environment is its first; False when it is gone."""
        if not self.send(("attach", self.first, message)):
            return False
        try:
            socket.send_fds(self._socket, [b"f"], [file])
        except OSError:
            return False
        return True

    @property
    def first(self) -> int:
        """The row of its first environment."""
        first: int = min(self._answers)
        return first

    def receive(self, index: int, patience: Patience) -> Any:
        """Wait for an environment's answer. Raises Lost, BadEnvironment, or the environment's own error as one line."""
        answers = self._answers[index]
        try:
            while not answers:
                self._wait(patience)
                other, *answer = self._connection.recv()
                self._answers[other].append(answer)
            kind, payload = answers.popleft()
        except (EOFError, OSError) as error:
            raise Lost(self.last_words()) from error
        if kind == "ok":
            return payload
        if kind == "bad":
            raise BadEnvironment(payload)
        if kind == "raised":
            raise Raised(*payload)
        is_value_error, line = payload
        raise ValueError(line) if is_value_error else RuntimeError(line)

    def _wait(self, patience: Patience) -> None:
        """Return when there is something to read. Raises Lost, the process killed, once patience is over."""
        begun = time.monotonic()
        while not self._poll.poll(_POLL_MILLISECONDS):
            waited = time.monotonic() - begun
            if patience.over(waited):
                self._process.kill()
                raise Lost(f"no answer for {waited:.0f} s")

    def last_words(self) -> str:
        """Return how the process ended and the last line it wrote."""
        code = self._stop()
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        last = self._said.last_line()
        return f"{how}: {last}" if last else how

    def close(self) -> None:
        if self._connection.closed:
            return
        self._connection.close()
        self._socket.close()
        self._stop()
        self._said.close()

    def _stop(self) -> int:
        """Wait for the end, kill what does not come to it; return the exit code."""
        try:
            return self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


def _unlisted() -> list[str]:
    """Return where modules are found that PYTHONPATH cannot say: a colon ends a folder's name there."""
    return [folder for folder in sys.path if os.pathsep in folder]
