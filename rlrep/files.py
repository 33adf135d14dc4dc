"""Files that others may have put there: read only what is a file, within a bound; write only what is ours.

A link in a folder that was copied from elsewhere may lead to anybody's file, a FIFO or a device never ends: what is
written here is a regular file in its own folder, or an OSError in one line.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

HEADER_BYTES = 16 * 2**20
"""A safetensors header beyond this is none: that of a large network has a thousandth of it."""
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL


class NotPlain(OSError):
    """A link, FIFO, device or folder where a file belongs, or a file beyond all bounds. The message says which."""


def read_plain(path: Path, most: int, *, follow: bool = False) -> bytes:
    """Return a regular file of up to `most` bytes. Raises NotPlain, or another OSError if it cannot be read.

    follow: take what a link leads to, for files that the user named.
    """
    if not follow:
        _check_kind(os.lstat(path), path)
    elif not path.is_file() and path.exists():
        raise NotPlain(errno.EINVAL, f"{path} is no file")
    handle = _open(path, os.O_RDONLY, follow=follow)
    with open(handle, "rb") as file:
        size = os.fstat(handle).st_size
        if size > most:
            raise NotPlain(errno.EFBIG, f"{path} has {size} bytes, and this cannot have more than {most}")
        return file.read(most)


def write_new(path: Path, data: bytes) -> None:
    """Write a file that is not there yet, through the caches to the disk. Raises OSError, FileExistsError if it is."""
    with open(_open(path, _NEW), "wb") as file:
        file.write(data)
        _to_disk(file)


def replace_plain(path: Path, data: bytes) -> None:
    """Put `data` in place of a file in one step: readers see the old file or the new one. Raises OSError."""
    with replacing(path) as file:
        file.write(data)


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Yield a new file that takes another's place in one step, once it is whole and on the disk. Raises OSError."""
    if path.is_symlink():
        raise NotPlain(errno.ELOOP, f"{path} is a link, which is not written through: remove it")
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.unlink(missing_ok=True)  # left by a crash
    try:
        with open(_open(temporary, _NEW), "wb") as file:
            yield file
            _to_disk(file)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _to_disk(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def open_plain(path: Path, flags: int) -> int:
    """Open a file in its own place and return its handle. Raises NotPlain if it is a link, or another name's too."""
    if os.path.lexists(path):
        _check_kind(os.lstat(path), path)
    handle = _open(path, flags)
    if flags & (os.O_WRONLY | os.O_RDWR) and os.fstat(handle).st_nlink > 1:
        os.close(handle)
        raise NotPlain(errno.EMLINK, f"{path} has another name elsewhere (a hard link): put a copy in its place")
    return handle


def foreign(folder: Path) -> str | None:
    """Return what in a folder, at any depth, is neither file nor folder, None if nothing is. It may be a link itself.

    `wandb/` keeps links of its own to what is inside it.
    """
    own, waiting = os.path.realpath(folder / "wandb"), [str(folder)]
    while waiting:
        for path, kind in _kinds(waiting.pop()):
            if kind == stat.S_IFDIR:
                waiting.append(path)
            elif kind != stat.S_IFREG and not (kind == stat.S_IFLNK and _inside(path, own)):
                return f"{_named(kind)}, {os.path.relpath(path, folder)}"
    return None


def _kinds(folder: str) -> Iterator[tuple[str, int]]:
    """Yield what a folder holds, but for what a run that writes there takes away meanwhile."""
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                yield entry.path, stat.S_IFMT(entry.stat(follow_symlinks=False).st_mode)


def header_fits(start: bytes) -> bool:
    """Whether a safetensors file that begins with these 8 bytes has a header of ordinary size."""
    return len(start) >= 8 and int.from_bytes(start[:8], "little") <= HEADER_BYTES


def check_tensor_file(path: Path) -> None:
    """Raise OSError unless a path leads to a regular file that may be a safetensors one, before anything maps it."""
    if not path.is_file():
        raise NotPlain(errno.EINVAL, f"{path} is no file")
    with open(_open(path, os.O_RDONLY, follow=True), "rb") as file:
        if not header_fits(file.read(8)):
            raise NotPlain(errno.EINVAL, f"{path} has no header of tensors")


def _inside(path: str, folder: str) -> bool:
    return os.path.dirname(path).startswith(folder) and os.path.realpath(path).startswith(folder + os.sep)


def _open(path: Path, flags: int, *, follow: bool = False) -> int:
    """Open without waiting for a FIFO's other end, and see again what it is: it may have changed meanwhile."""
    handle = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW), 0o666)
    try:
        _check_kind(os.fstat(handle), path)
    except OSError:
        os.close(handle)
        raise
    return handle


def _check_kind(found: os.stat_result, path: Path) -> None:
    kind = stat.S_IFMT(found.st_mode)
    if kind != stat.S_IFREG:
        raise NotPlain(errno.EINVAL, f"{path} is {_named(kind)}, not a file")


def _named(kind: int) -> str:
    names = {stat.S_IFLNK: "a link", stat.S_IFIFO: "a FIFO", stat.S_IFDIR: "a folder", stat.S_IFSOCK: "a socket"}
    return names.get(kind, "a device")
