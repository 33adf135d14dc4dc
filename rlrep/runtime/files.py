"""Files that survive a crash: atomic replacement, and logs that can be cut back."""

import hashlib
import os
import sys
from pathlib import Path

from .errors import UserError


def write_synced(path: Path, data: bytes) -> str:
    """Write `data` to disk, through its caches, and return its sha256."""
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return hashlib.sha256(data).hexdigest()


def replace_file(path: Path, text: str) -> None:
    """Put `text` in place of `path` in one step: readers see the old file or the new one."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        write_synced(temporary, text.encode())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def sync_folder(path: Path) -> None:
    """Make renames and new names in a folder durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def wrote(path: Path, text: str) -> bool:
    """Write a result that was shown already; where it cannot be written, say so on standard error and return False."""
    try:
        replace_file(path, text)
    except OSError as error:
        print(f"warning: {path} is not written ({error.strerror or error})", file=sys.stderr)
        return False
    return True


class AppendFile:
    """A log of whole lines. Lines that could not be written (full disk) wait and go out with the next ones."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = path.stat().st_size if path.exists() else 0
        self._waiting = b""

    @property
    def is_empty(self) -> bool:
        """Whether nothing was ever appended, written or waiting."""
        return self.size == 0 and not self._waiting

    def append(self, text: str) -> None:
        """Add lines. Raises OSError, with the file's good part intact."""
        self._waiting += text.encode()
        if not self._waiting:
            return
        with open(self.path, "r+b" if self.path.exists() else "w+b") as file:
            file.truncate(self.size)  # a half line left by an earlier failure
            file.seek(self.size)
            file.write(self._waiting)
        self.size += len(self._waiting)
        self._waiting = b""

    def sync(self) -> int:
        """Make what was appended durable and return the file's length."""
        if self.path.exists():
            with open(self.path, "r+b") as file:
                os.fsync(file.fileno())
        return self.size

    def begin_again(self) -> Path | None:
        """Empty the file. Lines that it had are kept beside it, of several attempts the longest; return that file."""
        if not self.size:
            return None
        aside = self.path.with_name(f"{self.path.stem}.before{self.path.suffix}")
        if not aside.exists() or aside.stat().st_size <= self.size:
            self.path.replace(aside)
        else:
            self.path.unlink()
        self.size, self._waiting = 0, b""
        return aside

    def cut(self, size: int) -> None:
        """Drop everything after `size` bytes. Raises UserError if there are fewer: the file was edited."""
        if self.size < size:
            raise UserError(f"{self.path} was cut ({self.size} bytes, not {size}): restore it, or choose another out=")
        if self.path.exists():
            os.truncate(self.path, size)
        self.size, self._waiting = size, b""
