"""What stands for a CUDA graph on a machine without one: a tape of the operations of an update, played on the tensors
that it was recorded on, while none of our Python runs."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from rlrep.nn.graph import GraphedStep


class Call(NamedTuple):
    """An operation, its arguments, and where its results went."""

    function: Any
    args: Any
    kwargs: Any
    results: list[Any]


class Tape(TorchDispatchMode):
    """Records every operation, those of the backward pass included."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[Call] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        args, kwargs = tree_map(lambda leaf: leaf, (args, kwargs or {}))  # lists may change later
        found = func(*args, **kwargs)
        self.calls.append(Call(func, args, kwargs, tree_leaves(found)))
        return found

    def play(self) -> None:
        """Repeat everything, results to where they went."""
        with torch._C._AutoDispatchBelowAutograd():
            for call in self.calls:
                for old, new in zip(call.results, tree_leaves(call.function(*call.args, **call.kwargs)), strict=True):
                    if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():  # neither a view nor in place
                        old.copy_(new)


class Played:
    """A graph. Its recording was an update already, so the first replay is none."""

    def __init__(self, tape: Tape) -> None:
        self.tape, self.plays = tape, -1

    def replay(self) -> None:
        self.plays += 1
        if self.plays:
            self.tape.play()


class TapedStep(GraphedStep[Any, Any, Any]):
    """A `GraphedStep` of tapes."""

    def _run_aside(self, inputs: Any, key: Any) -> Any:
        return self._step(inputs, key)

    def _capture(self, inputs: Any, key: Any) -> Any:
        with Tape() as tape:
            output = self._step(inputs, key)
        return Played(tape), inputs, output

    @property
    def tapes(self) -> list[Played]:
        """Those that there are, by what is due."""
        return [graph for graph, _, _ in self._graphs.values()]


class EagerStep(TapedStep):
    """A `GraphedStep` that runs every call as it is."""

    def __call__(self, inputs: Any, key: Any) -> Any:
        return self._step(inputs, key)
