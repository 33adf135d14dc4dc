"""Networks for a number of actions that may be lengthened: what of them grows with it, and which actions there are.

Runs of different action sets so share one computation, on the shapes of the largest set.
"""

from typing import TypeVar

import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)
_AXIS = "actions_at"


def per_action(module: M, axis: int) -> M:
    """Say that `axis` of a module's parameters ends with what is the last actions', so that zeros there add actions.

    Parameters without such an axis do not depend on the number. Copies of the module keep this.
    """
    setattr(module, _AXIS, axis)
    return module


def action_axes(module: nn.Module) -> dict[str, int]:
    """Return the axis that grows with the number of actions, of those parameters of a module that have one, by name."""
    found = {}
    for prefix, part in module.named_modules():
        axis = getattr(part, _AXIS, None)
        for name, parameter in part.named_parameters(prefix, recurse=False):
            if axis is not None and parameter.dim() > axis:
                found[name] = axis
    return found


class Choosing(nn.Module):
    """A module with outputs for each of `actions`.

    real: `(actions,)` bool, which of them there are; None = all.
    """

    real: Tensor | None

    def __init__(self, actions: int) -> None:
        super().__init__()
        self.actions = actions
        self.register_buffer("real", None, persistent=False)

    def best(self, values: Tensor) -> Tensor:
        """Return the actions `(B,)` of the largest values `(B, actions)`."""
        return (values if self.real is None else values.masked_fill(~self.real, -torch.inf)).argmax(1)

    def mean(self, outputs: Tensor) -> Tensor:
        """Return the mean `(B, 1, N)` of outputs `(B, actions, N)` over the actions."""
        if self.real is None:
            return outputs.mean(1, keepdim=True)
        return outputs.where(self.real[:, None], 0).sum(1, keepdim=True) / self.real.sum()
