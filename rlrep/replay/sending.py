"""Arrays of the host to a device, without a wait."""

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor


def sent(array: NDArray[Any], device: torch.device) -> Tensor:
    """Return an array as a tensor on a device.

    To a GPU it goes by pinned memory, since a copy from any other waits for all that was launched before.
    """
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor
