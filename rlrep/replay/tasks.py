"""Replay of many tasks: whole episodes in one ring, drawn task by task (PEARL: Rakelly et al. 2019, arXiv
1903.08254)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rlrep.contract.meta import Trajectory

from .batch import Batch, Transitions
from .episodes import Episodes
from .generators import restore
from .kinds.windows import transitions
from .pairs import Anchors, Needs, Samplers
from .reader import TaskRows
from .ring import Layout, Ring, Window

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


class StoredEpisodes(TaskRows):
    """The ring of a `TaskReplay`. recent: returns the episodes that are recent enough to be context, by task."""

    def __init__(self, ring: Ring, recent: Callable[[], Episodes]) -> None:
        columns = ring.columns
        flat = {"action": columns["action"], "reward": columns["context_reward"]}
        window, device = Window(ring.capacity, num_envs=1), columns["obs"].device
        super().__init__(window, flat, device=device, staged=False)
        self._obs, self._latest = (columns["obs"], columns["next_obs"]), recent

    def follow(self, ring: Ring) -> None:
        """Take note of what has been stored."""
        self.window.low, self.window.head = ring.oldest, ring.written

    def stacks(self, rows: Tensor, *, shift: int = 0) -> Tensor:
        return self._gather(self._obs[shift], rows)

    def recent(self) -> Episodes:
        return self._latest()


class TaskReplay:
    """Episodes of every task, and which of them are recent enough to be context.

    rings: the transitions, saved and restored apart from `state()` (restored first).
    stream: of every random number of its draws. outside: what keeps these out of a CUDA graph, in words.
    Raises ValueError if a head needs what nobody draws from such a replay.
    """

    def __init__(
        self, spec: TaskSpec, *, device: torch.device, seed: int, needs: Mapping[str, Needs] | None = None
    ) -> None:
        self.spec, self.device = spec, device
        self._ring = Ring(spec.capacity, spec.layout(), device=device)
        self._rows = StoredEpisodes(self._ring, self._latest)
        self.needs = dict(needs or {})
        self._samplers = Samplers(self.needs, self._rows)
        self.rings = {"transitions": self._ring}
        self.shared, self.outside = self._rows.window.shared, ["a replay of tasks"]
        self.stream = torch.Generator(device).manual_seed(seed)
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
        self._rows.follow(self._ring)
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
        step = self._every().transitions(tasks, batch_size, self.stream).reshape(-1)
        env = torch.zeros_like(step)
        rows = self._rows.window.rows(step, env)
        obs = self._take("obs", rows)
        return Batch(
            obs=obs,
            action=self._take("action", rows),
            reward=self.spec.reward_scale * self._take("reward", rows),
            discount=self.spec.discount * ~self._take("terminated", rows),
            next_obs=self._take("next_obs", rows),
            pairs=self._samplers.draw(Anchors(obs, rows, step, env, self.stream, tasks)),
            tasks=tasks,
            context=self.context(tasks) if self.spec.context_size else None,
        )

    def context(self, tasks: Tensor, *, size: int | None = None) -> Transitions:
        """Return `size` (default: the spec's) recent transitions of each task `(T,)`, as `(T, size, ...)`."""
        recent, count = self._latest(), size or self.spec.context_size
        draw = recent.transitions if self.spec.draw == "transitions" else recent.runs
        return transitions(self._rows, self._rows.window.rows(draw(tasks, count, self.stream), 0))

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

    def _take(self, name: str, rows: Tensor) -> Tensor:
        return self._ring.columns[name].index_select(0, rows)

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
        return {
            "table": self._table.copy(),
            "generator": self.stream.get_state(),
            "samplers": self._samplers.state(),
        }

    def load_state(self, tree: Mapping[str, Any]) -> None:
        """Take up a state saved by `state()`. The ring must have been restored before."""
        self._table = np.array(tree["table"], np.int64).reshape(-1, 4)
        self._all = self._recent = self._able = None
        self._rows.follow(self._ring)
        self._samplers.load_state(tree["samplers"])
        restore(self.stream, tree["generator"])


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
