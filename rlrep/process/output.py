"""Standard output and error that cannot be written: a full disk, a closed terminal or a gone reader ends no run."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any


def open_streams() -> None:
    """Give this process all three standard streams, and let text that their encoding lacks come out escaped.

    A closed one (`>&-`) becomes /dev/null: its number would else go to the next file that is opened, and what
    simulators print would land in a run's own files.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 (open as long as the process)
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


class Spare:
    """A stream whose failures nobody hears of. What could not be written may come out later, if there is room again."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write `text`, or drop it."""
        with suppress(OSError, ValueError):  # ValueError: closed
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush as far as that is possible."""
        with suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def spare_output() -> Iterator[None]:
    """While training, losing what is printed is better than losing the run."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (Spare(stream) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        for stream in before:
            drain(stream)


def drain(stream: IO[str]) -> None:
    """Flush a stream; what it cannot write is dropped, or the interpreter would fail on it at its end."""
    try:
        stream.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            silence(stream)


def silence(stream: IO[str]) -> None:
    """Send what a stream still holds, and all that follows, nowhere. Raises OSError if it is no file."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
