"""How much memory the settings of a run folder may take: what its checkpoint speaks for, and some."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from rlrep.contract.env import Tree
from rlrep.settings import UserError

from .tree import split

SPARE_BYTES = 256 * 2**20
TIMES = 16
"""What is filled over what is saved: each weight is drawn, copied to its target network, and moved."""


class Bounded(TorchDispatchMode):
    """Within it, the main memory that tensors fill adds up to no more than a checkpoint accounts for.

    Memory that is reserved and not written to (a replay before its first rows) costs nothing and is not counted.
    """

    def __init__(self, folder: str, state: Tree) -> None:
        """state: of the checkpoint in run folder `folder`."""
        super().__init__()  # type: ignore[no-untyped-call]  # torch says no types here
        self._folder = folder
        self._saved = sum(tensor.nbytes for tensor in split(state)[1].values())
        self._left = SPARE_BYTES + TIMES * self._saved

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run one operation. Raises UserError before the one that fills too much."""
        self._left -= _filled(func._schema.name, args, kwargs or {})
        if self._left < 0:
            raise UserError(
                f"{self._folder}: its config asks for networks far larger than its checkpoint, which holds "
                f"{self._saved / 2**20:,.1f} MB: the one is not of the other"
            )
        return func(*args, **(kwargs or {}))


def _filled(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> int:
    """Return how many bytes an operation writes, which makes a tensor of sizes, joins or fills some; of others, 0."""
    first = args[0] if args else None
    if isinstance(first, (list, tuple)) and any(isinstance(each, Tensor) for each in first):
        return sum(each.nbytes for each in first if each.device.type == "cpu")
    if isinstance(first, Tensor):
        return first.nbytes if name.endswith("_") and first.device.type == "cpu" else 0
    elsewhere = kwargs.get("pin_memory") or str(kwargs.get("device") or "cpu") != "cpu"
    if elsewhere or "empty" in name or not isinstance(first, (int, list, tuple)):
        return 0
    sizes = list(first) if isinstance(first, (list, tuple)) else [first] * (2 if name == "aten::eye" else 1)
    return 4 * math.prod(sizes)
