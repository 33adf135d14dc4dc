"""Draws of transitions and of windows of transitions from a table of stored episodes, by group (task)."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from .spans import draw_below

LAST = np.iinfo(np.int64).max
"""Group of the row that ends the table."""


class Episodes:
    """Episodes as ranges of positions, each of one group. Immutable: whoever stores episodes builds a new one.

    group, first, length `(E,)`: transition k of episode e is at position first[e] + k, below length[e]; positions
    below 0 are not used. Groups are any numbers but the largest int64. Draws are independent, need no host
    synchronisation, and take a generator on `device`; a group of theirs may appear several times.
    """

    def __init__(
        self, group: NDArray[np.int64], first: NDArray[np.int64], length: NDArray[np.int64], device: torch.device
    ) -> None:
        order = np.argsort(group, kind="stable")
        # A last, empty episode of no group, so that a look-up in vain finds something too.
        table = np.array([[LAST], [0], [0]]).repeat(len(order) + 1, 1)
        table[:, :-1] = group[order], first[order], length[order]
        self._group, self._first, self._length = torch.from_numpy(table).to(device)
        self._tables: dict[int, Tensor] = {}

    def counts(self, groups: Tensor) -> Tensor:
        """Return how many transitions each of groups `(T,)` has, `(T,)`."""
        low, high = self._extent(groups, 1)
        return high - low

    def transitions(self, groups: Tensor, count: int, generator: Generator) -> Tensor:
        """Return positions `(T, count)`, uniform over all transitions of each of groups `(T,)`; 0 where it has none."""
        episode, start, found = self._draw(groups, 1, count, generator)
        return torch.where(found[:, None], self._first[episode] + start, 0)

    def runs(self, groups: Tensor, count: int, generator: Generator) -> Tensor:
        """Return positions `(T, count)` of transitions in a row, of each of groups `(T,)`; 0 where it has none.

        Episodes are drawn in proportion to their lengths: a stretch of the first one if that is long enough, else all
        of it, and others after it from their beginnings, the last of them cut short.
        """
        episode, _, found = self._draw(groups, 1, count, generator)
        stored = self._length[episode]
        ends = stored.cumsum(1)
        places = torch.arange(count, device=ends.device).expand_as(ends).contiguous()
        number = torch.searchsorted(ends, places, right=True).clamp_max(count - 1)
        offset = places - (ends - stored).gather(1, number)
        start = draw_below((stored[:, :1] - count + 1).clamp_min(1), generator)
        positions = self._first[episode].gather(1, number) + offset + start * (number == 0)
        return torch.where(found[:, None], positions, 0)

    def windows(
        self,
        groups: Tensor,
        length: int,
        generator: Generator,
        *,
        disjoint: bool,
        ordered: bool,
        same: bool,
    ) -> tuple[Tensor, Tensor]:
        """Draw two windows of `length` = W transitions of episodes of each of groups `(T,)`.

        An episode is drawn in proportion to the places where a window (two disjoint ones in a row) can start in it,
        so one with fewer transitions never is.
        same: both from one episode; else each from one of its own.
        disjoint: the two of one episode share no transition; all such places are equally likely, either order too.
        ordered: W transitions in a row; else W independent draws from the episode, or, where the two need not be of one
            episode, from all transitions of the group.
        Returns positions `(2, T, W)` and `(T,)` bool, whether the group has such an episode (positions are 0 if
        not). Raises ValueError on a length below 1, and on disjoint windows that are not ordered or not of one episode.
        """
        if length < 1 or (disjoint and not (ordered and same)):
            raise ValueError(
                f"Windows need a length of at least 1, got {length}, and disjoint ones are ordered, of one episode, "
                f"got ordered={ordered}, same={same}."
            )
        if not (ordered or same):
            positions = torch.stack([self.transitions(groups, length, generator) for _ in range(2)])
            return positions, self.counts(groups) > 0
        episode, _, found = self._draw(groups, 2 * length if disjoint else length, 1 if same else 2, generator)
        episode = episode.expand(-1, 2)
        offset = self._offsets(self._length[episode], length, generator, disjoint=disjoint, ordered=ordered)
        positions = torch.where(found[:, None, None], self._first[episode][..., None] + offset, 0)
        return positions.transpose(0, 1), found

    def _offsets(self, stored: Tensor, length: int, generator: Generator, *, disjoint: bool, ordered: bool) -> Tensor:
        """Return what lies in windows of episodes with `stored` `(T, K)` transitions, `(T, K, W)`."""
        if not ordered:
            return draw_below(stored.clamp_min(1)[..., None].expand(-1, -1, length), generator)
        places = stored - (2 * length if disjoint else length) + 1
        start = draw_below(places.clamp_min(1), generator)
        if disjoint:
            start = _apart(start[:, 0], places[:, 0], length, generator)
        return start[..., None] + torch.arange(length, device=start.device)

    def _draw(self, groups: Tensor, span: int, count: int, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Draw from all stretches of `span` transitions within an episode of each group.

        Returns the numbers of their episodes and where they start in them, `(T, count)`, and whether a group has any.
        """
        ends = self._ends(span)
        low, high = self._extent(groups, span)
        pick = low[:, None] + draw_below((high - low).clamp_min(1)[:, None].expand(-1, count), generator)
        episode = (torch.searchsorted(ends, pick, right=True) - 1).clamp_max(len(self._group) - 1)
        return episode, pick - ends[episode], high > low

    def _extent(self, groups: Tensor, span: int) -> tuple[Tensor, Tensor]:
        """Return the first number of each group's stretches and the one after its last, `(T,)`."""
        ends = self._ends(span)
        rows = torch.searchsorted(self._group, groups), torch.searchsorted(self._group, groups, right=True)
        return ends[rows[0]], ends[rows[1]]

    def _ends(self, span: int) -> Tensor:
        """Stretches of `span` transitions in all episodes before each, and in all of them, `(E + 2,)`."""
        if span not in self._tables:
            places = (self._length - span + 1).clamp_min(0)
            self._tables[span] = torch.cat([places.new_zeros(1), places.cumsum(0)])
        return self._tables[span]


def _apart(first: Tensor, places: Tensor, length: int, generator: Generator) -> Tensor:
    """Return the starts `(T, 2)` of two disjoint windows, given one draw below `places` (where both in a row fit).

    Two ends a <= b below places stand for starts a and b + length. With b from places + 1 values, the last of them
    standing for b = a, each of the places * (places + 1) ordered pairs comes from one pair of draws.
    """
    second = draw_below((places + 1).clamp_min(1), generator)
    last = second == places
    later = (second < first) | last  # the first window is the one behind
    second = torch.where(last, first, second)
    return torch.stack([first + length * later, second + length * ~later], 1)
