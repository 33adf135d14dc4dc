"""scikit-learn's handwritten digits, the data set that needs no file."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from rlrep.images.pixels import check_memory
from rlrep.settings.ranges import at_least

from .image_data import ImageData, Split, SplitSettings


@dataclass(frozen=True)
class Digits(SplitSettings):
    """1797 gray digits of 8x8 pixels with 17 levels (Alpaydin & Kaynak 1998, test part), labels `digit`.

    size: side in pixels, enlarged bilinearly so that convolutional encoders fit; 8 = as they are.
    """

    augment: ClassVar[str] = "mild"
    size: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 1, ("size",))

    def make(self, device: torch.device) -> Split:
        """Read the digits out of the installed package."""
        from sklearn.datasets import load_digits  # a second to import

        images, digits = load_digits(return_X_y=True)
        check_memory(4 * len(images) * self.size**2, f"data.size={self.size}")
        pixels = torch.from_numpy(images.reshape(-1, 1, 8, 8).astype(np.float32)) * (255 / 16)
        if self.size != 8:
            pixels = torch.nn.functional.interpolate(
                pixels, (self.size, self.size), mode="bilinear", align_corners=False
            )
        data = ImageData(pixels.round().to(torch.uint8), {"digit": torch.from_numpy(digits.astype(np.int64))})
        return self.split(data, device)
