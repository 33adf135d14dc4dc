"""Replay of many tasks: whole episodes in one ring, drawn task by task (PEARL: Rakelly et al. 2019, arXiv
1903.08254)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rlrep.contract.meta import Trajectory

from .batch import Batch, Extra, Needs, Transitions, Windows, WindowSpec
from .episodes import Episodes
from .generators import restore
from .ring import Layout, Ring

Array = NDArray[Any]
Draw = Literal["transitions", "window"]


@dataclass(frozen=True)
class TaskSpec:
    """Layout. capacity: transitions of all tasks together; the oldest episodes give way, whatever their task.

    context_size: transitions in the context of a task, drawn one by one or in a row (`draw`: a `window` goes on in
        another episode where one is shorter); 0 = none.
    reward_scale: factor of the rewards of the RL batch; those of contexts stay as they are.
    """

    obs_dim: int
    action_dim: int
    tasks: int
    capacity: int
    discount: float
    context_size: int
    draw: Draw = "transitions"
    reward_scale: float = 1.0

    def layout(self) -> Layout:
        """Columns, one row per transition."""
        number = ((), torch.float32)
        return {
            "obs": ((self.obs_dim,), torch.float32),
            "action": ((self.action_dim,), torch.float32),
            "reward": number,
            "context_reward": number,
            "next_obs": ((self.obs_dim,), torch.float32),
            "terminated": ((), torch.bool),
        }


class TaskReplay:
    """Episodes of every task, and which of them are recent enough to be context.

    rings: the transitions, saved and restored apart from `state()` (restored first).
    Raises ValueError if a head needs more than windows.
    """

    def __init__(
        self, spec: TaskSpec, *, device: torch.device, seed: int, needs: Mapping[str, Needs] | None = None
    ) -> None:
        self.spec, self.device = spec, device
        self._windows = {name: _only_windows(name, need) for name, need in (needs or {}).items()}
        self._ring = Ring(spec.capacity, spec.layout(), device=device)
        self.rings = {"transitions": self._ring}
        self._generator = torch.Generator(device).manual_seed(seed)
        self._table = np.zeros((0, 4), np.int64)  # task, first row, length, whether context
        self._all: Episodes | None = None
        self._recent: Episodes | None = None
        self._able: Tensor | None = None

    def add(self, task: int, trajectory: Trajectory, *, context: bool) -> None:
        """Store an episode. Raises ValueError if it is longer than the replay or has no steps."""
        count = len(trajectory)
        if not 0 < count <= self.spec.capacity:
            raise ValueError(f"an episode of {count} steps does not fit a replay of {self.spec.capacity} transitions")
        first = self._ring.written
        self._ring.append(_rows(trajectory))
        self._table = np.concatenate([self._table, [[task, first, count, context]]])
        self._table = self._table[self._table[:, 1] >= self._ring.oldest]
        self._all = self._recent = self._able = None

    def forget_context(self, task: int) -> None:
        """Let none of the task's episodes so far be context any more."""
        self._table[self._table[:, 0] == task, 3] = 0
        self._recent = self._able = None

    def __len__(self) -> int:
        """Transitions that can be drawn."""
        return int(self._table[:, 2].sum())

    def counts(self) -> NDArray[np.int64]:
        """Transitions of each task `(tasks,)`."""
        return np.bincount(self._table[:, 0], self._table[:, 2], self.spec.tasks).astype(np.int64)

    def sample(self, tasks: Tensor, batch_size: int) -> Batch:
        """Return `batch_size` transitions of each of the T `tasks`, uniform over all that is stored of it, task after
        task, with contexts and what heads need from recent episodes.

        tasks: `(T,)` int64, all of them `able`.
        """
        rows = self._every().transitions(tasks, batch_size, self._generator).reshape(-1)
        return Batch(
            obs=self._take("obs", rows),
            action=self._take("action", rows),
            reward=self.spec.reward_scale * self._take("reward", rows),
            discount=self.spec.discount * ~self._take("terminated", rows),
            next_obs=self._take("next_obs", rows),
            extra={name: Extra(windows=self._pairs(tasks, spec)) for name, spec in self._windows.items()},
            tasks=tasks,
            context=self.context(tasks) if self.spec.context_size else None,
        )

    def context(self, tasks: Tensor, *, size: int | None = None) -> Transitions:
        """Return `size` (default: the spec's) recent transitions of each task `(T,)`, as `(T, size, ...)`."""
        recent, count = self._latest(), size or self.spec.context_size
        draw = recent.transitions if self.spec.draw == "transitions" else recent.runs
        return self._transitions(draw(tasks, count, self._generator))

    def able(self) -> Tensor:
        """Return the tasks `(K,)`, in order, of which everything can be drawn: transitions, and a context if asked
        for."""
        if self._able is None:
            enough = self._table[:, 3] == 1 if self.spec.context_size else np.s_[:]
            self._able = torch.from_numpy(np.unique(self._table[enough, 0])).to(self.device)
        return self._able

    def has_context(self, task: int) -> bool:
        """Whether the task has an episode from which a context can be drawn."""
        return bool((self.able() == task).any())

    def _pairs(self, tasks: Tensor, spec: WindowSpec) -> Windows:
        same = spec.positives == "same_trajectory"
        rows, valid = self._latest().windows(
            tasks,
            spec.length,
            self._generator,
            disjoint=spec.disjoint,
            ordered=spec.ordered,
            same=same,
        )
        return Windows(self._transitions(rows[0]), self._transitions(rows[1]), valid, tasks)

    def _transitions(self, rows: Tensor) -> Transitions:
        """Read rows `(R, W)`."""
        flat = rows.reshape(-1)
        names = {"obs": "obs", "action": "action", "reward": "context_reward", "next_obs": "next_obs"}
        return Transitions(**{key: self._take(name, flat).unflatten(0, rows.shape) for key, name in names.items()})

    def _take(self, name: str, rows: Tensor) -> Tensor:
        return self._ring.columns[name].index_select(0, rows.remainder(self.spec.capacity))

    def _every(self) -> Episodes:
        if self._all is None:
            self._all = self._episodes(self._table)
        return self._all

    def _latest(self) -> Episodes:
        if self._recent is None:
            self._recent = self._episodes(self._table[self._table[:, 3] == 1])
        return self._recent

    def _episodes(self, table: NDArray[np.int64]) -> Episodes:
        return Episodes(table[:, 0], table[:, 1], table[:, 2], self.device)

    def describe(self) -> str:
        """Return one line saying where the replay lives and how large it is when full."""
        place = "main memory" if self.device.type == "cpu" else f"GPU memory ({self.device})"
        return (
            f"replay: {self.spec.capacity:,} transitions of {self.spec.tasks} tasks in {place}, "
            f"{self._ring.nbytes:,} bytes when full"
        )

    def state(self) -> dict[str, Any]:
        """Return everything but the ring's rows."""
        return {"table": self._table.copy(), "generator": self._generator.get_state()}

    def load_state(self, tree: Mapping[str, Any]) -> None:
        """Take up a state saved by `state()`. The ring must have been restored before."""
        self._table = np.array(tree["table"], np.int64).reshape(-1, 4)
        self._all = self._recent = self._able = None
        restore(self._generator, tree["generator"])


def _rows(trajectory: Trajectory) -> dict[str, Tensor]:
    terminated = np.zeros(len(trajectory), np.bool_)
    terminated[-1] = trajectory.terminated
    rows = {
        "obs": trajectory.obs[:-1],
        "action": trajectory.action,
        "reward": trajectory.reward,
        "context_reward": trajectory.context_reward,
        "next_obs": trajectory.obs[1:],
        "terminated": terminated,
    }
    return {name: torch.from_numpy(np.ascontiguousarray(rows_)) for name, rows_ in rows.items()}


def _only_windows(name: str, need: Needs) -> WindowSpec:
    if need.windows is None or need != Needs(windows=need.windows, view=need.view):
        raise ValueError(f"aux.{name} needs more than windows of transitions, which is all that a task's replay has")
    return need.windows
