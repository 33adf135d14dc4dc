"""Proportional prioritised sampling (Schaul et al. 2016, arXiv 1511.05952)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from .ring import Window
from .spans import Span, carve
from .spec import Priority
from .weights import WeightTree


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

    def draw(self, uniform: Tensor, weights: Tensor, stored: int, fallback: int) -> Tensor:
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
        self._tree.move(self._rows([evicted, *self._numbers(lost)]), self._rows(self._numbers(entering)), self._largest)
        self._low, self._stop, self._lost = window.low, stop, []

    def _numbers(self, spans: Sequence[Span]) -> list[NDArray[np.int64]]:
        envs = self._window.num_envs
        return [np.arange(first * envs + env, stop * envs + env, envs) for env, first, stop in spans]

    def _rows(self, numbers: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
        rows: NDArray[np.int64] = np.concatenate([np.zeros(0, np.int64), *numbers]) % self._tree.size
        return rows

    def draw(self, count: int, drawable: tuple[int, int], generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Return steps, environments and flat rows `(count,)`, one from each of `count` strata of equal probability.

        drawable: step and environment of any transition that may be drawn.
        """
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
        weight = self._tree.of(rows)
        return (weight.min() / weight).pow_(self._config.beta_after(self._window.head * self._window.num_envs))

    def update(self, numbers: Tensor, priorities: Tensor) -> None:
        """Set priorities `(B,)` of transitions by number; those that may no longer be drawn stay as they are.

        So do those whose new priority is not a finite number. Of several for one transition the largest stays.
        """
        rows = numbers.remainder(self._tree.size)
        weight = (priorities.float() + self._config.eps).pow_(self._config.alpha)
        known = numbers >= self._window.low * self._window.num_envs
        live = known & (self._tree.of(rows) > 0) & (weight < torch.inf)
        self._tree.write(rows, weight, live)
        self._largest = torch.maximum(self._largest, torch.where(live, weight, 0.0).max())

    def state(self) -> dict[str, Any]:
        """Return everything; `follow` must have been called since the last step."""
        return {
            "tree": self._tree.state(),
            "largest": self._largest.clone(),
            "low": self._low,
            "stop": self._stop.copy(),
        }

    def load_state(self, tree: dict[str, Any]) -> None:
        self._tree.load_state(tree["tree"])
        self._largest = tree["largest"].to(self._largest.device, copy=True)
        self._low = int(tree["low"])
        self._stop, self._lost = np.array(tree["stop"], np.int64), []
