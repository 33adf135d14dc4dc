"""Images that stay on disk: they look like a tensor `(N, C, H, W)` to what reads a batch of them at a time."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rlrep.images.cache import Cache
from rlrep.images.image_file import cut
from rlrep.images.pixels import Bytes

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class _Asked:
    """A batch. windows: `(V, N, 4)` to cut out of whole images and bring to `size`; None = the images themselves."""

    rows: Rows
    windows: NDArray[np.float32] | None = None
    size: int = 0

    @property
    def key(self) -> tuple[bytes, bytes]:
        return self.rows.tobytes(), b"" if self.windows is None else self.windows.tobytes()


class StoredImages:
    """Some of a cache's images, by `rows`, in any order; read where they are asked for, as uint8 on `device`.

    size: side of the squares that are read. whole: whether the cache keeps images as large as they are in their files.
    """

    dtype = torch.uint8
    ndim = 4

    def __init__(self, cache: Cache, rows: Sequence[int] | Rows, device: torch.device, size: int) -> None:
        self._cache, self._rows, self.device, self._size = cache, np.asarray(rows, np.int64), device, size
        self.shape = torch.Size((len(self._rows), cache.recipe.channels, size, size))
        self.whole = cache.recipe.size is None
        self._reader = ThreadPoolExecutor(1, "rlrep-images")
        self._cutters = ThreadPoolExecutor(len(os.sched_getaffinity(0)), "rlrep-windows")
        self._ahead: tuple[_Asked, Future[Tensor]] | None = None

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def place(self) -> Path:
        """Where the cache is."""
        return self._cache.folder

    def rows(self, index: Tensor) -> "StoredImages":
        """Return the images that `index` names, none of which is read."""
        return StoredImages(self._cache, self._at(index), self.device, self._size)

    def to(self, device: torch.device) -> "StoredImages":
        """Return the same images, which will be brought to another device."""
        return StoredImages(self._cache, self._rows, device, self._size)

    def __getitem__(self, index: slice | Tensor) -> Tensor:
        """Read images. Raises UserError, as all that reads does, if one is not what was once decoded."""
        rows = self._rows[index] if isinstance(index, slice) else self._at(index)
        return self._answer(_Asked(rows)).to(self.device)

    def index_select(self, dim: int, index: Tensor) -> Tensor:
        """Read the images of a batch, which may have been fetched already."""
        return self._take(_Asked(self._at(index)))

    def cut(self, index: Tensor, windows: Tensor, size: int) -> Tensor:
        """Return windows `(V, N, 4)` of whole images (top, left, height, width), as `(V, N, C, size, size)`."""
        return self._take(_Asked(self._at(index), windows.numpy(), size))

    def fetch(self, index: Tensor, windows: Tensor | None = None, size: int = 0) -> None:
        """Begin to read, or to cut, the batch that will be asked for next, in a thread."""
        asked = _Asked(self._at(index), None if windows is None else windows.numpy(), size)
        self._ahead = asked, self._reader.submit(self._answer, asked)

    def sides(self, index: Tensor) -> Tensor:
        """Return height and width of images as the cache keeps them, float32 `(N, 2)` on the CPU."""
        sides = [self._cache.image(row).shape[1:] for row in self._at(index).tolist()]
        return torch.tensor(sides, dtype=torch.float32)

    def split(self, count: int) -> Iterator[Tensor]:
        """Yield all images, so many at a time."""
        for start in range(0, len(self), count):
            yield self[start : start + count]

    def _at(self, index: Tensor) -> Rows:
        rows: Rows = self._rows[index.cpu().numpy()]
        return rows

    def _take(self, asked: _Asked) -> Tensor:
        ahead, self._ahead = self._ahead, None
        fetched = ahead is not None and ahead[0].key == asked.key
        return (ahead[1].result() if ahead is not None and fetched else self._answer(asked)).to(self.device)

    def _answer(self, asked: _Asked) -> Tensor:
        images = [self._cache.image(row) for row in asked.rows.tolist()]
        if asked.windows is not None:
            return self._cut(images, asked.windows, asked.size)
        found = np.empty((len(images), *self.shape[1:]), np.uint8)
        for place, image in enumerate(images):
            found[place] = cut(image, self._size) if self.whole else image
        return torch.from_numpy(found)

    def _cut(self, images: Sequence[Bytes], windows: NDArray[np.float32], size: int) -> Tensor:
        def one(place: tuple[int, ...]) -> Bytes:
            top, left, height, width = windows[place].tolist()
            return cut(images[place[1]], size, (top, left, height, width))

        views = np.stack(list(self._cutters.map(one, np.ndindex(windows.shape[:2]))))
        return torch.from_numpy(views.reshape(*windows.shape[:2], *views.shape[1:]))


Images = Tensor | StoredImages
"""uint8 `(N, C, H, W)`."""
