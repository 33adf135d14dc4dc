"""Target networks."""

import copy
from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn


class MomentumTarget(nn.Module):
    """Frozen exponential moving average of a module (MoCo, He et al. 2020, equation 2; BYOL; SAC's target networks).

    tau: weight of the new value, in (0, 1].
    buffers: `own` leaves them to the copy, whose batch norm then follows its own input (MoCo, BYOL); `copy` takes the
        module's at every update.
    The copy starts equal to the module, is called like it, without gradient, and is what `state_dict` holds.
    Raises ValueError on a tau outside (0, 1].
    """

    def __init__(self, module: nn.Module, tau: float, *, buffers: Literal["own", "copy"] = "own") -> None:
        super().__init__()
        if not 0.0 < tau <= 1.0:
            raise ValueError(f"tau is the weight of the new value, in (0, 1], not {tau}.")
        self.tau = tau
        self.module = copy.deepcopy(module).requires_grad_(False)
        self._source = (module,)  # in a tuple, so that the online module does not become a part of its target
        self._copy_buffers = buffers == "copy"

    @torch.no_grad()
    def forward(self, *inputs: Tensor) -> Any:
        return self.module(*inputs)

    def restart(self) -> None:
        """Make the copy equal to the module again, as it was at the start."""
        self.module.load_state_dict(self._source[0].state_dict())

    @torch.no_grad()
    def update(self) -> None:
        """Move every parameter by tau towards the module's."""
        if own := _tensors(self.module.parameters()):
            torch._foreach_lerp_(own, _tensors(self._source[0].parameters()), self.tau)
        if self._copy_buffers and (kept := list(self.module.buffers())):
            torch._foreach_copy_(kept, list(self._source[0].buffers()))


def _tensors(parameters: Iterable[Tensor]) -> list[Tensor]:
    return list(parameters)
