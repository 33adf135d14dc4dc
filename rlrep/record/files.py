"""Files that survive a crash: atomic replacement, and logs that can be cut back."""

import csv
import hashlib
import os
import sys
from collections.abc import Mapping, Sequence
from io import BytesIO, StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from rlrep.files import open_plain, replace_plain, write_new
from rlrep.settings import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_synced(path: Path, data: bytes) -> str:
    """Write `data` to a file that is not there yet, through the disk's caches, and return its sha256."""
    write_new(path, data)
    return hashlib.sha256(data).hexdigest()


def replace_file(path: Path, content: str | bytes) -> None:
    """Put `content` in place of `path` in one step: readers see the old file or the new one."""
    replace_plain(path, content.encode() if isinstance(content, str) else content)


def replace_picture(path: Path, figure: "Figure", dpi: float | None = None) -> None:
    """Put a figure in place of a picture, of the kind that its suffix says."""
    drawn = BytesIO()
    figure.savefig(drawn, format=path.suffix[1:], dpi=dpi or "figure")
    replace_file(path, drawn.getvalue())


def replace_table(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Put rows in place of a CSV; see `csv_text`."""
    replace_file(path, csv_text(rows))


def csv_text(rows: Sequence[Mapping[str, object]]) -> str:
    """Return rows as a CSV; the first one's keys are its columns."""
    text = StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    if rows:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


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
        with open(open_plain(self.path, os.O_RDWR | os.O_CREAT), "r+b") as file:
            file.truncate(self.size)  # a half line left by an earlier failure
            file.seek(self.size)
            file.write(self._waiting)
        self.size += len(self._waiting)
        self._waiting = b""

    def sync(self) -> int:
        """Make what was appended durable and return the file's length."""
        if self.path.exists():
            with open(open_plain(self.path, os.O_RDWR), "r+b") as file:
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
            with open(open_plain(self.path, os.O_RDWR), "r+b") as file:
                file.truncate(size)
        self.size, self._waiting = size, b""
