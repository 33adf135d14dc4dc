"""Reading a replay's rings by flat row, on the device that holds them, and handing over to the one that trains."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor

from .batch import Time
from .ring import Ring, Window
from .spec import ReplaySpec


class Rows(ABC):
    """Stored transitions by flat row (see `Window`), wherever their observations are.

    flat: by column, `(rows, ...)`: at least `action`, `reward`, and `first`, the first step of the episode.
    device: where what `send`, `action`, `stacks` and `time` return goes; staged: the columns are not there.
    """

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

    def time(self, rows: Tensor) -> Time:
        """Return when the given rows `(B,)` were seen."""
        envs = self.window.num_envs
        episode = self.take("first", rows).long() * envs + rows.remainder(envs)
        return Time(self.send(episode), self.send(self.window.steps_of(rows)))

    def ahead(self, step: Tensor, env: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Return rows and flags `(B, count)` of the steps from the given ones on: they exist, in the same episode.

        The first always does. The given steps must not lie in an episode that was dropped.
        """
        steps = step[:, None] + torch.arange(count, device=step.device)
        rows = self.window.rows(steps, env[:, None])
        first = self.flat["first"][rows]
        return rows, (first == first[:, :1]) & (steps < self.window.head)

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


class Reader(Rows):
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
