"""Replay on disk: append-only, hashed chunks of ring rows that successive checkpoints share."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load, save

from rlrep.replay.ring import Ring

from .files import sync_folder, write_synced

CHUNK_BYTES = 32 * 2**20
"""Rows are cut into files of about this size, which bounds the memory that saving takes."""


class Damaged(Exception):
    """A file of a checkpoint is missing, cut short or altered."""


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
        """Rebuild from plain data."""
        return cls(data["capacity"], data["written"], tuple(Chunk(**chunk) for chunk in data["chunks"]))


class ChunkStore:
    """The folder of chunks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, name: str, ring: Ring, previous: RingRecord | None) -> RingRecord:
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

    def restore(self, ring: Ring, record: RingRecord) -> None:
        """Put all stored rows back. Raises Damaged, or ValueError if the ring's size changed."""
        if ring.capacity != record.capacity:
            raise ValueError(f"the replay holds {ring.capacity} rows, the checkpoint's held {record.capacity}")
        for chunk in record.chunks:
            ring.restore(chunk.start, load(self._read(chunk)))

    def drop_all_but(self, records: Iterable[RingRecord]) -> None:
        """Delete chunks that no record refers to."""
        used = {chunk.file for record in records for chunk in record.chunks}
        for path in self.folder.glob("*") if self.folder.is_dir() else ():
            if path.name not in used:
                path.unlink(missing_ok=True)
        if self.folder.is_dir() and not used:
            self.folder.rmdir()

    def _write(self, name: str, ring: Ring, start: int, stop: int) -> Chunk:
        data = save({key: column.cpu().contiguous() for key, column in ring.read(start, stop).items()})
        digest = hashlib.sha256(data).hexdigest()
        file = f"{name}-{start}-{stop}-{digest[:12]}.safetensors"
        if not (self.folder / file).exists() or (self.folder / file).stat().st_size != len(data):
            temporary = self.folder / f".{file}.tmp"
            write_synced(temporary, data)
            temporary.replace(self.folder / file)
        return Chunk(file, start, stop, digest, len(data))

    def _read(self, chunk: Chunk) -> bytes:
        return read_checked(self.folder / chunk.file, chunk.sha256)


def read_checked(path: Path, sha256: str) -> bytes:
    """Read a file. Raises Damaged unless its hash is `sha256`."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Damaged(f"{path.name} cannot be read ({error.strerror})") from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise Damaged(f"{path.name} is not what was written ({len(data)} bytes)")
    return data


def _row_bytes(ring: Ring) -> int:
    return sum(column[0].nbytes for column in ring.columns.values())
