"""How an update is executed: eagerly, compiled, or as CUDA graphs."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, Generic, ParamSpec, TypeVar

import torch
from torch import Generator, Tensor

from rlrep.contract.agent import CompileMode

P = ParamSpec("P")
R = TypeVar("R")
Inputs = TypeVar("Inputs")
Key = TypeVar("Key", bound=Hashable)


def compiled(function: Callable[P, R], mode: CompileMode) -> Callable[P, R]:
    """Compile `function` for static shapes unless `mode` is off (a CUDA graph captures the compiled kernels)."""
    if mode == "off":
        return function
    torch._dynamo.config.trace_autograd_ops = (
        True  # functions that call torch.autograd.grad become one graph, backward included
    )
    return torch.compile(function, dynamic=False, fullgraph=True)


def tensors_of(value: Any) -> list[Tensor]:
    """Return the tensors in nested dataclasses, mappings and sequences, in a fixed order."""
    if isinstance(value, Tensor):
        return [value]
    if is_dataclass(value):
        return [tensor for field in fields(value) for tensor in tensors_of(getattr(value, field.name))]
    if isinstance(value, dict):
        return [tensor for item in value.values() for tensor in tensors_of(item)]
    if isinstance(value, (list, tuple)):
        return [tensor for item in value for tensor in tensors_of(item)]
    return []


def refilled(value: Any, tensors: Iterator[Tensor]) -> Any:
    """Return the same nested structure with other tensors, in the order of `tensors_of`."""
    if isinstance(value, Tensor):
        return next(tensors)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: refilled(getattr(value, field.name), tensors) for field in fields(value)})
    if isinstance(value, dict):
        return {key: refilled(item, tensors) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        items = [refilled(item, tensors) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return value


class GraphedStep(Generic[Inputs, Key, R]):
    """Replays `step(inputs, key)` as CUDA graphs, one per key (the parts of an update that are due).

    generators: whose random numbers the step draws (a graph goes on where they stand, and moves them on).

    The first `warmup` calls of a key run eagerly on a side stream, as real steps, which capture requires; then the
    step is recorded once and replayed on inputs copied into the recorded addresses. Outputs live in the graph's
    memory: use them before the next call. Raises ValueError if the step cannot be captured.
    """

    def __init__(self, step: Callable[[Inputs, Key], R], generators: Sequence[Generator] = (), warmup: int = 3) -> None:
        self._step, self._generators, self._warmup = step, generators, warmup
        self.forget()

    def forget(self) -> None:
        """Begin again, as is due when what the step reads beside its inputs has moved."""
        self._seen: dict[Key, int] = {}
        self._graphs: dict[Key, tuple[Any, Inputs, R]] = {}

    def __call__(self, inputs: Inputs, key: Key) -> R:
        """Run one step. `inputs` keeps its structure and shapes over all calls of a key."""
        if key not in self._graphs:
            self._seen[key] = self._seen.get(key, 0) + 1
            if self._seen[key] <= self._warmup:
                return self._run_aside(inputs, key)
            self._graphs[key] = self._capture(inputs, key)
        graph, static, output = self._graphs[key]
        for recorded, fresh in zip(tensors_of(static), tensors_of(inputs), strict=True):
            recorded.copy_(fresh)
        graph.replay()
        return output

    def _run_aside(self, inputs: Inputs, key: Key) -> R:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            output = self._step(inputs, key)
        torch.cuda.current_stream().wait_stream(stream)
        return output

    def _capture(self, inputs: Inputs, key: Key) -> tuple[Any, Inputs, R]:
        graph: Any = torch.cuda.CUDAGraph()
        for generator in self._generators:
            graph.register_generator_state(generator)
        try:
            with torch.cuda.graph(graph):
                output = self._step(inputs, key)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            line = str(error).partition("\n")[0]
            raise ValueError(f"the update cannot be a CUDA graph ({line}): compile=default trains without") from error
        # Capture only records: the caller replays at once, on these very inputs.
        return graph, inputs, output
