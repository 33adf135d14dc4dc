"""The parent's end of a worker process that runs one or more environments."""

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from itertools import count
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

    def __init__(self) -> None:
        self._answers: dict[int, deque[Any]] = {}
        self._numbers = count()
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

    @property
    def environments(self) -> int:
        """How many it has."""
        return len(self._answers)

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def make(self, config: Any, seed: int) -> int:
        """Let it build an environment, which it then describes; return the number to ask for that by.

        Raises ValueError for a config it cannot import.
        """
        if type(config).__module__ == "__main__":
            raise ValueError(
                f"{type(config).__name__} is defined in the main script, which workers do not run; "
                "move it to a module or set env.workers=inline"
            )
        key = next(self._numbers)
        self._answers[key] = deque()
        self.send(("make", key, seed))
        self.send(config)
        return key

    def leave(self, key: int) -> None:
        """Let it close an environment."""
        self._answers.pop(key, None)
        self.send(("close", key, None))

    def send(self, message: Any) -> bool:
        """Send a message; False when the worker is gone."""
        try:
            self._connection.send(message)
        except OSError:
            return False
        return True

    def send_file(self, file: int, message: Any) -> bool:
        """Send an open file with a message; False when the worker is gone."""
        if not self.send(message):
            return False
        try:
            socket.send_fds(self._socket, [b"f"], [file])
        except OSError:
            return False
        return True

    def receive(self, key: int, patience: Patience) -> Any:
        """Wait for an environment's answer. Raises Lost, BadEnvironment, or the environment's own error as one line."""
        answers = self._answers[key]
        try:
            while not answers:
                self._wait(patience)
                other, *answer = self._connection.recv()
                if other in self._answers:  # else it has left
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
