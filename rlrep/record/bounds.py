"""How much the settings of a run folder may take: memory that its checkpoint speaks for, data as much as is usual."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from rlrep.contract.env import Tree
from rlrep.settings import TARGET, ConfigError, UserError, groups

from .tree import split

SPARE_BYTES = 256 * 2**20
TIMES = 16
"""What is filled over what is saved: each weight is drawn, copied to its target network, and moved. Of data, what
may be asked for over what its own file does."""
SIDE, USUAL_SIDE = "size", 84
"""The option that counts twice, a side of square images, and pixels of it that are never too many."""


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


def check_amounts(data: Mapping[str, Any], folder: str, said: Callable[[str], bool]) -> None:
    """Raise ConfigError if a run folder asks for far more data than the files of its component in `configs/data` do.

    folder: named in the error. said: whether the user has typed an option, which is then theirs. Seeds are no amounts.
    """
    usual = _usual(str(data.get(TARGET)))
    over = {key: value / usual[key] for key, value in _amounts(data).items() if value > usual.get(key, value)}
    asked = {key: times ** (1 + (key == SIDE)) for key, times in over.items() if not said(f"data.{key}")}
    if math.prod(asked.values()) > TIMES:
        options = " ".join(f"data.{key}={data[key]}" for key in asked)
        raise ConfigError(
            f"{folder} asks for {math.prod(asked.values()):,.0f} times the usual data ({options}): a run folder does "
            "not choose that, repeat these options if you want it"
        )


def _usual(target: str) -> dict[str, float]:
    """Return the largest amounts that the files of a component have."""
    found: dict[str, float] = {SIDE: USUAL_SIDE}
    for node in (groups.node("data", name, "data") for name in groups.names("data")):
        if node[TARGET] == target:
            found |= {key: max(value, found.get(key, 0)) for key, value in _amounts(node).items()}
    return found


def _amounts(data: Mapping[str, Any]) -> dict[str, float]:
    """Return what is counted in a `data` node: whole numbers, and how long lists are."""
    counted = {key: len(value) if isinstance(value, list) else value for key, value in data.items()}
    return {
        key: value
        for key, value in counted.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 and "seed" not in key
    }
