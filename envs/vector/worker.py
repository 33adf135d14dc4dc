"""A worker process: one environment, driven over a socket, observations written to shared memory.

Started as `python -m rlrep.envs.vector.worker FD [FOLDER ...]`, the folders holding modules. It ends with its parent.
"""

import contextlib
import faulthandler
import os
import signal
import socket
import sys
import threading
import time
from multiprocessing.connection import Connection
from typing import Any

from .checked import BadEnvironment, Checked
from .layout import Arrays, attach, step_into
from .losses import raised

_THE_RUNS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGXCPU, signal.SIGUSR1, signal.SIGUSR2)
"""Terminals and clusters tell every process; the run saves, then ends us."""


def main() -> None:
    """Build the environment that the first message describes, then answer requests until told to close."""
    for number in _THE_RUNS:
        signal.signal(number, signal.SIG_IGN)
    faulthandler.enable()
    _end_with_parent(os.getppid())
    descriptor = int(sys.argv[1])
    sys.path += sys.argv[2:]
    with contextlib.suppress(EOFError, ConnectionError):
        _serve(Connection(descriptor), socket.socket(fileno=os.dup(descriptor)))


def _end_with_parent(parent: int) -> None:
    """End when the parent is gone; between requests the closed socket says so, a step that hangs would not notice."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _serve(connection: Connection, files: socket.socket) -> None:
    try:
        config, seed, index = connection.recv()
        env = Checked(config.make(seed))
    except (EOFError, ConnectionError):
        raise
    except Exception as error:
        connection.send(("error", (isinstance(error, ValueError), str(raised(error)))))
        return
    connection.send(("ok", env.description))
    arrays: Arrays | None = None
    while True:
        command, payload = connection.recv()
        if command == "close":
            env.close()
            return
        try:
            if command == "attach":
                arrays = attach(socket.recv_fds(files, 1, 1)[1][0], payload)
                answer = None
            else:
                assert arrays is not None
                answer = _answer(env, arrays, index, command, payload)
        except Exception as error:
            connection.send(_refusal(error, command, env.where))
        else:
            connection.send(("ok", answer))


def _refusal(error: Exception, command: str, where: str) -> tuple[str, Any]:
    """Say what an error means for the run: an episode, or an environment that cannot be used."""
    if isinstance(error, BadEnvironment):
        return "bad", str(error)
    loss = raised(error, where)
    if command in ("step", "reset", "set_task"):
        return "raised", (str(loss), loss.kind)
    return "error", (isinstance(error, ValueError), str(loss))


def _answer(env: Checked, arrays: Arrays, index: int, command: str, payload: Any) -> Any:
    if command == "step":
        return step_into(env, arrays, index)
    if command == "reset":
        arrays.obs[index] = env.reset(seed=payload)
    elif command == "set_task":
        env.set_task(payload)
    elif command == "load_state":
        arrays.obs[index] = env.load_state(payload)
    elif command == "state":
        return env.state()
    elif command == "render":
        return env.render()
    else:
        raise ValueError(f"unknown request {command}")
    return None


if __name__ == "__main__":
    main()
