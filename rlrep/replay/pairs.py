"""What heads ask for beside the RL batch, what they get, and who draws it: every kind of pair goes through here.

A kind of pair is one file (those of this house are in `kinds/`): a request, and the sampler that serves it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from rlrep.views.base import View

from .reader import Rows, Steps

GROUP = "rlrep.pairs"
"""Entry points of other packages' samplers."""
Viewing = Callable[[Tensor], Tensor]
"""Augments observations `(B, ...)`."""
NO_TASKS = torch.zeros(0, dtype=torch.int64)
Found = TypeVar("Found")


class Request(Generic[Found]):
    """What a head asks for, a frozen dataclass; `Found`: what it gets.

    shared: heads that ask for equal ones get one and the same draw, not one each.
    """

    shared: ClassVar[bool] = False

    def viewed(self, found: Found, view: Viewing) -> Found:
        """Return what was found with every observation in it under the head's view."""
        return found


Asked = TypeVar("Asked", bound=Request[Any])


@dataclass(frozen=True)
class Needs:
    """What a head asks for in every batch.

    view: augmentation of what it gets; None = the agent's own.
    """

    requests: tuple[Request[Any], ...] = ()
    view: View | None = None

    def of(self, kind: type[Asked]) -> list[Asked]:
        """Return the requests of one kind."""
        return [request for request in self.requests if isinstance(request, kind)]


@dataclass(frozen=True)
class Pairs:
    """What was drawn for one head, by its requests: `pairs[request]`."""

    found: Mapping[Request[Any], Any] = field(default_factory=dict)

    def __getitem__(self, request: Request[Found]) -> Found:
        """Return what was drawn. Raises KeyError on what the head's `needs` do not ask for."""
        found: Found = self.found[request]
        return found

    def viewed(self, view: Viewing) -> "Pairs":
        """Return the same with every observation `(B, ...)` under `view`."""
        return Pairs({request: request.viewed(found, view) for request, found in self.found.items()})


class Stepped(NamedTuple):
    """The newest step of N environments, each `(N,)`.

    ended: the episode does; terminated: of itself; died: because its worker was lost; else it was cut off.
    """

    reward: NDArray[Any]
    ended: NDArray[np.bool_]
    terminated: NDArray[np.bool_]
    died: NDArray[np.bool_]


@dataclass(frozen=True)
class Anchors:
    """The RL batch's B transitions, beside which pairs are drawn.

    obs: `(B, ...)`, under no view. rows, step, env: `(B,)` int64, where they are stored, see `Window`.
    generator: of every random number, on the device `Rows.home`.
    tasks: `(T,)` int64, the tasks of a meta-batch; `(0,)` in a replay of one task.
    """

    obs: Tensor
    rows: Tensor
    step: Tensor
    env: Tensor
    generator: Generator
    tasks: Tensor = NO_TASKS


class Keeps(Protocol):
    """What is known of the stored steps, kept up to date step by step; see `Sampler`."""

    @property
    def nbytes(self) -> int: ...
    def add(self, step: Stepped) -> None: ...
    def cut(self) -> None: ...
    def state(self) -> Any: ...
    def load_state(self, tree: Any) -> None: ...


