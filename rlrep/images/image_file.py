"""One image file to bytes: upright, 8 bits, square; a file that says it is enormous is refused before it is decoded."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps

from .pixels import Bytes, to_bytes

SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm")
MOST_PIXELS = 1 << 26
"""Of one file: 8192 x 8192, 200 MB decoded."""

Colour = Literal["rgb", "gray"]
Window = tuple[float, float, float, float]
REMARKS = (
    "turned upright, as their EXIF orientation says",
    "of 16 bits, scaled to 8 (65535 is white)",
    "of floats in [0, 1], scaled to bytes",
    "with transparency, which is left out",
    "of several frames, of which the first is read",
)
"""All that may be changed or left out, in words that go with a count."""
_UPRIGHT, _SCALED, _FLOATS, _TRANSPARENT, _FRAMES = REMARKS


class ImageFile(NamedTuple):
    """pixels: uint8 `(C, H, W)`. remarks: those of `REMARKS` that are of this file."""

    pixels: Bytes
    remarks: tuple[str, ...]


def read_image(path: Path, size: int | None, colour: Colour) -> ImageFile:
    """Read a file's (first) image, turn it upright, cut its central square and resize that; None = leave it whole.

    Raises ValueError naming the file if it is no sound image, too large, or of pixels whose range is not known.
    """
    with _one_line(path), Image.open(path) as file:
        _check_size(path, file.size)
        remarks = tuple(_remarks(file))
        image = _eight_bits(ImageOps.exif_transpose(file), path, file.format)
        coloured = image.convert("RGB" if colour == "rgb" else "L")
        pixels = _pixels(coloured if size is None else _cut(coloured, size, _central(*coloured.size)))
    return ImageFile(pixels, remarks)


def cut(pixels: Bytes, size: int, window: Window | None = None) -> Bytes:
    """Return a window of an image `(C, H, W)`, resized with anti-aliasing to `(C, size, size)`.

    window: top, left, height and width; None = the central square, as `read_image` cuts it.
    """
    image = Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    if window is None:
        return _pixels(_cut(image, size, _central(*image.size)))
    top, left, height, width = window
    return _pixels(_cut(image, size, (left, top, left + width, top + height)))


def _pixels(image: Image.Image) -> Bytes:
    pixels = np.asarray(image, np.uint8)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


@contextmanager
def _one_line(path: Path) -> Iterator[None]:
    """Decoders meet damage with errors of every kind (SyntaxError, struct.error, ...) and with warnings."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Image.DecompressionBombError as error:
        raise _too_large(path, str(error).split(",")[0]) from error
    except Exception as error:
        if isinstance(error, ValueError) and str(error).startswith(f"{path} "):
            raise
        raise ValueError(f"{path} is not a sound image: {error or type(error).__name__}") from error


def _check_size(path: Path, size: tuple[int, int]) -> None:
    if size[0] * size[1] > MOST_PIXELS:
        raise _too_large(path, f"it has {size[0]}x{size[1]} pixels")


def _too_large(path: Path, how: str) -> ValueError:
    return ValueError(f"{path} is too large ({how}, at most {MOST_PIXELS} are read): make it smaller, or remove it")


def _remarks(file: Image.Image) -> Iterator[str]:
    if file.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        yield _UPRIGHT
    if _wide(file.mode, file.format):
        yield _SCALED
    if file.mode == "F":
        yield _FLOATS
    if file.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in file.info:
        yield _TRANSPARENT
    if getattr(file, "is_animated", False):
        yield _FRAMES


def _wide(mode: str, kind: str | None) -> bool:
    """Whether pixels have 16 bits; Pillow widens those of some formats to 32."""
    return mode.startswith("I;16") or (mode == "I" and kind in ("PNG", "PPM"))


def _eight_bits(image: Image.Image, path: Path, kind: str | None) -> Image.Image:
    if not (_wide(image.mode, kind) or image.mode in ("I", "F")):
        return image
    values = np.asarray(image)
    return Image.fromarray(to_bytes(values.astype(np.uint16) if _wide(image.mode, kind) else values, str(path)))


def _central(width: int, height: int) -> Window:
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def _cut(image: Image.Image, size: int, box: Window) -> Image.Image:
    return image.resize((size, size), Image.Resampling.BILINEAR, box=box)
