"""Who runs the parties of a round: this process, one after another, or another engine behind the same seam."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

from rlrep.ssl.data import ImageData

from .average import Weights
from .party import Lost, Reply, Setup, try_party


class Engine(AbstractContextManager["Engine"], Protocol):
    """Runs rounds until it is left."""

    def round(
        self, number: int, received: Sequence[Weights], kept: Sequence[Weights], between: Callable[[int], None]
    ) -> list[Reply | Lost]:
        """Return what has become of each party, in their order.

        number: of the round, from 0. received, kept: of each party. between: called now and then with the number of
        parties that are through; it may raise, and the round is then as if it had not begun.
        """
        ...


class EngineConfig(Protocol):
    """An `engine=` choice: the dataclass behind its `_target_`."""

    def make(self, setup: Setup, data: ImageData) -> Engine:
        """Build the engine. data: all images to train on. Raises UserError if it cannot run here."""
        ...


@dataclass(frozen=True)
class InProcess:
    """One party after another in this process, on its device."""

    def make(self, setup: Setup, data: ImageData) -> Engine:
        """Build the engine."""
        return _InProcess(setup, data)


class _InProcess(Engine):
    def __init__(self, setup: Setup, data: ImageData) -> None:
        self._setup, self._data, self._dealt = setup, data, setup.deal(data)

    def round(
        self, number: int, received: Sequence[Weights], kept: Sequence[Weights], between: Callable[[int], None]
    ) -> list[Reply | Lost]:
        found: list[Reply | Lost] = []
        for party, rows in enumerate(self._dealt):
            between(party)
            mine = self._data.rows(rows)
            found.append(try_party(self._setup, mine, party, number, received[party], kept[party]))
        return found

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing was started."""
