"""Return segments: consecutive steps of one environment that a return label keeps together (RCRL, Liu et al. 2021)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from .labels import ReturnLabels
from .pairs import Stepped
from .ring import Window
from .sending import sent
from .shared import SharedSpans
from .spans import Span, Spans, carve, draw_below
from .threshold import Threshold

OPEN = 2**62
"""Stop of a segment that has not closed."""


class Segments:
    """Segments of N environments, by number within their environment.

    The segments of an environment tile its time, so one table of first steps holds them all: k ends where k + 1 starts.
    A stored segment has at least one stored step, which bounds the table by the ring. Steps that left the ring are cut.
    """

    def __init__(self, labels: ReturnLabels, window: Window, device: torch.device) -> None:
        self._labels = labels
        self._window = window
        self._device = device
        self._room = window.steps + 2  # the stored ones, an empty open one, and the stop of that
        n = window.num_envs
        self._number = torch.zeros(window.steps * n, dtype=torch.int32, device=device)  # segment of each flat row
        self._host_start = np.zeros((n, self._room), np.int64)
        self._host_start[:, 1] = OPEN
        table = torch.from_numpy(self._host_start).view(-1)
        self._start = table if device.type == "cpu" else table.to(device)
        self._current = np.zeros(n, np.int64)  # number of the open segment
        self._opened = np.zeros(n, np.int64)  # its first step
        self._total = np.zeros(n, np.float64)  # absolute reward accumulated in it
        self._threshold = Threshold(labels, n)
        self._episode = np.zeros(n, np.int64)  # first segment of the running episode
        self._low = np.zeros(n, np.int64)  # first segment still stored
        self._dropped: list[Span] = []  # segments of episodes whose worker died
        self._shared = SharedSpans(window.shared, self._stored, n + 7)

    @property
    def nbytes(self) -> int:
        return self._number.nbytes + self._start.nbytes

    # Writing

    def add(self, step: Stepped) -> None:
        """Take the newest step of the window."""
        window, reward, ended, died = self._window, step.reward, step.ended, step.died
        newest = sent(self._current.astype(np.int32), self._device)
        self._number.view(window.steps, -1)[window.newest_slot].copy_(newest)
        self._total += np.abs(reward)
        closing = ended | self._full(reward)
        if closing.any():
            self._close(np.flatnonzero(closing))
        if ended.any():
            self._end_episodes(np.flatnonzero(ended), died)
        self._threshold.add(reward, ended, died)
        self._forget()

    def _full(self, reward: NDArray[Any]) -> NDArray[np.bool_]:
        labels, length = self._labels, self._window.head - self._opened
        full: NDArray[np.bool_] = reward != 0
        if labels.mode == "return_threshold":
            full = (self._total >= self._threshold.value) & (length >= self._threshold.least_length)
        return full if labels.max_length is None else full | (length >= labels.max_length)

    def _close(self, envs: NDArray[np.int64]) -> None:
        """Let the open segments of envs end before the window's head."""
        head = self._window.head
        self._current[envs] += 1
        self._opened[envs] = head
        self._total[envs] = 0.0
        self._write(envs, self._current[envs], head)
        self._write(envs, self._current[envs] + 1, OPEN)

    def _write(self, envs: NDArray[np.int64], numbers: NDArray[np.int64], value: int) -> None:
        slots = envs * self._room + numbers % self._room
        self._host_start.reshape(-1)[slots] = value
        if self._device.type != "cpu":
            self._start.index_fill_(0, sent(slots, self._device), value)

    def _end_episodes(self, envs: NDArray[np.int64], died: NDArray[np.bool_]) -> None:
        spans = ((e, int(self._episode[e]), int(self._current[e])) for e in envs.tolist() if died[e])
        self._dropped += [span for span in spans if span[1] < span[2]]
        self._episode[envs] = self._current[envs]

    def cut(self) -> None:
        """End every running episode here and drop it."""
        self._close(np.flatnonzero(self._opened < self._window.head))
        self._end_episodes(np.arange(self._window.num_envs), np.ones(self._window.num_envs, np.bool_))
        self._threshold.cut()
        self._forget()

    def _forget(self) -> None:
        """Move past segments that have no stored step left."""
        envs = np.arange(self._window.num_envs)
        while (gone := self._host_start[envs, (self._low + 1) % self._room] <= self._window.low).any():
            self._low += gone
        if self._dropped:
            self._dropped = [hole for hole in self._dropped if hole[2] > self._low[hole[0]]]

    # Reading

    def numbers(self, rows: Tensor, env: Tensor) -> Tensor:
        """Return the numbers `(B,)` int64 of the segments that hold flat rows, unlike ones over all environments."""
        return self._number.index_select(0, rows).long().mul_(self._window.num_envs).add_(env)

    def extent(self, rows: Tensor, env: Tensor) -> tuple[Tensor, Tensor]:
        """Return first and stop step, each `(B,)` int64, of what is stored of the segments that hold flat rows."""
        return self._clipped(self._number.index_select(0, rows).long(), env)

    def _clipped(self, number: Tensor, env: Tensor) -> tuple[Tensor, Tensor]:
        base = env * self._room
        first = self._start.index_select(0, number.remainder(self._room).add_(base))
        stop = self._start.index_select(0, (number + 1).remainder_(self._room).add_(base))
        low, head = self._window.ends
        return first.clamp_min_(low), stop.clamp_max_(head)

    def _stored(self) -> Spans:
        """Numbers of the segments that have a stored step."""
        stop = self._current + (self._opened < self._window.head)
        return Spans(carve(self._low, stop, self._dropped), self._device)

    def draw(self, count: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """Return steps and environments `(count,)`: a segment uniformly among those stored, then a step within it."""
        spans = self._shared if self._window.shared.read else self._stored()
        number, env = spans.draw(count, generator)
        first, end = self._clipped(number, env)
        return draw_below(end - first, generator).add_(first), env

    # State

    def state(self) -> dict[str, Any]:
        return {
            "number": self._number.clone(),
            "start": self._host_start.copy(),
            "current": self._current.copy(),
            "opened": self._opened.copy(),
            "total": self._total.copy(),
            "threshold": self._threshold.state(),
            "episode": self._episode.copy(),
            "low": self._low.copy(),
            "dropped": [list(hole) for hole in self._dropped],
        }

    def load_state(self, tree: Mapping[str, Any]) -> None:
        self._number.copy_(tree["number"])
        self._host_start[:] = tree["start"]
        self._start.copy_(torch.from_numpy(self._host_start).view(-1))
        self._current = np.array(tree["current"], np.int64)
        self._opened = np.array(tree["opened"], np.int64)
        self._total = np.array(tree["total"], np.float64)
        self._threshold.load_state(tree["threshold"])
        self._episode = np.array(tree["episode"], np.int64)
        self._low = np.array(tree["low"], np.int64)
        self._dropped = [(int(env), int(first), int(stop)) for env, first, stop in tree["dropped"]]
