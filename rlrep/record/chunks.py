"""Replay on disk: append-only, hashed chunks of ring rows that successive checkpoints share."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from rlrep.contract.agent import Rows
from rlrep.files import NotPlain, header_fits, read_plain
from rlrep.settings import one_line

from .files import sync_folder, write_synced

CHUNK_BYTES = 32 * 2**20
"""Rows are cut into files of about this size, which bounds the memory that saving takes."""


_NAME = re.compile(r"[A-Za-z0-9_]+-[0-9]+-[0-9]+-[0-9a-f]{12}\.safetensors")
_MOST_BYTES = 2**33
"""Of one file: far more than a chunk has, a single row of pixels included."""


class Damaged(Exception):
    """A file of a checkpoint is missing, cut short, altered, or not what a checkpoint holds."""


@dataclass(frozen=True)
class Chunk:
    """Rows start..stop-1 of a ring, in one file."""

    file: str
    start: int
    stop: int
    sha256: str
    bytes: int


@dataclass(frozen=True)
class RingRecord:
    """What a checkpoint knows of one ring. Chunks are in order and cover every stored row."""

    capacity: int
    written: int
    chunks: tuple[Chunk, ...]

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "RingRecord":
        """Rebuild from plain data. Raises KeyError, TypeError or ValueError if it is no record of one ring."""
        record = cls(data["capacity"], data["written"], tuple(Chunk(**chunk) for chunk in data["chunks"]))
        numbers = [record.capacity, record.written, *(n for c in record.chunks for n in (c.start, c.stop, c.bytes))]
        if not all(type(number) is int and number >= 0 for number in numbers):
            raise ValueError("the replay has a size that is no size")
        if not all(_is_name(chunk) for chunk in record.chunks):
            raise ValueError("the replay names files that are no chunks")
        edges = [0 if not record.chunks else record.chunks[0].start, *(chunk.stop for chunk in record.chunks)]
        if [chunk.start for chunk in record.chunks] != edges[:-1] or edges != sorted(set(edges)):
            raise ValueError("the replay's chunks do not follow each other")
        if edges[0] > record.oldest or edges[-1] != record.written:
            raise ValueError("the replay's chunks do not cover it")
        return record

    @property
    def oldest(self) -> int:
        """First row that the ring still held."""
        return max(0, self.written - self.capacity)


class ChunkStore:
    """The folder of chunks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, name: str, ring: Rows, previous: RingRecord | None) -> RingRecord:
        """Write the rows appended since `previous` and return the record of all. Raises OSError."""
        kept = tuple(c for c in previous.chunks if c.stop > ring.oldest) if previous else ()
        start = max(ring.oldest, kept[-1].stop if kept else 0)
        rows = max(1, CHUNK_BYTES // _row_bytes(ring))
        self.folder.mkdir(exist_ok=True)
        fresh = [self._write(name, ring, at, min(at + rows, ring.written)) for at in range(start, ring.written, rows)]
        if fresh:
            sync_folder(self.folder)
        return RingRecord(ring.capacity, ring.written, (*kept, *fresh))

    def verify(self, record: RingRecord) -> None:
        """Read every chunk. Raises Damaged naming the first bad file."""
        for chunk in record.chunks:
            self._read(chunk)

    def restore(self, ring: Rows, record: RingRecord) -> None:
        """Put all stored rows back. Raises Damaged, or ValueError if they are not of this ring."""
        if ring.capacity != record.capacity:
            raise ValueError(f"the replay holds {ring.capacity} rows, the checkpoint's held {record.capacity}")
        for chunk in record.chunks:
            rows = load_tensors(self._read(chunk))
            _check_rows(ring, rows, chunk.stop - chunk.start)
            ring.restore(chunk.start, rows)

    def drop_all_but(self, records: Iterable[RingRecord]) -> None:
        """Delete chunks that no record refers to."""
        used = {chunk.file for record in records for chunk in record.chunks}
        if not self.folder.is_dir() or self.folder.is_symlink():
            return
        for path in self.folder.iterdir():
            name = path.name.removeprefix(".").removesuffix(".tmp")
            if path.name not in used and _NAME.fullmatch(name) and not path.is_dir():
                path.unlink(missing_ok=True)
        if not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _write(self, name: str, ring: Rows, start: int, stop: int) -> Chunk:
        data = save({key: column.cpu().contiguous() for key, column in ring.read(start, stop).items()})
        digest = hashlib.sha256(data).hexdigest()
        file = f"{name}-{start}-{stop}-{digest[:12]}.safetensors"
        if not (self.folder / file).exists() or (self.folder / file).stat().st_size != len(data):
            temporary = self.folder / f".{file}.tmp"
            temporary.unlink(missing_ok=True)  # left by a crash
            write_synced(temporary, data)
            temporary.replace(self.folder / file)
        return Chunk(file, start, stop, digest, len(data))

    def _read(self, chunk: Chunk) -> bytes:
        return read_checked(self.folder / chunk.file, chunk.sha256)


def read_checked(path: Path, sha256: str) -> bytes:
    """Read a file. Raises Damaged unless its hash is `sha256`."""
    try:
        data = read_plain(path, _MOST_BYTES)
    except NotPlain as error:
        raise Damaged(f"{path.name} is no file of a checkpoint") from error
    except OSError as error:
        raise Damaged(f"{path.name} cannot be read ({error.strerror})") from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise Damaged(f"{path.name} is not what was written ({len(data)} bytes)")
    return data


def load_tensors(data: bytes) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file. Raises Damaged if it is none."""
    try:
        if not header_fits(data[:8]):
            raise ValueError("its header is larger than any")
        return load(data)
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError, OverflowError) as error:
        raise Damaged(f"its tensors cannot be read: {one_line(error)[:120]}") from error


def _is_name(chunk: Chunk) -> bool:
    end = f"-{chunk.start}-{chunk.stop}-{chunk.sha256[:12]}.safetensors"
    return _NAME.fullmatch(chunk.file) is not None and chunk.file.endswith(end)


def _check_rows(ring: Rows, rows: Mapping[str, Tensor], count: int) -> None:
    """Raise ValueError unless these are `count` rows of the ring's columns: copying would cast and broadcast others."""
    own = {name: (count, *column.shape[1:], column.dtype) for name, column in ring.columns.items()}
    found = {name: (*column.shape, column.dtype) for name, column in rows.items()}
    if found != own:
        name = next(iter(sorted(name for name in {**own, **found} if own.get(name) != found.get(name))))
        raise ValueError(f"the replay's {name} is {found.get(name)}, not {own.get(name)}")


def _row_bytes(ring: Rows) -> int:
    return sum(column[0].nbytes for column in ring.columns.values())
