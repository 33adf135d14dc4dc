"""Bounds of settings that are numbers."""

from collections.abc import Iterable, Iterator
from math import inf
from typing import Any


def at_least(settings: object, low: float, names: Iterable[str]) -> None:
    """Raise ValueError naming the first of these settings that is below `low` or no finite number; None passes."""
    for name, value in _given(settings, names):
        if not low <= value < inf:
            raise ValueError(f"{name} must be at least {low}, not {value}")


def positive(settings: object, names: Iterable[str]) -> None:
    """Raise ValueError naming the first of these settings that is not above 0 or no finite number; None passes."""
    for name, value in _given(settings, names):
        if not 0 < value < inf:
            raise ValueError(f"{name} must be above 0, not {value}")


def share(settings: object, names: Iterable[str]) -> None:
    """Raise ValueError naming the first of these settings that is not in [0, 1]; None passes."""
    for name, value in _given(settings, names):
        if not 0 <= value <= 1:
            raise ValueError(f"{name} must lie in [0, 1], not {value}")


def part(settings: object, names: Iterable[str]) -> None:
    """Raise ValueError naming the first of these settings that is not in (0, 1], as the weight of a new value in a
    moving average is; None passes."""
    for name, value in _given(settings, names):
        if not 0 < value <= 1:
            raise ValueError(f"{name} must lie in (0, 1], not {value}")


def ascending(settings: object, names: Iterable[str]) -> None:
    """Raise ValueError naming the first of these pairs whose first number is not below its second."""
    for name, (low, high) in _given(settings, names):
        if not low < high:
            raise ValueError(f"{name} must be two numbers, the lower one first, not {low} and {high}")


def _given(settings: object, names: Iterable[str]) -> Iterator[tuple[str, Any]]:
    return ((name, getattr(settings, name)) for name in names if getattr(settings, name) is not None)
