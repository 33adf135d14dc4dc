"""Replay: one store, sampled by index, with what heads need added to the batch."""

from rlrep.contract.meta import Trajectory

from .batch import UNKNOWN, Batch, Extra, Later, Needs, Pairs, ReturnLabels, Time, Transitions, Windows, WindowSpec
from .ring import Ring
from .spec import Priority, ReplaySpec
from .store import Replay
from .tasks import TaskReplay, TaskSpec

__all__ = [
    "UNKNOWN",
    "Batch",
    "Extra",
    "Later",
    "Needs",
    "Pairs",
    "Priority",
    "Replay",
    "ReplaySpec",
    "ReturnLabels",
    "Ring",
    "TaskReplay",
    "TaskSpec",
    "Time",
    "Trajectory",
    "Transitions",
    "WindowSpec",
    "Windows",
]
