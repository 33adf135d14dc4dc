"""Windows of transitions within the stored episodes of one task's replay."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from .batch import Transitions, Windows, WindowSpec
from .episodes import Episodes
from .reader import Rows

LANE = 2**40
"""Position of step t of environment e among `Episodes`: e * LANE + t."""


class WindowSampler:
    """Knows which stored steps form episodes, and draws windows from them.

    Running episodes count with what has been seen of them, those that have partly left the window with the rest;
    dropped ones do not.
    """

    def __init__(self, reader: Rows) -> None:
        self._reader = reader
        self._first = np.zeros(reader.window.num_envs, np.int64)  # first step of the running episodes
        self._ended = np.zeros((3, 0), np.int64)  # environment, first and stop of the others, in the order of their end
        self._episodes: Episodes | None = None

    @property
    def nbytes(self) -> int:
        return self._ended.nbytes

    def add(self, ended: NDArray[np.bool_], died: NDArray[np.bool_]) -> None:
        """Take the window's newest step; each `(N,)`."""
        if ended.any():
            self._end(np.flatnonzero(ended & ~died))
            self._first[ended] = self._reader.window.head
        self._episodes = None

    def _end(self, envs: NDArray[np.int64]) -> None:
        window = self._reader.window
        stop = np.full_like(envs, window.head)
        stored = self._ended[:, np.searchsorted(self._ended[2], window.low, side="right") :]
        self._ended = np.concatenate([stored, np.stack([envs, self._first[envs], stop])], 1)

    def cut(self) -> None:
        """Drop every running episode."""
        self._first[:] = self._reader.window.head
        self._episodes = None

    def draw(self, spec: WindowSpec, rows: int, generator: Generator) -> Windows:
        """Draw `rows` pairs of windows, each of an episode drawn for itself (see `Episodes.windows`)."""
        if self._episodes is None:
            self._episodes = self._tabulate()
        groups = torch.zeros(rows, dtype=torch.int64, device=self._reader.home)
        positions, valid = self._episodes.windows(
            groups, spec.length, generator, disjoint=spec.disjoint, ordered=spec.ordered, same=True
        )
        flat = self._reader.window.rows(positions.remainder(LANE), positions.div(LANE, rounding_mode="floor"))
        first, second = (self._read(part, next_obs=spec.next_obs) for part in flat)
        return Windows(first, second, self._reader.send(valid), self._reader.time(flat[0, :, 0]).episode)

    def _tabulate(self) -> Episodes:
        """All episodes in one group: whom a row is drawn from is left to chance."""
        window = self._reader.window
        running = np.stack([np.arange(window.num_envs), self._first, np.full_like(self._first, window.head)])
        env, first, stop = np.concatenate([self._ended, running], 1)
        first = np.maximum(first, window.low)
        return Episodes(np.zeros_like(env), env * LANE + first, np.maximum(stop - first, 0), self._reader.home)

    def _read(self, rows: Tensor, *, next_obs: bool) -> Transitions:
        """Read flat rows `(R, W)`."""
        reader, flat = self._reader, rows.reshape(-1)
        obs = reader.stacks(flat).unflatten(0, rows.shape)
        return Transitions(
            obs=obs,
            action=reader.action(flat).unflatten(0, rows.shape),
            reward=reader.send(reader.take("reward", flat)).unflatten(0, rows.shape),
            next_obs=reader.stacks(flat, shift=1).unflatten(0, rows.shape) if next_obs else obs[..., :0],
        )

    def state(self) -> dict[str, Any]:
        return {"first": self._first.copy(), "ended": self._ended.copy()}

    def load_state(self, tree: dict[str, Any]) -> None:
        self._first = np.array(tree["first"], np.int64)
        self._ended = np.array(tree["ended"], np.int64)
        self._episodes = None
