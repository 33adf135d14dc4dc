"""Returns of finished episodes' transitions, their bins, and the groups of transitions that share a bin."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from .labels import UNKNOWN, ReturnLabels
from .pairs import Stepped
from .ring import Window
from .spans import draw_below

REFRESH_SHARE = 16
"""Edges are renewed when 1/16 of the known transitions are new; groups leave out the oldest 1/16, which expire next."""


class ReturnBins:
    """Return of every stored transition (NaN while it is not known) and the bins over the known ones.

    Returns become known when the episode ends. After a termination nothing more is earned; where a time limit cut the
    episode off, the last `horizon - 1` steps do not see their whole horizon, and stay unknown.

    reward: the flat reward column `(rows,)` of the replay, on whose device everything stays.
    grouped: also keep the members of every bin, to draw partners from.
    """

    def __init__(self, labels: ReturnLabels, window: Window, reward: Tensor, *, grouped: bool) -> None:
        self._labels = labels
        self._window = window
        self._reward = reward
        self._return = torch.full_like(reward, torch.nan)
        self._edges = reward.new_full((labels.bins - 1,), torch.inf)
        self._groups = Groups(window, labels.bins, reward.device) if grouped else None
        self._episode = np.zeros(window.num_envs, np.int64)  # first step of the running episode
        self._fresh = 0  # transitions whose return became known after the last refresh
        self._known = 0  # transitions known at the last refresh

    @property
    def nbytes(self) -> int:
        return self._return.nbytes + (self._groups.nbytes if self._groups else 0)

    @property
    def groups(self) -> "Groups":
        assert self._groups is not None, "bins were made without groups"
        return self._groups

    # Writing

    def add(self, step: Stepped) -> None:
        """Take the newest step of the window. The returns of a dead worker's episode stay unknown."""
        ended = step.ended
        self._return.view(self._window.steps, -1)[self._window.newest_slot].fill_(torch.nan)
        if ended.any():
            for env in np.flatnonzero(ended & ~step.died).tolist():
                unseen = 0 if step.terminated[env] or self._labels.horizon is None else self._labels.horizon - 1
                self._fill(env, self._window.head - unseen)
            self._episode[ended] = self._window.head
        stale = self._groups is not None and self._groups.expired()
        if stale or (ended.any() and self._fresh * REFRESH_SHARE >= self._known and self._fresh > 0):
            self._refresh()

    def cut(self) -> None:
        """Forget the running episodes; their returns stay unknown."""
        self._episode[:] = self._window.head
        if self._groups is not None and self._groups.expired():
            self._refresh()

    def _fill(self, env: int, stop: int) -> None:
        """Write the returns of the steps before `stop` of the episode of env that has just ended."""
        window, labels = self._window, self._labels
        first = max(int(self._episode[env]), window.low)
        rows = window.rows(torch.arange(first, window.head, device=self._reward.device), env)
        known = max(0, stop - first)
        self._return[rows[:known]] = discounted_returns(self._reward[rows], labels.discount, labels.horizon)[:known]
        self._fresh += known

    def _refresh(self) -> None:
        """Recompute the edges (and groups) from what is stored: one host synchronisation, once per 1/16 of the data."""
        window = self._window
        low = window.low if self._groups is None else self._groups.horizon()
        step = torch.arange(low, window.head, device=self._reward.device)
        rows = window.rows(step[:, None], torch.arange(window.num_envs, device=step.device)).view(-1)
        rows = rows[~self._return[rows].isnan()]
        values, order = self._return[rows].sort(stable=True)
        self._known, self._fresh = len(values), 0
        self._edges.copy_(bin_edges(values, self._labels))
        if self._groups is not None:
            self._groups.fill(rows[order], torch.searchsorted(values, self._edges), low)

    # Reading

    def of(self, rows: Tensor) -> Tensor:
        """Return the bins `(B,)` int64 of flat rows, `UNKNOWN` where the return is not known."""
        values = self._return.index_select(0, rows)
        bins = torch.searchsorted(self._edges, values, right=True)
        return torch.where(values.isnan(), UNKNOWN, bins)

    # State

    def state(self) -> dict[str, Any]:
        return {
            "return": self._return.clone(),
            "edges": self._edges.clone(),
            "episode": self._episode.copy(),
            "fresh": self._fresh,
            "known": self._known,
            "groups": None if self._groups is None else self._groups.state(),
        }

    def load_state(self, tree: Mapping[str, Any]) -> None:
        self._return.copy_(tree["return"])
        self._edges.copy_(tree["edges"])
        self._episode = np.array(tree["episode"], np.int64)
        self._fresh, self._known = int(tree["fresh"]), int(tree["known"])
        if self._groups is not None:
            self._groups.load_state(tree["groups"])


