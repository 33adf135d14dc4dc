"""Replay: one store, sampled by index, with what heads need added to the batch."""

from .batch import UNKNOWN, Batch, Extra, Needs, Pairs, ReturnLabels
from .ring import Ring
from .spec import ReplaySpec
from .store import Replay

__all__ = ["UNKNOWN", "Batch", "Extra", "Needs", "Pairs", "Replay", "ReplaySpec", "ReturnLabels", "Ring"]
