"""The cache of a folder's images: decoded once, by several processes, into shards beside the folder.

`files.jsonl` in it lists what they were made of. Whatever changes since, in name, size or time, is decoded again, and a
process that is killed leaves every shard that it has finished.
"""

import fcntl
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from rlrep.files import foreign, open_plain, read_plain, replace_plain
from rlrep.settings import UserError

from .pixels import Bytes
from .shards import Part, Recipe, Shard, SourceFile, open_shard
from .workers import decode

LEAST_ROWS, MOST_SHARDS = 1024, 256
"""Images of a shard; of many images more than that, so that the maps do not use up the files a process may open."""
_LIST, _LOCK = "files.jsonl", ".lock"
_MOST_LIST = 2**30
Say = Callable[[str], None]


@dataclass(frozen=True)
class Cache:
    """Decoded images in the order of the files they are of. folder: where they are kept."""

    folder: Path
    recipe: Recipe
    shards: Sequence[Shard]
    count: int

    @property
    def remarks(self) -> Counter[str]:
        """How many images each remark is of."""
        return sum((Counter(shard.remarks) for shard in self.shards), Counter())

    def image(self, row: int) -> Bytes:
        """Return one image `(C, H, W)`, not to be written to. Raises UserError if it is damaged."""
        number, rest = divmod(row, _rows(self.count))
        return self.shards[number].image(rest)


def open_cache(root: Path, files: Sequence[Path], recipe: Recipe, *, place: Path | None, say: Say) -> Cache:
    """Return the decoded images of files below `root`; what is not decoded yet is decoded now.

    place: folder to keep them in; None = beside `root` or, where nothing can be written there, in the user's cache.
    Raises ValueError naming a file that is no sound image, UserError if the cache is damaged or cannot be written.
    """
    listed = [_source(root, path) for path in files]
    parts = _parts(listed, recipe)
    reasons: list[str] = []
    for folder in _places(root, recipe, place):
        try:
            shards = _open(folder, parts, owned=1 if place else 2) or _make(folder, root, parts, say)
        except OSError as error:
            reasons.append(f"{folder} cannot be written ({error.strerror or error})")
            continue
        if reasons:
            say(f"data: {reasons[0]}, decoded images are kept in {folder}")
        return Cache(folder, recipe, shards, len(listed))
    raise UserError(f"{'; '.join(reasons)}: name another folder, data.cache_path=FOLDER, or give data.cache=never")


def _source(root: Path, path: Path) -> SourceFile:
    found = path.stat()
    return SourceFile(str(path.relative_to(root)), found.st_size, found.st_mtime_ns)


def _rows(count: int) -> int:
    return max(LEAST_ROWS, -(-count // MOST_SHARDS))


def _parts(files: Sequence[SourceFile], recipe: Recipe) -> list[Part]:
    rows = _rows(len(files))
    starts = range(0, len(files), rows)
    return [Part(number, tuple(files[start : start + rows]), recipe) for number, start in enumerate(starts)]


def _places(root: Path, recipe: Recipe, place: Path | None) -> Iterator[Path]:
    """Yield where the shards may be, in the order of preference."""
    kind, own = f"{recipe.size or 'whole'}-{recipe.colour}", root.resolve()
    if place is not None:
        yield place / kind
        return
    yield own.parent / f".{own.name}.rlrep" / kind
    told = hashlib.sha256(os.fsencode(own)).hexdigest()[:12]
    yield Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rlrep" / f"{own.name}-{told}" / kind


def _open(folder: Path, parts: Sequence[Part], *, owned: int) -> list[Shard] | None:
    """Return the shards of all parts, None if some are still to be made.

    owned: how many levels of the folder's path are the cache's own, where a link leads to something else.
    """
    for level in (folder, *folder.parents)[:owned]:
        if level.is_symlink():
            raise UserError(f"{level} is a link, and decoded images have a folder of their own: remove it")
    if (found := foreign(folder)) is not None:
        raise UserError(f"{folder} holds {found}: take it away, and the same command goes on")
    shards = [shard for part in parts if (shard := open_shard(folder, part)) is not None]
    return shards if len(shards) == len(parts) else None


def _make(folder: Path, root: Path, parts: Sequence[Part], say: Say) -> list[Shard]:
    """Decode what is missing, and return all shards. Raises OSError if the folder cannot be written."""
    with _claimed(folder, say) as lock:
        missing = [part for part in parts if open_shard(folder, part) is None]
        if missing:  # else another process has made them
            say(_news(folder, parts, missing))
            replace_plain(folder / _LIST, b"".join(_lines(parts)))
            _remove_beyond(folder, len(parts))
            decode(folder, root, missing, lock, say)
    found = [open_shard(folder, part) for part in parts]
    assert None not in found, "what was missing has been made"
    return [shard for shard in found if shard is not None]


@contextmanager
def _claimed(folder: Path, say: Say) -> Iterator[int]:
    """Keep other processes from decoding into a folder, and yield the handle that does."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = open_plain(folder / _LOCK, os.O_RDWR | os.O_CREAT)
    try:
        with suppress(OSError):  # a file system without locks
            if not _locked(handle):
                say(f"data: another process decodes images into {folder}, which is waited for")
                fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle
    finally:
        os.close(handle)


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lines(parts: Sequence[Part]) -> list[bytes]:
    return [json.dumps(file).encode() + b"\n" for part in parts for file in part.files]


def _news(folder: Path, parts: Sequence[Part], missing: Sequence[Part]) -> str:
    """Return the line that says what is decoded, and why where there was a cache before."""
    new, why = set(_lines(parts)), ""
    if (folder / _LIST).exists():
        old = set(read_plain(folder / _LIST, _MOST_LIST).splitlines(keepends=True))
        if old != new:
            why = f": since it was made {len(new - old)} files are new or changed, {len(old - new)} gone or changed"
    count = sum(len(part.files) for part in missing)
    return f"data: {count} of {len(new)} images are decoded into {folder}, once{why}"


def _remove_beyond(folder: Path, count: int) -> None:
    """Remove the shards that a larger folder had."""
    for path in folder.glob("[0-9][0-9][0-9][0-9][0-9].images"):
        if int(path.stem) >= count:
            path.unlink()
