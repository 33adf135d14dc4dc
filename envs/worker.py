"""A worker process: one environment, driven over a socket, observations written to shared memory.

Started as `python -m rlrep.envs.worker FD`. It ends when its parent does: the socket then reads as closed.
"""

import contextlib
import faulthandler
import os
import signal
import socket
import sys
from multiprocessing.connection import Connection
from typing import Any

from .layout import Arrays, attach, step_into
from .tasks import give_task


def main() -> None:
    """Build the environment that the first message describes, then answer requests until told to close."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)  # terminals and clusters tell every process; the run saves, then ends us
    faulthandler.enable()
    descriptor = int(sys.argv[1])
    with contextlib.suppress(EOFError, ConnectionError):
        _serve(Connection(descriptor), socket.socket(fileno=os.dup(descriptor)))


def _serve(connection: Connection, files: socket.socket) -> None:
    try:
        config, seed, index = connection.recv()
        env = config.make(seed)
    except (EOFError, ConnectionError):
        raise
    except Exception as error:
        connection.send(("error", (isinstance(error, ValueError), _line(error))))
        return
    space = env.observation_space
    scored = getattr(env, "gives_score", False)
    connection.send(("ok", (space, env.action_space, env.frame_stack, env.action_repeat, scored)))
    arrays: Arrays | None = None
    while True:
        command, payload = connection.recv()
        if command == "close":
            env.close()
            return
        try:
            if command == "attach":
                arrays = attach(socket.recv_fds(files, 1, 1)[1][0], *payload)
                answer = None
            else:
                assert arrays is not None
                answer = _answer(env, arrays, index, command, payload)
        except Exception as error:
            connection.send(("error", (isinstance(error, ValueError), _line(error))))
        else:
            connection.send(("ok", answer))


def _answer(env: Any, arrays: Arrays, index: int, command: str, payload: Any) -> Any:
    if command == "step":
        return step_into(env, arrays, index)
    if command == "reset":
        arrays.obs[index] = env.reset(seed=payload)[0]
    elif command == "set_task":
        give_task(env, payload)
    elif command == "load_state":
        arrays.obs[index] = env.load_state(payload)
    elif command == "state":
        return env.state()
    elif command == "render":
        return env.render()
    else:
        raise ValueError(f"unknown request {command}")
    return None


def _line(error: Exception) -> str:
    """Return the error in one line; its own text where it was written for users."""
    text = " ".join(str(error).split())
    return text if isinstance(error, (ValueError, RuntimeError)) and text else f"{type(error).__name__}: {text}"


if __name__ == "__main__":
    main()
