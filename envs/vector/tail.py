"""The last words of a process, of whatever length its speech."""

import os
import threading

KEPT = 4096
_LAST_SECONDS = 1.0


class Tail:
    """A pipe to write into, read all the time, of which the last `KEPT` bytes are remembered."""

    def __init__(self) -> None:
        self._source, self.descriptor = os.pipe()
        self._kept = b""
        self._reader = threading.Thread(target=self._read, daemon=True)

    def start(self) -> None:
        """Close this process's end for writing, once another process has it, and begin to read."""
        os.close(self.descriptor)
        self._reader.start()

    def last_line(self) -> str:
        """Return the last line that is not empty, of a process that has ended."""
        self.close()
        lines = [line.strip() for line in self._kept.decode(errors="replace").splitlines()]
        return next((line for line in reversed(lines) if line), "")

    def close(self) -> None:
        """Wait until all is read; not for ever, as a process that this one has started may still have the pipe."""
        self._reader.join(_LAST_SECONDS)

    def _read(self) -> None:
        with open(self._source, "rb", buffering=0) as source:
            while data := source.read(1 << 16):
                self._kept = (self._kept + data)[-KEPT:]
