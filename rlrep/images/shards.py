"""A shard: the decoded images of some files in one file, mapped into memory and read image by image.

It is a line that says what it is of, the pixels of all images (each `(C, H, W)`), and a table with the checksum of
every one. What another program put there is never interpreted: line and lengths are compared with what they must be.
"""

import hashlib
import json
import mmap
import os
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlrep.files import open_plain, replacing
from rlrep.settings import UserError

from .image_file import MOST_PIXELS, REMARKS, Colour, read_image
from .pixels import Bytes

_MAGIC = b"rlrep images 1 "
_HEAD = 128


class SourceFile(NamedTuple):
    """An image file: its path below the data's folder, its bytes and when it was written, in nanoseconds."""

    name: str
    size: int
    time: int


@dataclass(frozen=True)
class Recipe:
    """How files become pixels. size: side of the central square; None = whole images, as large as they are."""

    size: int | None
    colour: Colour

    @property
    def channels(self) -> int:
        """Channels of an image."""
        return 3 if self.colour == "rgb" else 1


@dataclass(frozen=True)
class Part:
    """What a shard is made of."""

    number: int
    files: tuple[SourceFile, ...]
    recipe: Recipe

    @property
    def name(self) -> str:
        """The shard's file name."""
        return f"{self.number:05d}.images"

    @property
    def head(self) -> bytes:
        """What the shard begins with: no other files, and no other recipe, give the same."""
        told = json.dumps([self.recipe.size, self.recipe.colour, self.files]).encode()
        return (_MAGIC + hashlib.sha256(told).hexdigest().encode() + b"\n").ljust(_HEAD)


def write_shard(folder: Path, root: Path, part: Part, check: Callable[[], None]) -> None:
    """Decode the files below `root` into a shard, which is there when it is whole. check: called before each image.

    Raises ValueError naming a file that is no sound image, OSError if the shard cannot be written.
    """
    table, remarks = np.zeros((len(part.files), 3), np.int64), Counter[str]()
    with replacing(folder / part.name) as out:
        out.write(part.head)
        for row, file in enumerate(part.files):
            check()
            pixels, noted = read_image(root / file.name, part.recipe.size, part.recipe.colour)
            content = pixels.tobytes()
            out.write(content)
            table[row] = *pixels.shape[1:], zlib.crc32(content)
            remarks.update(noted)
        tail = np.array([remarks[each] for each in REMARKS], np.int64).tobytes() + table.tobytes()
        out.write(tail + np.int64(zlib.crc32(tail)).tobytes())


class Shard:
    """The images of a part, in the order of its files. remarks: how many images each of `REMARKS` is of."""

    def __init__(self, path: Path, part: Part, mapped: mmap.mmap) -> None:
        """Raises UserError if its table and its length are not those of the part."""
        count = len(part.files)
        tail = 8 * (len(REMARKS) + 3 * count + 1)
        if len(mapped) < _HEAD + tail:
            raise _damaged(path, "it is cut short")
        numbers = np.frombuffer(mapped[-tail:], np.int64)
        table = numbers[len(REMARKS) : -1].reshape(count, 3)
        self._path, self._part, self._sides, self._sums = path, part, table[:, :2], table[:, 2]
        if zlib.crc32(numbers[:-1].tobytes()) != numbers[-1] or not self._fits(len(mapped) - _HEAD - tail):
            raise _damaged(path, "it is cut short, or its table is not what was written")
        self.remarks = dict(zip(REMARKS, numbers.tolist(), strict=False))
        self._pixels = np.frombuffer(mapped, np.uint8)
        self._starts = _HEAD + np.concatenate([[0], self._lengths().cumsum()])
        self._seen = np.zeros(count, bool)

    def image(self, row: int) -> Bytes:
        """Return an image `(C, H, W)`, not to be written to. Raises UserError if it is not what was once decoded."""
        found = self._pixels[self._starts[row] : self._starts[row + 1]]
        if not self._seen[row]:
            if zlib.crc32(found.data) != self._sums[row]:
                raise _damaged(self._path, f"the pixels of {self._part.files[row].name} are not what was written")
            self._seen[row] = True
        return found.reshape(self._part.recipe.channels, *self._sides[row])

    def _lengths(self) -> NDArray[np.int64]:
        lengths: NDArray[np.int64] = self._part.recipe.channels * self._sides.prod(1)
        return lengths

    def _fits(self, pixels: int) -> bool:
        """Whether the images are as large as they may be, and all together `pixels` bytes."""
        size, sides = self._part.recipe.size, self._sides
        allowed = (sides > 0) & (sides <= MOST_PIXELS) if size is None else sides == size
        whole = bool(allowed.all()) and bool((sides.prod(1) <= MOST_PIXELS).all())
        return whole and int(self._lengths().sum()) == pixels


def open_shard(folder: Path, part: Part) -> Shard | None:
    """Map a part's shard; None = it is not there, or made of other files.

    Raises UserError if there is something else in its place, or it is damaged.
    """
    path = folder / part.name
    try:
        with open(open_plain(path, os.O_RDONLY), "rb") as file:
            head = file.read(_HEAD)
            if head == part.head:
                return Shard(path, part, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except FileNotFoundError:
        return None
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{path} cannot be read ({reason}): take it away, and it is made again") from error
    if len(head) < _HEAD or not head.startswith(_MAGIC):
        raise _damaged(path, "it does not begin as decoded images do")
    return None


def _damaged(path: Path, how: str) -> UserError:
    return UserError(f"{path} is damaged ({how}): remove it, and the same command makes it again")
