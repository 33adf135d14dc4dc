"""Pairs of windows of transitions within episodes (TCL, Wang et al. 2021, arXiv 2103.06386)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from ..batch import Transitions
from ..episodes import Episodes
from ..pairs import Anchors, Request, Sampler, Stepped, Viewing
from ..reader import Rows, Steps, TaskRows
from .seen_at import seen_at

LANE = 2**40
"""Position of step t of environment e among `Episodes`: e * LANE + t."""
WINDOW_ROWS = 16
"""Pairs of windows drawn where nobody says how many, or the batch's rows if these are fewer."""


@dataclass(frozen=True)
class Windows:
    """R pairs of windows, see `WindowSpec`.

    valid `(R,)` bool: the row could be drawn; where not, its content means nothing.
    group `(R,)` int64: whom a row must not repel, because it comes from the same source: the task where there are
        several, else the episode.
    """

    first: Transitions
    second: Transitions
    valid: Tensor
    group: Tensor


@dataclass(frozen=True)
class WindowSpec(Request[Windows]):
    """Asks for two windows of transitions per row (TCL, Wang et al. 2021, arXiv 2103.06386).

    length: transitions in each, W.
    rows: how many pairs of windows; None = 16, or the batch's rows if these are fewer. Not read where there are many
        tasks: there each one of the meta-batch has a pair.
    positives: both windows from one trajectory, or from two drawn independently of the same task.
    ordered: W transitions in a row; false: W independent draws from the trajectory (`same_task`: from all of them).
    disjoint: the two share no transition (needs 2 W in the trajectory); only for ordered ones of one trajectory.
    next_obs: whether the transitions have theirs.
    Raises ValueError on lengths below 1, fewer than 2 rows, and disjoint windows of any other kind.
    """

    length: int
    rows: int | None = None
    positives: Literal["same_trajectory", "same_task"] = "same_trajectory"
    ordered: bool = True
    disjoint: bool = True
    next_obs: bool = True

    def __post_init__(self) -> None:
        if self.length < 1 or (self.rows is not None and self.rows < 2):
            raise ValueError(f"windows need a length of at least 1 and 2 rows, got {self.length} and {self.rows}")
        if self.disjoint and not (self.ordered and self.positives == "same_trajectory"):
            raise ValueError(
                "disjoint windows are ordered ones of one trajectory: set disjoint=false with ordered=false or "
                "positives of the same task"
            )

    @property
    def least_episode(self) -> int:
        """Transitions an episode must have for windows to be drawn from it (one suffices for unordered ones of a
        task)."""
        if self.ordered or self.positives == "same_trajectory":
            return 2 * self.length if self.disjoint else self.length
        return 1

    def viewed(self, found: Windows, view: Viewing) -> Windows:
        return replace(found, first=found.first.viewed(view), second=found.second.viewed(view))

    def draw(self, episodes: Episodes, groups: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Return positions `(2, R, W)` in episodes of each of `groups` `(R,)`, and which rows could be drawn."""
        same = self.positives == "same_trajectory"
        return episodes.windows(groups, self.length, generator, disjoint=self.disjoint, ordered=self.ordered, same=same)


class WindowSampler(Sampler[WindowSpec, Windows], serves=WindowSpec):
    """Knows which stored steps form episodes, and draws windows from them.

    Running episodes count with what has been seen of them, those that have partly left the window with the rest;
    dropped ones do not.
    """

    rows: Steps

    def __init__(self, request: WindowSpec, rows: Steps) -> None:
        if request.positives == "same_task":
            raise ValueError("windows of the same task need several tasks; take same_trajectory")
        super().__init__(request, rows)
        self._first = np.zeros(rows.window.num_envs, np.int64)  # first step of the running episodes
        self._ended = np.zeros((3, 0), np.int64)  # environment, first and stop of the others, in the order of their end
        self._episodes: Episodes | None = None

    @property
    def nbytes(self) -> int:
        return self._ended.nbytes

    def add(self, step: Stepped) -> None:
        if step.ended.any():
            self._end(np.flatnonzero(step.ended & ~step.died))
            self._first[step.ended] = self.rows.window.head
        self._episodes = None

    def _end(self, envs: NDArray[np.int64]) -> None:
        window = self.rows.window
        stop = np.full_like(envs, window.head)
        stored = self._ended[:, np.searchsorted(self._ended[2], window.low, side="right") :]
        self._ended = np.concatenate([stored, np.stack([envs, self._first[envs], stop])], 1)

    def cut(self) -> None:
        self._first[:] = self.rows.window.head
        self._episodes = None

    def draw(self, anchors: Anchors) -> Windows:
        """Draw pairs of windows, each of an episode drawn for itself (see `Episodes.windows`)."""
        if self._episodes is None:
            self._episodes = self._tabulate()
        rows, spec = self.rows, self.request
        groups = torch.zeros(spec.rows or min(len(anchors.rows), WINDOW_ROWS), dtype=torch.int64, device=rows.home)
        positions, valid = spec.draw(self._episodes, groups, anchors.generator)
        flat = rows.window.rows(positions.remainder(LANE), positions.div(LANE, rounding_mode="floor"))
        first, second = (transitions(rows, part, next_obs=spec.next_obs) for part in flat)
        return Windows(first, second, rows.send(valid), seen_at(rows, flat[0, :, 0]).episode)

    def _tabulate(self) -> Episodes:
        """All episodes in one group: whom a row is drawn from is left to chance."""
        window = self.rows.window
        running = np.stack([np.arange(window.num_envs), self._first, np.full_like(self._first, window.head)])
        env, first, stop = np.concatenate([self._ended, running], 1)
        first = np.maximum(first, window.low)
        return Episodes(np.zeros_like(env), env * LANE + first, np.maximum(stop - first, 0), self.rows.home)

    def state(self) -> dict[str, Any]:
        return {"first": self._first.copy(), "ended": self._ended.copy()}

    def load_state(self, tree: Mapping[str, Any]) -> None:
        self._first = np.array(tree["first"], np.int64)
        self._ended = np.array(tree["ended"], np.int64)
        self._episodes = None


class TaskWindowSampler(Sampler[WindowSpec, Windows], serves=WindowSpec, reads=TaskRows):
    """Draws windows from recent episodes of the meta-batch's tasks, a pair from each."""

    rows: TaskRows

    def draw(self, anchors: Anchors) -> Windows:
        rows, spec = self.rows, self.request
        positions, valid = spec.draw(rows.recent(), anchors.tasks, anchors.generator)
        flat = rows.window.rows(positions, 0)
        first, second = (transitions(rows, part, next_obs=spec.next_obs) for part in flat)
        return Windows(first, second, valid, anchors.tasks)


def transitions(rows: Rows, places: Tensor, *, next_obs: bool = True) -> Transitions:
    """Read what is stored in flat rows `(R, W)`."""
    flat, shape = places.reshape(-1), places.shape
    obs = rows.stacks(flat).unflatten(0, shape)
    return Transitions(
        obs=obs,
        action=rows.action(flat).unflatten(0, shape),
        reward=rows.send(rows.take("reward", flat)).unflatten(0, shape),
        next_obs=rows.stacks(flat, shift=1).unflatten(0, shape) if next_obs else obs[..., :0],
    )
