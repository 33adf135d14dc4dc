"""CIFAR-10 (Krizhevsky 2009) from the archive its author offers."""

import lzma
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from .image_data import ImageData, LabelSettings, Split, existing

_TRAIN = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
_TEST = ("test_batch.bin",)
_ROW = 1 + 3 * 32 * 32
_MOST = 10_000 * _ROW
"""Bytes of one file; no more is unpacked."""
_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@dataclass(frozen=True)
class Cifar10(LabelSettings):
    """50,000 and 10,000 RGB images of 32x32 pixels, labels `class`, in the published split.

    path: `cifar-10-binary.tar.gz`, or the folder it unpacks to. (The Python version holds pickles, which are not read.)
    """

    augment: ClassVar[str] = "simclr_cifar"
    path: str

    def make(self, device: torch.device) -> Split:
        """Read the archive without unpacking it."""
        path = existing("data.path", self.path, "cifar-10-binary.tar.gz (the binary version)")
        if not (path.is_dir() or path.is_file()):
            raise ValueError(f"data.path={path} is neither a file nor a folder: give cifar-10-binary.tar.gz")
        files = _read_folder(path) if path.is_dir() else _read_archive(path)
        missing = [name for name in (*_TRAIN, *_TEST) if name not in files]
        if missing:
            raise ValueError(
                f"data.path={path} has no {', '.join(missing)}: it must be cifar-10-binary.tar.gz (the binary version)"
            )
        train, test = (_decode(path, files, names).to(device) for names in (_TRAIN, _TEST))
        return self.relabel(Split(train, test, class_names={"class": _NAMES}))


def _read_folder(path: Path) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for place in (path / name for name in (*_TRAIN, *_TEST) if (path / name).is_file()):
        with open(place, "rb") as file:
            files[place.name] = file.read(_MOST + 1)
    return files


def _read_archive(path: Path) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name, content = Path(member.name).name, archive.extractfile(member)
                if name in (*_TRAIN, *_TEST) and content is not None:
                    files[name] = content.read(_MOST + 1)
    except (tarfile.TarError, zlib.error, lzma.LZMAError, OSError, EOFError, ValueError) as error:
        raise ValueError(f"data.path={path} is not a sound archive: {error}") from error
    return files


def _decode(path: Path, files: dict[str, bytes], names: tuple[str, ...]) -> ImageData:
    parts: list[NDArray[np.uint8]] = []
    for name in names:
        if len(files[name]) > _MOST:
            raise ValueError(f"data.path={path}: {name} has more than its {_MOST} bytes")
        if len(files[name]) % _ROW or not files[name]:
            raise ValueError(f"data.path={path}: {name} is cut short, {len(files[name])} bytes")
        parts.append(np.frombuffer(files[name], np.uint8).reshape(-1, _ROW))
        if parts[-1][:, 0].max() > 9:
            raise ValueError(f"data.path={path}: {name} has class {parts[-1][:, 0].max()}, CIFAR-10 has 0 to 9")
    rows = torch.from_numpy(np.concatenate(parts))
    return ImageData(rows[:, 1:].reshape(-1, 3, 32, 32).contiguous(), {"class": rows[:, 0].long()})
