"""Images that stay on disk: they look like a tensor `(N, C, H, W)` to what reads a batch of them at a time."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rlrep.images.cache import Cache

Rows = NDArray[np.int64]


class StoredImages:
    """Some of a cache's images, by `rows`, in any order; read where they are asked for, as uint8 on `device`."""

    dtype = torch.uint8
    ndim = 4

    def __init__(self, cache: Cache, rows: Sequence[int] | Rows, device: torch.device) -> None:
        size = cache.recipe.size
        assert size is not None, "images of one size"
        self._cache, self._rows, self.device = cache, np.asarray(rows, np.int64), device
        self.shape = torch.Size((len(self._rows), cache.recipe.channels, size, size))
        self._reader = ThreadPoolExecutor(1, "rlrep-images")
        self._ahead: tuple[Rows, Future[Tensor]] | None = None

    def __len__(self) -> int:
        return len(self._rows)

    def rows(self, index: Tensor) -> "StoredImages":
        """Return the images that `index` names, none of which is read."""
        return StoredImages(self._cache, self._rows[index.cpu().numpy()], self.device)

    def to(self, device: torch.device) -> "StoredImages":
        """Return the same images, which will be brought to another device."""
        return StoredImages(self._cache, self._rows, device)

    def __getitem__(self, index: slice | Tensor) -> Tensor:
        """Read images. Raises UserError, as all that reads does, if one is not what was once decoded."""
        rows = self._rows[index if isinstance(index, slice) else index.cpu().numpy()]
        return self._read(rows).to(self.device)

    def index_select(self, dim: int, index: Tensor) -> Tensor:
        """Read the images of a batch, which may have been fetched already."""
        rows = self._rows[index.cpu().numpy()]
        ahead, self._ahead = self._ahead, None
        fetched = ahead is not None and np.array_equal(ahead[0], rows)
        return (ahead[1].result() if ahead is not None and fetched else self._read(rows)).to(self.device)

    def fetch(self, index: Tensor) -> None:
        """Begin to read the batch that will be asked for next, in a thread."""
        rows = self._rows[index.cpu().numpy()]
        self._ahead = rows, self._reader.submit(self._read, rows)

    def split(self, count: int) -> Iterator[Tensor]:
        """Yield all images, so many at a time."""
        for start in range(0, len(self), count):
            yield self[start : start + count]

    def _read(self, rows: Rows) -> Tensor:
        found = np.empty((len(rows), *self.shape[1:]), np.uint8)
        for place, row in enumerate(rows.tolist()):
            found[place] = self._cache.image(row)
        return torch.from_numpy(found)


Images = Tensor | StoredImages
"""uint8 `(N, C, H, W)`."""
