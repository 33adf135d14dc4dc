"""The kinds of pair, one file each: what a head asks for, what it gets, and how it is drawn."""

from .later import Later, LaterSteps
from .noise import Noise
from .return_bin import ReturnBin
from .same_return import Partners, SameReturn
from .second_view import SecondView
from .seen_at import SeenAt, Time
from .windows import Windows, WindowSpec

__all__ = [
    "Later",
    "LaterSteps",
    "Noise",
    "Partners",
    "ReturnBin",
    "SameReturn",
    "SecondView",
    "SeenAt",
    "Time",
    "WindowSpec",
    "Windows",
]
