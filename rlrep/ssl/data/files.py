"""Images of one's own: a folder of image files by class, or arrays in an .npz file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from .image_data import ImageData, Split, SplitSettings, existing

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".gif")


@dataclass(frozen=True)
class ImageFolder(SplitSettings):
    """Image files in one subfolder per class; the label is `class`, subfolders in alphabetical order.

    size: side in pixels; images are cut to their central square and resized to it. colour: `rgb` or `gray`.
    """

    path: str
    size: int = 32
    colour: Literal["rgb", "gray"] = "rgb"

    def make(self, device: torch.device) -> Split:
        """Read every image. Raises ValueError naming a file that is none."""
        folder = existing("data.path", self.path, "a folder with one subfolder of image files per class")
        classes = sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))
        files = [(path, k) for k, name in enumerate(classes) for path in _images_in(name)]
        if not files:
            raise ValueError(f"data.path={self.path} holds no images: it needs one subfolder of image files per class")
        images = torch.from_numpy(np.stack([self._read(path) for path, _ in files]))
        data = ImageData(images, {"class": torch.tensor([k for _, k in files])})
        return self.split(data, device)

    def _read(self, path: Path) -> NDArray[np.uint8]:
        """Return one image `(C, size, size)`."""
        try:
            with Image.open(path) as file:
                image = file.convert("RGB" if self.colour == "rgb" else "L")
        except (OSError, UnidentifiedImageError, ValueError) as error:
            raise ValueError(f"{path} is not a sound image: {error}") from error
        side = min(image.size)
        left, top = (image.width - side) / 2, (image.height - side) / 2
        box = (left, top, left + side, top + side)
        small = image.resize((self.size, self.size), Image.Resampling.BILINEAR, box=box)
        pixels = np.asarray(small, np.uint8)
        return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


@dataclass(frozen=True)
class ImageArrays(SplitSettings):
    """An .npz file: `images` uint8, and any further arrays of the same length as labels (integers: classes).

    layout: axes of `images`; three axes are `(N, H, W)`, gray.
    """

    path: str
    layout: Literal["nhwc", "nchw"] = "nhwc"

    def make(self, device: torch.device) -> Split:
        """Read the arrays."""
        path = existing("data.path", self.path, "an .npz file with an array `images` (uint8)")
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays: dict[str, NDArray[Any]] = dict(file)
            images = arrays.pop("images")
        except (OSError, ValueError, EOFError, KeyError) as error:
            raise ValueError(f"data.path={self.path} is not an .npz file with an array `images`: {error}") from error
        if images.ndim == 3:
            images = images[:, None]
        elif self.layout == "nhwc" and images.ndim == 4:
            images = images.transpose(0, 3, 1, 2)
        labels = {name: _as_label(values) for name, values in arrays.items()}
        return self.split(ImageData(torch.from_numpy(np.ascontiguousarray(images)), labels), device)


def _images_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)


def _as_label(values: NDArray[Any]) -> Tensor:
    kind = np.float32 if values.dtype.kind == "f" else np.int64
    return torch.from_numpy(values.astype(kind))
