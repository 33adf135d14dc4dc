"""Reading a replay's rings by flat row, on the device that holds them, and handing over to the one that trains."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from .episodes import Episodes
from .ring import Ring, Window
from .spec import ReplaySpec


class Rows(ABC):
    """Stored transitions by flat row (see `Window`), wherever their observations are.

    title: for messages. flat: by column, `(rows, ...)`: at least `action` and `reward`.
    device: where what `send`, `action` and `stacks` return goes; staged: the columns are not there.
    """

    title: ClassVar[str]

    def __init__(self, window: Window, flat: Mapping[str, Tensor], *, device: torch.device, staged: bool) -> None:
        self.window, self.flat = window, dict(flat)
        self._device, self._staged = device, staged

    @property
    def home(self) -> torch.device:
        """Where the columns are."""
        return self.flat["reward"].device

    @abstractmethod
    def stacks(self, rows: Tensor, *, shift: int = 0) -> Tensor:
        """Return observations `(B, ...)` uint8 or float32 of the given rows; shift=1: those that followed."""

    def action(self, rows: Tensor) -> Tensor:
        """Return the actions `(B, ...)` of the given rows."""
        return self.send(self.take("action", rows))

    def take(self, name: str, rows: Tensor) -> Tensor:
        """Return a column's values of the given rows, where the rings are."""
        return self._gather(self.flat[name], rows)

    def send(self, tensor: Tensor) -> Tensor:
        """Return a tensor on the training device."""
        return tensor.to(self._device, non_blocking=True) if self._staged else tensor

    def _gather(self, column: Tensor, rows: Tensor) -> Tensor:
        if not self._staged:
            return column.index_select(0, rows)
        out = torch.empty((len(rows), *column.shape[1:]), dtype=column.dtype, pin_memory=True)
        return torch.index_select(column, 0, rows, out=out)


class TaskRows(Rows):
    """Whole episodes of many tasks, one after another, as of one environment."""

    title = "a replay of tasks"

    @abstractmethod
    def recent(self) -> Episodes:
        """Return the episodes, by task, that are recent enough to be context."""


class Steps(Rows):
    """What was stored step by step, of N environments. flat: also `first`, the first step of the episode."""

    title = "a replay of one task"

    def ahead(self, step: Tensor, env: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Return rows and flags `(B, count)` of the steps from the given ones on: they exist, in the same episode.

        The first always does. The given steps must not lie in an episode that was dropped.
        """
        steps = step[:, None] + torch.arange(count, device=step.device)
        rows = self.window.rows(steps, env[:, None])
        first = self.flat["first"][rows]
        return rows, (first == first[:, :1]) & (steps < self.window.ends[1])


class Reader(Steps):
    """The rings of a `Replay`, which holds every frame once."""

    def __init__(
        self, spec: ReplaySpec, frames: Ring, steps: Ring, window: Window, *, device: torch.device, staged: bool
    ) -> None:
        flat = {name: column.flatten(0, 1) for name, column in steps.columns.items()}
        super().__init__(window, flat, device=device, staged=staged)
        self._spec = spec
        self._frame = frames.columns["frame"].flatten(1)  # rows of bytes: index_select is 8x slower on 4 axes

    def stacks(self, rows: Tensor, *, shift: int = 0) -> Tensor:
        """Return observations `(B, S*C, ...)`, oldest frame first."""
        spec = self._spec
        slots = self.take("stack", rows)[:, shift : shift + spec.frame_stack].reshape(-1)
        frames = self._gather(self._frame, slots)
        return self.send(frames.view(len(rows), spec.frame_stack * spec.frame_shape[0], *spec.frame_shape[1:]))
