"""A worker process: one or more environments, driven over a socket, observations written to shared memory.

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
    """Answer requests until told to end."""
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
    """Every request names the environment that it is for, by a number, and so does the answer; a step names several."""
    envs: dict[int, Checked] = {}
    seats: dict[int, tuple[Arrays, int]] = {}  # where each writes, and its row there
    command, key, payload = connection.recv()
    while command != "end":
        if command == "make":
            connection.send((key, *_made(envs, key, payload, connection)))
        elif command == "attach":
            layout, rows = payload
            arrays = attach(socket.recv_fds(files, 1, 1)[1][0], layout)
            seats |= {each: (arrays, row) for each, row in rows.items()}
            connection.send((key, "ok", None))
        elif command == "close":
            seats.pop(key, None)
            _close(envs, key)
        else:
            for each in payload if command == "step" else (key,):
                connection.send((each, *_answered(envs[each], *seats[each], command, payload)))
        command, key, payload = connection.recv()
    for key in [*envs]:
        _close(envs, key)


def _made(envs: dict[int, Checked], key: int, seed: int, connection: Connection) -> tuple[str, Any]:
    """Build an environment from the config that the next message is, and describe it."""
    try:
        envs[key] = env = Checked(connection.recv().make(seed))
    except EOFError:
        raise
    except Exception as error:
        return "error", (isinstance(error, ValueError), str(raised(error)))
    return "ok", env.description


def _close(envs: dict[int, Checked], key: int) -> None:
    """Close an environment, if it was built; what it raises ends nobody else."""
    with contextlib.suppress(Exception):
        envs.pop(key).close()


def _answered(env: Checked, arrays: Arrays, index: int, command: str, payload: Any) -> tuple[str, Any]:
    try:
        return "ok", _answer(env, arrays, index, command, payload)
    except Exception as error:
        return _refusal(error, command, env.where)


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
