"""Interrupts an environment of this process whose step takes too long."""

import signal
import threading
import time
from types import FrameType

from .losses import Lost, Patience

_SIGNAL = signal.SIGVTALRM
_EVERY_SECONDS = 0.5


class Watchdog:
    """Raises Lost in the main thread where one piece of work takes more than patience.

    begun: the number of the piece under way, None between two: whoever works writes it, and nothing else is done at a
    step. It reaches Python and system calls that wait; native code that never returns only a worker process ends. In
    other threads than the main one, where signals do not arrive, it does nothing.
    """

    def __init__(self, patience: Patience) -> None:
        self.begun: int | None = None
        self._late: tuple[int, float] | None = None  # the piece that was given up, and after how many seconds
        self._patience = patience
        self._closed = threading.Event()
        if patience.limited and threading.current_thread() is threading.main_thread():
            signal.signal(_SIGNAL, _interrupt)
            _AWAKE.add(self)
            threading.Thread(target=self._watch, daemon=True, name="rlrep-watchdog").start()

    def close(self) -> None:
        self._closed.set()
        _AWAKE.discard(self)

    def check(self) -> None:
        """Raise Lost if the work was given up; it may have ended in the meantime."""
        if self._late is not None and self._late[0] == self.begun:
            self.begun = None
            raise Lost(f"no answer for {self._late[1]:.0f} s")

    def _watch(self) -> None:
        main = threading.main_thread().ident
        assert main is not None
        seen, since = None, 0.0
        while not self._closed.wait(_EVERY_SECONDS):
            begun, now = self.begun, time.monotonic()
            if begun != seen:
                seen, since = begun, now
            elif begun is not None and self._patience.over(now - since):
                self._late = begun, now - since
                signal.pthread_kill(main, _SIGNAL)


_AWAKE: set[Watchdog] = set()


def _interrupt(number: int, frame: FrameType | None) -> None:
    for dog in list(_AWAKE):
        dog.check()
