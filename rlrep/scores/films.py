"""Evaluation videos for the page: the newest of each arm and task, inside the page while they are small."""

import base64
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from rlrep.record.stored import MEGABYTE

from .arms import Arm, Task
from .comparison import Comparison
from .files import clean
from .runs import Run

_KINDS = {".mp4": ("video/mp4", b"ftyp", 4), ".gif": ("image/gif", b"GIF8", 0)}
_MOST_FILMS = 60
_LARGEST_SHARE = 0.25


@dataclass(frozen=True)
class Film:
    """address: a data URI, or the file's place relative to the page."""

    task: Task
    arm: Arm
    seed: str
    name: str
    address: str
    animated: bool


class Reel:
    """Collects films until `megabytes` of them are inside the page; later ones are linked."""

    def __init__(self, out: Path, megabytes: float) -> None:
        self._out, self._limit = out, int(megabytes * MEGABYTE)
        self._left = self._limit

    def collect(self, made: Comparison) -> list[Film]:
        """Return the films of a comparison, by task and arm, one each."""
        found = []
        for task in made.tasks:
            for arm in made.arms:
                film = next(self._films(task, arm, made.cell(task, arm)), None)
                found += [film] if film else []
        return found[:_MOST_FILMS]

    def _films(self, task: Task, arm: Arm, runs: Sequence[Run]) -> Iterator[Film]:
        for run in runs:
            path = newest(run.folder / "videos")
            if path is not None:
                yield Film(task, arm, run.seed, clean(path.name), self._address(path), path.suffix.lower() == ".gif")

    def _address(self, path: Path) -> str:
        size = path.stat().st_size
        if size > min(self._left, self._limit * _LARGEST_SHARE):
            return quote(os.fsencode(os.path.relpath(path.resolve(), self._out.resolve())))
        self._left -= size
        kind = _KINDS[path.suffix.lower()][0]
        return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def newest(folder: Path) -> Path | None:
    """Return the newest film in a folder, None if there is none. A link is none: it may lead to anybody's files."""
    try:
        if not stat.S_ISDIR(os.lstat(folder).st_mode):
            return None
        listed = [(os.lstat(folder / name), folder / name) for name in os.listdir(folder)]
        films = [(found.st_mtime, str(path), path) for found, path in listed if stat.S_ISREG(found.st_mode)]
        return next((path for *_, path in sorted(films, reverse=True) if _is_film(path)), None)
    except OSError:
        return None


def _is_film(path: Path) -> bool:
    _, magic, offset = _KINDS.get(path.suffix.lower(), ("", b"", -1))
    if offset < 0:
        return False
    with open(path, "rb") as file:
        return file.read(offset + len(magic))[offset:] == magic
