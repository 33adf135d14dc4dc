"""Proportional prioritised sampling (Schaul et al. 2016, arXiv 1511.05952)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from .ring import Window
from .sending import sent
from .shared import Whole
from .spans import Span, carve
from .spec import Priority
from .weights import WeightTree

ROOM = 32
"""Transitions of each environment that may leave, and as many that may enter, within a captured draw; more do before
it."""


class Fading:
    """What is left of a priority by the transition's age (faded prioritised replay: DR.Q, 2026, its code): fade**age,
    at least `least_fade`. Since every transition fades with every step, a draw reads all weights."""

    def __init__(self, config: Priority, size: int, device: torch.device) -> None:
        age = torch.arange(size - 1, -1, -1, dtype=torch.float64, device=device)
        self._oldest_first = (config.fade**age).clamp(min=config.least_fade)

    @property
    def nbytes(self) -> int:
        return self._oldest_first.nbytes

    def left(self, stored: int) -> Tensor:
        """Return the share that is left `(size,)`, by flat row, after so many transitions; the newest has age 0."""
        return self._oldest_first.roll(stored)

    def draw(self, uniform: Tensor, weights: Tensor, stored: int, fallback: int | Tensor) -> Tensor:
        """Return rows `(B,)`, see `WeightTree.draw`, by weights `(size,)` as they have faded."""
        used = min(stored, len(weights))
        prefix = (weights[:used] * self.left(stored)[:used]).cumsum(0)
        strata = torch.arange(len(uniform), device=uniform.device)
        target = (strata + uniform) * (prefix[-1] / len(uniform))
        rows = torch.searchsorted(prefix, target, right=True).clamp_max_(used - 1)
        return torch.where(weights[rows] > 0, rows, fallback)


class Priorities:
    """Priorities of all stored transitions: the chance of a draw is proportional to priority**alpha.

    A transition enters with the largest priority that any has had so far (1 at first), and has none, so is not drawn,
    before its n-step window is complete and after it has left the window or its episode was dropped.
    Transitions go by number, step * num_envs + environment, which none shares with an earlier one; what is left of
    it after division by the ring's size is the flat row.

    window: the replay's own, moved before `follow`.
    """

    def __init__(self, config: Priority, window: Window, device: torch.device) -> None:
        self._config = config
        self._window = window
        self._tree = WeightTree(window.steps * window.num_envs, device)
        self._fading = Fading(config, self._tree.size, device) if config.fade < 1 else None
        self._largest = torch.ones((), device=device)  # priority**alpha
        self._low = 0  # the window's low end when last followed
        self._stop = np.zeros(window.num_envs, np.int64)  # by environment, first step that has not entered
        self._lost: list[Span] = []  # (environment, first, stop) of episodes dropped since
        self._room = ROOM * window.num_envs
        self._out = self._into = np.zeros(0, np.int64)  # flat rows that the tree does not know of yet
        self._moves, self._beta = (window.shared.add(part) for part in (self._to_move, self._bits))

    @property
    def nbytes(self) -> int:
        return self._tree.nbytes + (0 if self._fading is None else self._fading.nbytes)

    def lose(self, spans: Sequence[Span]) -> None:
        """Take out the transitions (environment, first, stop) of dropped episodes at the next `follow`."""
        self._lost += spans

    def follow(self, stop: NDArray[np.int64], dropped: Sequence[Span]) -> None:
        """Take out what has left the window or was lost, let in what has become drawable.

        stop `(N,)`: first step of each environment that is not drawable yet. dropped: as for `carve`.
        """
        window = self._window
        first = max(self._low, window.low - window.steps)
        evicted = np.arange(first * window.num_envs, window.low * window.num_envs)
        lost = [(env, max(start, first), end) for env, start, end in self._lost]
        entering = carve(np.maximum(self._stop, window.low), stop, dropped)
        self._note(self._rows([evicted, *self._numbers(lost)]), self._rows(self._numbers(entering)))
        self._low, self._stop, self._lost = window.low, stop, []

    def _note(self, out: Whole, into: Whole) -> None:
        """Keep for the next draw who leaves and who enters."""
        if len(self._into):
            out, into = np.append(self._out, out), np.append(self._into[~np.isin(self._into, out)], into)
        elif len(self._out):
            out = np.append(self._out, out)
        self._out, self._into = out, into
        if max(len(out), len(into)) > self._room:
            self.settle()

    def settle(self) -> None:
        """Do now what `follow` found."""
        if len(self._out) or len(self._into):
            out, into = (sent(rows, self._largest.device) for rows in (self._out, self._into))
            self._tree.move(out, into, self._largest)
            self._out = self._into = np.zeros(0, np.int64)

    def _to_move(self) -> Whole:
        """Hand over to the next draw what `follow` found, filled up with the row that is none."""
        moves = np.full((2, self._room), self._tree.size)
        moves[0, : len(self._out)], moves[1, : len(self._into)] = self._out, self._into
        self._out = self._into = np.zeros(0, np.int64)
        return moves.reshape(-1)

    def _numbers(self, spans: Sequence[Span]) -> list[NDArray[np.int64]]:
        envs = self._window.num_envs
        return [np.arange(first * envs + env, stop * envs + env, envs) for env, first, stop in spans]

    def _rows(self, numbers: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
        rows: NDArray[np.int64] = np.concatenate([np.zeros(0, np.int64), *numbers]) % self._tree.size
        return rows

    def draw(
        self, count: int, drawable: tuple[int | Tensor, int | Tensor], generator: Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return steps, environments and flat rows `(count,)`, one from each of `count` strata of equal probability.

        drawable: step and environment of any transition that may be drawn.
        """
        if self._window.shared.read:
            out, into = self._window.shared[self._moves].view(2, -1)
            self._tree.move(out, into, self._largest)
        else:
            self.settle()
        step, env = drawable
        envs = self._window.num_envs
        uniform = torch.rand(count, dtype=torch.float64, generator=generator, device=self._largest.device)
        fallback = (step * envs + env) % self._tree.size
        if self._fading is None:
            rows = self._tree.draw(uniform, fallback)
        else:
            rows = self._fading.draw(uniform, self._tree.all, self._window.head * envs, fallback)
        return self._window.steps_of(rows), rows.remainder(envs), rows

    def importance(self, rows: Tensor) -> Tensor:
        """Return the weights (N * P(i))**-beta over the largest of the batch, `(B,)` float32, of drawn flat rows.

        N and the sum in P(i) = weight / sum cancel.
        """
        shared, weight = self._window.shared, self._tree.of(rows)
        beta = shared[self._beta].view(torch.float64)[0] if shared.read else self._exponent()
        return (weight.min() / weight).pow_(beta)

    def _exponent(self) -> float:
        return self._config.beta_after(self._window.head * self._window.num_envs)

    def _bits(self) -> Whole:
        return np.array([self._exponent()]).view(np.int64)

    def update(self, numbers: Tensor, priorities: Tensor) -> None:
        """Set priorities `(B,)` of transitions by number; those that may no longer be drawn stay as they are.

        So do those whose new priority is not a finite number. Of several for one transition the largest stays.
        """
        rows = numbers.remainder(self._tree.size)
        weight = (priorities.float() + self._config.eps).pow_(self._config.alpha)
        known = numbers >= self._window.ends[0] * self._window.num_envs
        live = known & (self._tree.of(rows) > 0) & (weight < torch.inf)
        self._tree.write(rows, weight, live)
        torch.maximum(self._largest, torch.where(live, weight, 0.0).max(), out=self._largest)

    def state(self) -> dict[str, Any]:
        """Return everything; `follow` must have been called since the last step."""
        self.settle()
        return {
            "tree": self._tree.state(),
            "largest": self._largest.clone(),
            "low": self._low,
            "stop": self._stop.copy(),
        }

    def load_state(self, tree: dict[str, Any]) -> None:
        self._tree.load_state(tree["tree"])
        self._largest.copy_(tree["largest"])
        self._out = self._into = np.zeros(0, np.int64)
        self._low = int(tree["low"])
        self._stop, self._lost = np.array(tree["stop"], np.int64), []
