"""Images of one's own: a folder of image files, or arrays in an .npz or .npy file."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rlrep.images.cache import open_cache
from rlrep.images.folders import Found, find_images
from rlrep.images.image_file import Colour, read_image
from rlrep.images.pixels import Bytes, check_memory, to_bytes
from rlrep.images.shards import Recipe
from rlrep.settings.ranges import at_least

from .arrays import Array, read_arrays
from .image_data import ImageData, Split, SplitSettings, existing
from .labels import known, read_label
from .stored import StoredImages

MANY = 2048
"""Images that are no longer decoded at every start."""
_ROWS = 256


@dataclass(frozen=True)
class ImageFolder(SplitSettings):
    """Image files in one subfolder per class; the label is `class`, subfolders in alphabetical order.

    Files without subfolders have no labels. `train` and `test` (or `val`) with class folders each are the split.
    size: side in pixels; images are cut to their central square and resized to it. colour: `rgb` or `gray`.
    keep: `square`, or `whole`: the cache keeps images as large as they are in their files, and random windows (the crop
    of a view) are cut out of those, with anti-aliasing, rather than out of the square. Probes see the square.
    cache: whether decoded images are kept on the disk, and read from there a batch at a time; `auto` = from
    `MANY` images on. cache_path: folder to keep them in, None = beside the images.
    """

    path: str
    size: int = 32
    colour: Colour = "rgb"
    keep: Literal["square", "whole"] = "square"
    cache: Literal["auto", "always", "never"] = "auto"
    cache_path: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 1, ("size",))
        if self.cache == "never" and self.cache_path is not None:
            raise ValueError("cache=never and a cache_path contradict each other: give one of them")
        if self.cache == "never" and self.keep == "whole":
            raise ValueError("keep=whole is of the cache, and cache=never has none: give one of them")

    def make(self, device: torch.device) -> Split:
        """Read every image, or open the cache. Raises ValueError naming a file that is no image."""
        wanted = "a folder with one subfolder of image files per class (or with image files, unlabelled)"
        folder = existing("data.path", self.path, wanted, kind="folder")
        try:
            found = find_images(folder)
        except OSError as error:
            raise ValueError(f"data.path={self.path} cannot be read: {error}") from error
        files = [*found.train.files, *(found.test.files if found.test else ())]
        stored = self.cache == "always" or self.keep == "whole" or (self.cache == "auto" and len(files) >= MANY)
        images, remarks = self._stored(folder, files) if stored else self._read(files)
        kept = (f"batches are read from {images.place}",) if isinstance(images, StoredImages) else ()
        told = (f"{count} of {len(files)} images {remark}" for remark, count in remarks.items())
        notes = (*found.notes, *kept, *told)
        names = {"class": found.names} if found.names else {}
        data = ImageData(images, _labels(found))
        if found.test is None:
            return self.split(data, device, notes=notes, class_names=names)
        rows = torch.arange(len(files))
        sides = rows.split([len(found.train.files), len(found.test.files)])
        train, test = (data.rows(side).to(device) for side in sides)
        return self.relabel(Split(train, test, notes=notes, class_names=names))

    def _read(self, files: Sequence[Path]) -> tuple[Tensor, Counter[str]]:
        """Return the images in memory, and how many each remark is of."""
        shape = (len(files), 3 if self.colour == "rgb" else 1, self.size, self.size)
        check_memory(math.prod(shape), f"data.path={self.path}")
        images, remarks = np.empty(shape, np.uint8), Counter[str]()
        for i, path in enumerate(files):
            images[i], noted = read_image(path, self.size, self.colour)
            remarks.update(noted)
        return torch.from_numpy(images), remarks

    def _stored(self, folder: Path, files: Sequence[Path]) -> tuple[StoredImages, Counter[str]]:
        """Return the same of images that stay on the disk."""
        place = None if self.cache_path is None else Path(self.cache_path)
        recipe = Recipe(None if self.keep == "whole" else self.size, self.colour)
        cache = open_cache(folder, files, recipe, place=place, say=partial(print, flush=True))
        return StoredImages(cache, range(len(files)), torch.device("cpu"), self.size), cache.remarks


def _labels(found: Found) -> dict[str, Tensor]:
    """Return the class of every image, those of the test side last."""
    classes = [name for side in (found.train, found.test) if side for name in side.classes or ()]
    numbers = {name: k for k, name in enumerate(found.names)}
    return {"class": torch.tensor([numbers[name] for name in classes])} if classes else {}


@dataclass(frozen=True)
class ImageArrays(SplitSettings):
    """An .npz file: `images`, and any further arrays of the same length as labels (whole numbers and texts: classes;
    floats: quantities). An .npy file: images alone.

    layout: axes of `images`; `auto` takes the smallest of the three for the channels; three axes are `(N, H, W)`, gray.
    size: side in pixels, None = as they are; otherwise images are cut to their central square and resized to it.
    """

    path: str
    layout: Literal["auto", "nhwc", "nchw"] = "auto"
    size: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 1, ("size",))

    def make(self, device: torch.device) -> Split:
        """Read the arrays."""
        path = existing("data.path", self.path, "an .npz file with an array `images` (uint8)", kind="file")
        arrays = read_arrays(path)
        if "images" not in arrays:
            there = ", ".join(arrays) or "none"
            raise ValueError(f"data.path={self.path} is no .npz file with an array `images`, it has: {there}")
        raw = arrays.pop("images")
        images = self._images(raw)
        notes = [] if raw.dtype == np.uint8 else [f"images of type {raw.dtype}, scaled to bytes"]
        if images.shape[1] in (2, 4):
            notes.append(f"{images.shape[1]} channels are taken for gray frames on top of each other")
        labels = {name: read_label(name, values, len(raw)) for name, values in arrays.items()}
        names = {name: label.names for name, label in labels.items() if label.names}
        found = {name: label.values for name, label in labels.items() if bool(known(label.values).any())}
        notes += [f"label {name} is known of no image and left out" for name in labels if name not in found]
        data = ImageData(self._resized(torch.from_numpy(np.ascontiguousarray(images))), found)
        return self.split(data, device, notes=notes, class_names=names)

    def _images(self, raw: Array) -> Bytes:
        """Return `(N, C, H, W)`, perhaps a view. Raises ValueError on other axes, and on pixels of unknown range."""
        place = f"data.path={self.path}: `images`"
        if raw.ndim not in (3, 4) or 0 in raw.shape:
            raise ValueError(f"{place} must be (N, H, W, C), (N, C, H, W) or (N, H, W), got {raw.shape}")
        pixels = to_bytes(raw, place)
        if raw.ndim == 3:
            return pixels[:, None]
        layout = self.layout if self.layout != "auto" else _layout(raw.shape, place)
        return pixels if layout == "nchw" else pixels.transpose(0, 3, 1, 2)

    def _resized(self, images: Tensor) -> Tensor:
        if self.size is None or tuple(images.shape[-2:]) == (self.size, self.size):
            return images
        check_memory(images.shape[0] * images.shape[1] * self.size**2, f"data.size={self.size}")
        height, width = images.shape[-2:]
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        parts = images[..., top : top + side, left : left + side].split(_ROWS)
        return torch.cat([_resize(part, self.size) for part in parts])


def _resize(images: Tensor, size: int) -> Tensor:
    found = F.interpolate(images.float(), (size, size), mode="bilinear", align_corners=False, antialias=True)
    return found.round_().clamp_(0, 255).to(torch.uint8)


def _layout(shape: tuple[int, ...], place: str) -> Literal["nhwc", "nchw"]:
    first, last = shape[1], shape[3]
    if first == last:
        raise ValueError(f"{place} {shape} may have its channels first or last: give data.layout=nchw or nhwc")
    return "nchw" if first < last else "nhwc"
