"""Pixels of any type to bytes: scaled by what the type says of their range, refused where it says nothing."""

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Bytes = NDArray[np.uint8]
_ROWS = 1024
"""Converted at once, so that a float copy of all images is never held."""


def to_bytes(values: Array, place: str) -> Bytes:
    """Return pixels of any shape as uint8: 8 bits as they are, 16 bits and floats in [0, 1] scaled, booleans 0 and 255.

    place: what the pixels are of, for the error. Raises ValueError on other types and ranges.
    """
    if values.dtype == np.uint8:
        return np.asarray(values, np.uint8)
    if values.dtype == np.bool_:
        return np.where(values, np.uint8(255), np.uint8(0))
    low, high = (values.min(), values.max()) if values.size else (0, 0)
    _check_range(values.dtype, low, high, place)
    scale = 255.0 if values.dtype.kind == "f" else 255.0 / 65535.0
    found = np.empty(values.shape, np.uint8)
    for start in range(0, len(values), _ROWS):
        part = values[start : start + _ROWS]
        found[start : start + _ROWS] = np.rint(part.astype(np.float32) * np.float32(scale))
    return found


def _check_range(dtype: np.dtype[Any], low: Any, high: Any, place: str) -> None:
    advice = "save them as bytes (uint8), or as floats in [0, 1]"
    if dtype == np.uint16:
        if 1 < high <= 255:
            raise ValueError(f"{place} has 16 bits but no value above {high}, 8-bit pixels it seems: {advice}")
    elif dtype.kind != "f":
        raise ValueError(f"{place} has pixels of type {dtype} in [{low}, {high}], of which white is unknown: {advice}")
    elif not (low >= 0 and high <= 1):  # also where one is NaN
        raise ValueError(f"{place} has float pixels in [{low:g}, {high:g}], not in [0, 1]: {advice}")


def check_memory(count: int, place: str) -> None:
    """Raise ValueError if `count` bytes of images, and the copy that a split makes, are more than the machine has."""
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if 2 * count > there:
        raise ValueError(
            f"{place} takes {2 * count / 2**30:.0f} GiB in memory, this machine has {there / 2**30:.0f}: "
            f"use fewer or smaller images"
        )
