"""Interrupts an environment of this process whose step takes too long."""

import signal
import threading
import time
from types import FrameType

from .losses import Lost, Patience

_SIGNAL = signal.SIGVTALRM
_EVERY_SECONDS = 0.5


class Watchdog:
    """Between `begin` and `end`, raises Lost in the main thread once patience is over.

    It reaches Python and system calls that wait; native code that never returns only a worker process ends. In other
    threads than the main one, where signals do not arrive, it does nothing.
    """

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._begun: float | None = None
        self._late: float | None = None  # the beginning of the step that was given up
        self._closed = threading.Event()
        if patience.limited and threading.current_thread() is threading.main_thread():
            signal.signal(_SIGNAL, _interrupt)
            _AWAKE.add(self)
            threading.Thread(target=self._watch, daemon=True, name="rlrep-watchdog").start()

    def begin(self) -> None:
        self._begun = time.monotonic()

    def end(self) -> None:
        self._begun = None

    def close(self) -> None:
        self._closed.set()
        _AWAKE.discard(self)

    def check(self) -> None:
        """Raise Lost if the step was given up; it may have ended in the meantime."""
        if self._begun is not None and self._begun == self._late:
            waited = time.monotonic() - self._begun
            self._begun = None
            raise Lost(f"no answer for {waited:.0f} s")

    def _watch(self) -> None:
        main = threading.main_thread().ident
        assert main is not None
        while not self._closed.wait(_EVERY_SECONDS):
            begun = self._begun
            if begun is not None and self._patience.over(time.monotonic() - begun):
                self._late = begun
                signal.pthread_kill(main, _SIGNAL)


_AWAKE: set[Watchdog] = set()


def _interrupt(number: int, frame: FrameType | None) -> None:
    for dog in list(_AWAKE):
        dog.check()