class Sampler(ABC, Generic[Asked, Found]):
    """Draws what one request asks for: `class Mine(Sampler[Asked, Found], serves=Asked)`.

    reads: what its replay must offer: `Steps` (of one task, step by step), `TaskRows`, or what both have, `Rows`.
    capturable: whether a CUDA graph may hold its draw: no shape in it changes, and no number that is not a tensor (it
        asks a window for its `ends`, rather than for `low` and `head`). Else the agent's draws are made before the
        graph.
    What it keeps of the stored steps it takes in `add`, drops in `cut`, counts in `nbytes`, and gives back bit for bit
    by `state` and `load_state`, or leaves to parts that do, its `keeps`; a sampler that keeps nothing needs none of
    them. Equal requests have one sampler.
    """

    keeps: Sequence[Keeps] = ()
    capturable: bool = False

    reads: ClassVar[type[Any]]

    def __init_subclass__(cls, *, serves: type[Request[Any]], reads: type[Any] = Steps) -> None:
        super().__init_subclass__()
        cls.reads = reads
        SAMPLERS.setdefault(serves, []).append(cls)

    def __init__(self, request: Asked, rows: Any) -> None:
        self.request, self.rows = request, rows

    @abstractmethod
    def draw(self, anchors: Anchors) -> Found:
        """Return what is asked for, on the training device."""

    def add(self, step: Stepped) -> None:
        """Take the newest step, which is stored already. Never called in a replay of tasks."""
        for part in self.keeps:
            part.add(step)

    def cut(self) -> None:
        """Drop every running episode, and what has left the window."""
        for part in self.keeps:
            part.cut()

    @property
    def nbytes(self) -> int:
        """Bytes of what grows with the replay."""
        return sum(part.nbytes for part in self.keeps)

    def state(self) -> Any:
        """Return everything `load_state` needs: tensors, arrays, plain values."""
        return [part.state() for part in self.keeps]

    def load_state(self, tree: Any) -> None:
        """Take up a state saved by `state()`."""
        for part, saved in zip(self.keeps, tree, strict=True):
            part.load_state(saved)


SAMPLERS: dict[type[Request[Any]], list[type[Sampler[Any, Any]]]] = {}
"""Who serves a type of request; whoever defines a sampler is in here."""


class Samplers:
    """Serves every head's requests.

    needs: by head name. Raises ValueError on a kind that nobody serves from such a replay.
    """

    def __init__(self, needs: Mapping[str, Needs], rows: Rows) -> None:
        self._needs = needs
        asked = {request: name for name, need in needs.items() for request in need.requests}
        self._samplers = {request: _sampler(name, request, rows) for request, name in asked.items()}

    @property
    def nbytes(self) -> int:
        return sum(sampler.nbytes for sampler in self._samplers.values())

    @property
    def outside(self) -> list[str]:
        """Whose draws a CUDA graph cannot hold, see `Sampler`."""
        held = {request for request, sampler in self._samplers.items() if sampler.capturable}
        asked = ((name, request) for name, need in self._needs.items() for request in need.requests)
        return [f"{type(request).__name__} of aux.{name}" for name, request in asked if request not in held]

    def add(self, step: Stepped) -> None:
        """Take the window's newest step."""
        for sampler in self._samplers.values():
            sampler.add(step)

    def cut(self) -> None:
        """Drop every running episode, and what has left the window."""
        for sampler in self._samplers.values():
            sampler.cut()

    def draw(self, anchors: Anchors) -> dict[str, Pairs]:
        """Return what each head asked for, by its name."""
        last: dict[Request[Any], Any] = {}
        drawn = {}
        for name, need in self._needs.items():
            for request in need.requests:
                if not (request.shared and request in last):
                    last[request] = self._samplers[request].draw(anchors)
            drawn[name] = Pairs({request: last[request] for request in need.requests})
        return drawn

    def state(self) -> list[Any]:
        """Return the samplers' states, in the order in which heads ask."""
        return [sampler.state() for sampler in self._samplers.values()]

    def load_state(self, states: Sequence[Any]) -> None:
        """Take up `state()`. Raises ValueError if there were more or fewer requests."""
        for sampler, state in zip(self._samplers.values(), states, strict=True):
            sampler.load_state(state)


def _sampler(name: str, request: Request[Any], rows: Rows) -> Sampler[Any, Any]:
    kind = type(request)
    found = _serving(kind, rows)
    if found is None:
        for point in entry_points(group=GROUP):
            point.load()
        found = _serving(kind, rows)
    if found is None:
        others = ", ".join(sorted(other.__name__ for other in SAMPLERS if _serving(other, rows)))
        raise ValueError(f"aux.{name} asks for {kind.__name__}, which {rows.title} cannot give: it has {others}")
    try:
        return found(request, rows)
    except ValueError as error:
        raise ValueError(f"aux.{name}: {error}") from error


def _serving(kind: type[Request[Any]], rows: Rows) -> type[Sampler[Any, Any]] | None:
    return next((sampler for sampler in SAMPLERS.get(kind, []) if isinstance(rows, sampler.reads)), None)
