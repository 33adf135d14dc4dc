"""Replay: one store, sampled by index, with what heads need added to the batch."""

from rlrep.contract.meta import Trajectory

from .batch import Batch, Transitions
from .kinds.later import Later, LaterSteps, Unroll, Unrolled
from .kinds.noise import Noise
from .kinds.numbered import Numbered
from .kinds.return_bin import ReturnBin
from .kinds.same_return import Partners, SameReturn
from .kinds.second_view import SecondView
from .kinds.seen_at import SeenAt, Time
from .kinds.windows import Windows, WindowSpec
from .labels import UNKNOWN, ReturnLabels
from .pairs import Anchors, Needs, Pairs, Request, Sampler, Stepped, Viewing
from .reader import Rows, Steps, TaskRows
from .ring import Ring
from .spec import Priority, ReplaySpec
from .store import Replay
from .tasks import TaskReplay, TaskSpec

__all__ = [
    "UNKNOWN",
    "Anchors",
    "Batch",
    "Later",
    "LaterSteps",
    "Needs",
    "Noise",
    "Numbered",
    "Pairs",
    "Partners",
    "Priority",
    "Replay",
    "ReplaySpec",
    "Request",
    "ReturnBin",
    "ReturnLabels",
    "Ring",
    "Rows",
    "SameReturn",
    "Sampler",
    "SecondView",
    "SeenAt",
    "Stepped",
    "Steps",
    "TaskReplay",
    "TaskRows",
    "TaskSpec",
    "Time",
    "Trajectory",
    "Transitions",
    "Unroll",
    "Unrolled",
    "Viewing",
    "WindowSpec",
    "Windows",
]