class Groups:
    """Flat rows of finished transitions sorted by return, cut into bins. Never holds a row that has left the window."""

    def __init__(self, window: Window, bins: int, device: torch.device) -> None:
        rows = window.steps * window.num_envs
        self._window = window
        self._low = 0  # first step that may be a member
        self._order = torch.zeros(rows, dtype=torch.int32, device=device)
        self._rank = torch.full((rows,), -1, dtype=torch.int32, device=device)  # place of each flat row in the order
        self._offset = torch.zeros(bins + 1, dtype=torch.int64, device=device)
        self._occupied = torch.zeros(0, dtype=torch.int64, device=device)

    @property
    def nbytes(self) -> int:
        return self._order.nbytes + self._rank.nbytes

    @property
    def empty(self) -> bool:
        return len(self._occupied) == 0

    def expired(self) -> bool:
        """Whether a member may have left the window."""
        return self._window.low > self._low

    def horizon(self) -> int:
        """First step to admit now, so that members outlive some further steps."""
        window = self._window
        return 0 if window.low == 0 else window.low + max(1, (window.head - window.low) // REFRESH_SHARE)

    def fill(self, rows: Tensor, edges_at: Tensor, low: int) -> None:
        """Set the members: rows sorted by return, and where among them the inner edges fall."""
        self._low = low
        self._order[: len(rows)] = rows.int()
        self._offset[1:-1] = edges_at
        self._offset[-1] = len(rows)
        self._index(len(rows))

    def _index(self, count: int) -> None:
        members = self._order[:count].long()
        self._rank.fill_(-1)
        self._rank[members] = torch.arange(count, dtype=torch.int32, device=members.device)
        self._occupied = self._offset.diff().nonzero().squeeze(1)

    def draw(self, count: int, generator: Generator) -> Tensor:
        """Return flat rows `(count,)`: a bin uniformly among the occupied ones, then a member uniformly."""
        pick = torch.randint(len(self._occupied), (count,), generator=generator, device=self._order.device)
        first = self._offset[self._occupied[pick]]
        size = self._offset[self._occupied[pick] + 1] - first
        return self._order.index_select(0, draw_below(size, generator).add_(first)).long()

    def partners(self, rows: Tensor, bins: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Return for each flat row another member of its bin (itself if none), and the bin's size, each `(B,)`."""
        known = bins != UNKNOWN
        bins = bins.clamp_min(0)
        first = self._offset[bins]
        size = self._offset[bins + 1] - first
        rank = self._rank.index_select(0, rows).long()
        others = torch.where(known, size - (rank >= 0).long(), 0)
        place = draw_below(others.clamp_min(1), generator).add_(first)
        place += (rank >= 0) & (place >= rank)  # skips the row itself
        found = self._order.index_select(0, place.clamp_max_(len(self._order) - 1)).long()
        return torch.where(others > 0, found, rows), torch.where(known, size.clamp_min(1), 1)

    def state(self) -> dict[str, Any]:
        count = int(self._offset[-1])
        return {"order": self._order[:count].clone(), "offset": self._offset.clone(), "low": self._low}

    def load_state(self, tree: Mapping[str, Any]) -> None:
        self._low = int(tree["low"])
        self._order[: len(tree["order"])] = tree["order"].to(self._order.device)
        self._offset.copy_(tree["offset"])
        self._index(len(tree["order"]))


def discounted_returns(reward: Tensor, discount: float, horizon: int | None = None) -> Tensor:
    """Return G_t = sum over k < horizon of discount**k * reward_(t+k), `(L,)`; None = to the end, after which all is 0.

    In float64, from sums over 1, 2, 4, ... steps, of which the binary digits of the horizon say which to add: windows
    of equal rewards get equal sums, bit for bit, and so one bin.
    """
    part = reward.double()
    total, seen, reach = torch.zeros_like(part), 0, 1
    steps = len(part) if horizon is None else horizon
    while seen < steps:
        if steps & reach:
            total = total + discount**seen * _later(part, seen)
            seen += reach
        part = part + discount**reach * _later(part, reach)
        reach *= 2
    return total.to(reward.dtype)


def _later(values: Tensor, steps: int) -> Tensor:
    """Return at t what was at t + steps, 0 beyond the end."""
    return torch.nn.functional.pad(values[steps:], (0, min(steps, len(values))))


def bin_edges(values: Tensor, labels: ReturnLabels) -> Tensor:
    """Return the bins - 1 inner edges over sorted values `(n,)` (inf if n = 0); a value on an edge is above it."""
    inner = torch.arange(1, labels.bins, device=values.device)
    if len(values) == 0:
        return values.new_full((len(inner),), torch.inf)
    if labels.binning == "quantile":
        return values[inner * len(values) // labels.bins]
    return values[0] + (values[-1] - values[0]) * inner / labels.bins
