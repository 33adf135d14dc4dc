"""Simulators that were lost: how many in a row are borne, what is said of them, which episode comes instead."""

import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlrep.settings import UserError

MAX_LOSSES = 5
"""In a row: without an episode that ended, or `STEADY_STEPS` steps, in between."""
STEADY_STEPS = 100


class Lost(Exception):
    """A simulator can go on no more; the text says how it ended."""


class Raised(Lost):
    """Its own code raised, or gave numbers that are not finite. kind: of error, which is warned of once."""

    def __init__(self, line: str, kind: str) -> None:
        super().__init__(line)
        self.kind = kind


class EnvironmentFailed(UserError, RuntimeError):
    """The environment cannot be used, in one line."""


@dataclass(frozen=True)
class Patience:
    """How long a step may take, `seconds` (None = for ever), or `grace` seconds once the run is `stopping`."""

    seconds: float | None = None
    stopping: Callable[[], bool] | None = None
    grace: float = 10.0

    @property
    def limited(self) -> bool:
        """Whether anything can end it."""
        return self.seconds is not None or self.stopping is not None

    def over(self, waited: float) -> bool:
        """Whether a step that has taken `waited` seconds is given up."""
        late = self.seconds is not None and waited > self.seconds
        return late or (waited > self.grace and self.stopping is not None and self.stopping())


FOR_EVER = Patience()


class Losses:
    """Counts the losses of N simulators and seeds their replacements, reproducibly."""

    def __init__(self, seeds: list[int], place: str) -> None:
        """place: what is lost, as warnings call it."""
        self._place = place
        self._warned: set[str] = set()
        self.calm = False  # whether `stepped` has nothing to note
        self.begin(seeds)

    def begin(self, seeds: list[int]) -> None:
        """Start anew, by seeds."""
        self.seeds, self.restarts = list(seeds), [0] * len(seeds)
        self._in_row, self._steps = [0] * len(seeds), [0] * len(seeds)

    def bear(self, index: int, loss: Lost) -> None:
        """Book a loss and warn. Raises EnvironmentFailed if there is no sense in a replacement."""
        self.calm = False
        self._in_row[index] += 1
        self.restarts[index] += 1
        self._steps[index] = 0
        if self._in_row[index] >= MAX_LOSSES:
            raise EnvironmentFailed(
                f"{self._place} {index} was lost {MAX_LOSSES} times in a row, no episode ended; last words: {loss}"
            ) from loss
        self._warn(index, loss)

    def stepped(self, index: int, *, ended: bool) -> None:
        """Note a step that went well."""
        if self._in_row[index]:
            self._steps[index] += 1
            if ended or self._steps[index] >= STEADY_STEPS:
                self._in_row[index] = 0
        self.calm = not any(self._in_row)

    def seed(self, index: int) -> int:
        """Return the seed of a replacement."""
        entropy = [self.seeds[index], index, self.restarts[index]]
        return int(np.random.SeedSequence(entropy).generate_state(1)[0])

    def state(self, index: int) -> dict[str, Any]:
        """Return what replacements would be given."""
        return {"seed": self.seeds[index], "restarts": self.restarts[index]}

    def load_state(self, index: int, state: dict[str, Any]) -> None:
        """Go on from `state()`."""
        self.seeds[index] = state.get("seed", self.seeds[index])
        self.restarts[index] = state.get("restarts", 0)

    def _warn(self, index: int, loss: Lost) -> None:
        line, further = (
            f"{self._place} {index} was lost ({loss}); restart {self.restarts[index]}, its episode is dropped",
            "",
        )
        if isinstance(loss, Raised):
            if loss.kind in self._warned:
                return
            self._warned.add(loss.kind)
            further = "; more of the same is borne in silence"
        warnings.warn(line + further, RuntimeWarning, stacklevel=2)


def raised(error: BaseException, where: str = "") -> Raised:
    """Return the loss that an environment's error is, in one line with the place it came from. where: what it did."""
    text = " ".join(str(error).split())
    written = isinstance(error, (ValueError, RuntimeError)) and text  # for users, most of the time
    line = text if written else f"{type(error).__name__}: {text}".rstrip(": ")
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames and not written else ""
    begin = f"{where}: " if where and not text.startswith(where.partition(":")[0]) else ""
    return Raised(begin + line + place, type(error).__name__)
