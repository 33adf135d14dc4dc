"""Ctrl-C and SIGTERM: noted, and answered by the loop where everything is consistent."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from .errors import Stopped


class StopRequest:
    """Whether, and by which signal, the run was asked to stop."""

    def __init__(self) -> None:
        self.signal_number: int | None = None

    def check(self) -> None:
        """Raise Stopped if a signal came."""
        if self.signal_number is not None:
            raise Stopped(self.signal_number)


@contextmanager
def catch_signals() -> Iterator[StopRequest]:
    """Turn the first SIGINT or SIGTERM into a request; a second one quits at once (KeyboardInterrupt)."""
    request = StopRequest()

    def note(number: int, frame: FrameType | None) -> None:
        if request.signal_number is not None:
            raise KeyboardInterrupt
        request.signal_number = number
        os.write(2, b"\nstopping after this update (again to quit at once)\n")  # print is not safe in a handler

    old = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
