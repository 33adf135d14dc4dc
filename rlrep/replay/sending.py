"""Arrays of the host to a device, without a wait."""

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor


def sent(array: NDArray[Any] | Tensor, device: torch.device) -> Tensor:
    """Return an array, or a tensor of any place, as a tensor on a device.

    To a GPU it goes by pinned memory, since a copy from any other waits for all that was launched before.
    """
    tensor = torch.as_tensor(array)
    pinned = tensor.pin_memory() if device.type == "cuda" and tensor.device.type == "cpu" else tensor
    return pinned.to(device, non_blocking=True)
