"""What the heads ask for beside the RL batch: partners, later observations, return bins, times, noise."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from .batch import Extra, Later, Needs, Pairs, Windows, WindowSpec
from .pairs import PairSampler
from .reader import Rows
from .returns import ReturnBins
from .windows import WindowSampler

WINDOW_ROWS = 16
"""Pairs of windows drawn where nobody says how many, or the batch's rows if these are fewer."""


class Extras:
    """Draws every head's extra fields, and keeps the labels that they take up to date step by step.

    needs: by head name. Raises ValueError on offsets below 1, on counts out of range, and on windows of a task.
    """

    def __init__(self, needs: Mapping[str, Needs], reader: Rows) -> None:
        for name, need in needs.items():
            if need.views < 1 or need.noise < 0 or min(need.later, default=1) < 1:
                raise ValueError(
                    f"aux.{name}: views and later offsets must be at least 1 and noise not negative, got "
                    f"views {need.views}, later {need.later}, noise {need.noise}."
                )
            if need.windows is not None and need.windows.positives == "same_task":
                raise ValueError(f"aux.{name}: windows of the same task need several tasks; take same_trajectory")
        self._needs, self._reader = needs, reader
        self._timed = any(need.time for need in needs.values())
        self._offsets = {n.later: torch.tensor(n.later, device=reader.home)[:, None] for n in needs.values() if n.later}
        window, reward = reader.window, reader.flat["reward"]
        labels = {repr(need.pairs): need.pairs for need in needs.values() if need.pairs is not None}
        self._samplers = {key: PairSampler(label, window, reward) for key, label in labels.items()}
        binned = {repr(need.bins): need.bins for need in needs.values() if need.bins is not None}
        self._bins = {key: ReturnBins(label, window, reward, grouped=False) for key, label in binned.items()}
        self._windows = WindowSampler(reader) if any(need.windows for need in needs.values()) else None

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in self._labels())

    def add(
        self, reward: NDArray[Any], ended: NDArray[np.bool_], terminated: NDArray[np.bool_], died: NDArray[np.bool_]
    ) -> None:
        """Take the window's newest step; each `(N,)`. ended: its episode does, terminated: of itself, died: by a lost
        worker; else it was cut off."""
        for sampler in self._samplers.values():
            sampler.add(reward, ended, terminated, died)
        for bins in self._bins.values():
            bins.add(ended, terminated, died)
        if self._windows is not None:
            self._windows.add(ended, died)

    def cut(self) -> None:
        """Drop every running episode, and what has left the window."""
        for part in self._labels():
            part.cut()

    def _labels(self) -> list[PairSampler | ReturnBins | WindowSampler]:
        windows = [] if self._windows is None else [self._windows]
        return [*self._samplers.values(), *self._bins.values(), *windows]

    def draw(self, obs: Tensor, step: Tensor, env: Tensor, rows: Tensor, generator: Generator) -> dict[str, Extra]:
        """Return what each head asked for of the RL batch: its observations, steps, environments and flat rows."""
        drawn: dict[tuple[str, str], Pairs] = {}  # heads that ask for the same pairs share one draw
        extra = {}
        for name, need in self._needs.items():
            pairs = None
            if need.pairs is not None:
                key = repr(need.pairs), need.anchors
                if key not in drawn:
                    drawn[key] = self._pairs(key[0], need, step, env, rows, generator)
                pairs = drawn[key]
            extra[name] = Extra(
                second_view=_repeated(obs, need.views) if need.second_view else None,
                pairs=pairs,
                later=self._later(need.later, step, env) if need.later else None,
                bins=None if need.bins is None else self._reader.send(self._bins[repr(need.bins)].of(rows)),
                time=self._reader.time(rows) if need.time else None,
                noise=self._noise(len(rows), need.noise, generator) if need.noise else None,
                windows=self._pair_of_windows(need.windows, len(rows), generator) if need.windows else None,
            )
        return extra

    def _pairs(self, label: str, need: Needs, step: Tensor, env: Tensor, rows: Tensor, generator: Generator) -> Pairs:
        sampler, reader = self._samplers[label], self._reader
        own = need.anchors == "segment"
        if own:
            step, env, rows = sampler.anchors(step, env, rows, generator)
        found = sampler.partners(step, env, rows, generator)
        return Pairs(
            obs=reader.stacks(found.rows),
            action=reader.action(found.rows),
            labelled=reader.send(found.labelled),
            group=reader.send(found.group),
            anchor_bin=reader.send(found.anchor_bin),
            positive_bin=reader.send(found.positive_bin),
            length=reader.send(found.length),
            anchor_obs=reader.stacks(rows) if own else None,
            anchor_action=reader.action(rows) if own else None,
            anchor_time=reader.time(rows) if self._timed else None,
            positive_time=reader.time(found.rows) if self._timed else None,
        )

    def _later(self, offsets: tuple[int, ...], step: Tensor, env: Tensor) -> Later:
        """Read forward: the observation k steps on is the one that followed step k - 1."""
        reader = self._reader
        rows, there = reader.ahead(step, env, max(offsets))
        rows, reach = rows.T, there.sum(1)
        offset = self._offsets[offsets]
        last = rows.gather(0, torch.minimum(offset, reach) - 1)
        obs = reader.stacks(last.reshape(-1), shift=1)
        action = reader.action(rows.reshape(-1))
        return Later(
            obs=obs.unflatten(0, last.shape),
            valid=reader.send(offset <= reach),
            action=action.unflatten(0, rows.shape),
        )

    def _pair_of_windows(self, spec: WindowSpec, batch_rows: int, generator: Generator) -> Windows:
        assert self._windows is not None
        return self._windows.draw(spec, spec.rows or min(batch_rows, WINDOW_ROWS), generator)

    def _noise(self, rows: int, count: int, generator: Generator) -> Tensor:
        return self._reader.send(torch.rand((rows, count), generator=generator, device=self._reader.home))

    def state(self) -> dict[str, Any]:
        windows = {} if self._windows is None else {"windows": self._windows.state()}
        return {
            "pairs": [sampler.state() for sampler in self._samplers.values()],
            "bins": [bins.state() for bins in self._bins.values()],
            **windows,
        }

    def load_state(self, tree: dict[str, Any]) -> None:
        for sampler, state in zip(self._samplers.values(), tree["pairs"], strict=True):
            sampler.load_state(state)
        for bins, state in zip(self._bins.values(), tree["bins"], strict=True):
            bins.load_state(state)
        if self._windows is not None:
            self._windows.load_state(tree["windows"])


def _repeated(obs: Tensor, views: int) -> Tensor:
    return obs if views == 1 else torch.cat([obs] * views)
