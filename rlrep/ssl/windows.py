"""Views of whole images on the disk: windows are cut out of the image as large as it is, not of a small square."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from rlrep.views import ImageView, View

from .data import Images, StoredImages


class Windows:
    """Cuts out the windows of an update's views, with anti-aliasing, and begins with the next one's in good time.

    size: side of the views. Raises ValueError on views that cut no windows.
    """

    def __init__(self, images: StoredImages, views: Sequence[View], size: int) -> None:
        others = [type(view).__name__ for view in views if not isinstance(view, ImageView)]
        if others:
            raise ValueError(
                f"data.keep=whole is for views that cut windows out of images, {others[0]} is none: give "
                f"augment=simclr or another of these, or data.keep=square"
            )
        self._images, self._size = images, size
        self._views = [view for view in views if isinstance(view, ImageView)]

    def make(self, rows: Tensor, seed: int, generator: Generator) -> Tensor:
        """Return views `(V, N, C, H, W)` of the images in `rows`. seed: of the windows."""
        cut = self._images.cut(rows, self._draw(rows, seed), self._size)
        return torch.stack([view.of_window(each, generator) for view, each in zip(self._views, cut, strict=True)])

    def fetch(self, rows: Tensor, seed: int) -> None:
        """Begin to cut what `make` will be asked for next."""
        self._images.fetch(rows, self._draw(rows, seed), self._size)

    def _draw(self, rows: Tensor, seed: int) -> Tensor:
        """Return windows `(V, N, 4)`, each within its own image."""
        generator, (height, width) = Generator().manual_seed(seed), self._images.sides(rows).split(1, 1)
        return torch.stack([view.crop.draw(len(rows), height, width, generator) for view in self._views])


def windows_of(images: Images, views: Sequence[View], size: int) -> Windows | None:
    """Return what cuts out windows, None of images that are no whole ones. Raises ValueError as `Windows` does."""
    return Windows(images, views, size) if isinstance(images, StoredImages) and images.whole else None
