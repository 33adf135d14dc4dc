"""Partners of the same return label, for every way of labelling."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from .batch import ReturnLabels
from .returns import ReturnBins
from .ring import Window
from .segments import Segments
from .spans import draw_below


@dataclass(frozen=True)
class PairRows:
    """Partners of B anchors, as flat rows, with the fields of `Pairs`; each `(B,)`."""

    rows: Tensor
    labelled: Tensor
    group: Tensor
    anchor_bin: Tensor
    positive_bin: Tensor
    length: Tensor


class PairSampler:
    """Labels of one kind over all stored transitions, kept up to date step by step.

    window: the replay's own, moved before `add`. reward: its flat reward column.
    """

    def __init__(self, labels: ReturnLabels, window: Window, reward: Tensor) -> None:
        self._window = window
        grouped = labels.mode == "return_bin"
        self._bins = ReturnBins(labels, window, reward, grouped=grouped)
        self._segments = None if grouped else Segments(labels, window, reward.device)

    @property
    def nbytes(self) -> int:
        return self._bins.nbytes + (self._segments.nbytes if self._segments else 0)

    def add(
        self, reward: NDArray[Any], ended: NDArray[np.bool_], terminated: NDArray[np.bool_], died: NDArray[np.bool_]
    ) -> None:
        """Take the window's newest step; each `(N,)`."""
        if self._segments is not None:
            self._segments.add(reward, ended, died)
        self._bins.add(ended, terminated, died)

    def cut(self) -> None:
        """Drop every running episode."""
        if self._segments is not None:
            self._segments.cut()
        self._bins.cut()

    def anchors(self, step: Tensor, env: Tensor, rows: Tensor, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Return steps, environments and flat rows drawn by a uniform choice of segment or bin.

        The given ones, of the same shape, are returned while no bin is known yet.
        """
        if self._segments is not None:
            step, env = self._segments.draw(len(rows), generator)
            return step, env, self._window.rows(step, env)
        if self._bins.groups.empty:
            return step, env, rows
        return step, env, self._bins.groups.draw(len(rows), generator)

    def partners(self, step: Tensor, env: Tensor, rows: Tensor, generator: Generator) -> PairRows:
        """Return a partner of each anchor, uniform over its label's other stored members (itself if it is alone)."""
        anchor_bin = self._bins.of(rows)
        if self._segments is None:
            found, length = self._bins.groups.partners(rows, anchor_bin, generator)
            group = anchor_bin
        else:
            found, length = self._within(self._segments, step, env, rows, generator)
            group = self._segments.numbers(rows, env)
        return PairRows(found, found != rows, group, anchor_bin, self._bins.of(found), length)

    def _within(
        self, segments: Segments, step: Tensor, env: Tensor, rows: Tensor, generator: Generator
    ) -> tuple[Tensor, Tensor]:
        first, stop = segments.extent(rows, env)
        length = stop - first
        other = draw_below((length - 1).clamp_min_(1), generator).add_(first)
        other += other >= step  # skips the anchor itself
        partner = torch.where(length > 1, other, step)
        return self._window.rows(partner, env), length

    def state(self) -> dict[str, Any]:
        segments = None if self._segments is None else self._segments.state()
        return {"bins": self._bins.state(), "segments": segments}

    def load_state(self, tree: dict[str, Any]) -> None:
        self._bins.load_state(tree["bins"])
        if self._segments is not None:
            self._segments.load_state(tree["segments"])
