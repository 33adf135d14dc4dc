"""How transitions are labelled by return."""

from dataclasses import dataclass
from typing import Literal

from rlrep.settings import ranges

UNKNOWN = -1
"""Return bin of a transition whose return is not known, and the group of one that has none."""


@dataclass(frozen=True)
class ReturnLabels:
    """How transitions are grouped by return (RCRL, Liu et al. 2021).

    mode: `reward_event` closes a segment at a non-zero reward, `return_threshold` when the absolute reward accumulated
        in it reaches `threshold`, `return_bin` groups by the return's bin. A segment ends with its episode.
    threshold: accumulated reward (task units, action repeats summed) that closes a segment; None = what episodes have
        lately earned, by `segments` (see `Threshold`).
    segments: how many an episode is to have, about, where no threshold is given.
    max_length: longest segment in agent steps; None = unlimited.
    bins, binning: of returns; they label every mode's false negatives, and are the groups of `return_bin`.
    discount, horizon: the return is the discounted sum of the rewards of so many agent steps from the transition's own
        on; horizon None = to the episode's end. Where time limits end episodes, an undiscounted sum to the end says
        how much time is left, whatever the state: keep it to tasks whose episodes end for a reason of their own.
    Raises ValueError naming what is out of range.
    """

    mode: Literal["reward_event", "return_threshold", "return_bin"]
    threshold: float | None = None
    segments: int = 20
    max_length: int | None = None
    bins: int = 20
    binning: Literal["quantile", "equal_width"] = "quantile"
    discount: float = 0.9
    horizon: int | None = 20

    def __post_init__(self) -> None:
        ranges.positive(self, ["threshold"])
        ranges.at_least(self, 2, ["max_length"])  # a row alone in its segment has no partner
        ranges.at_least(self, 1, ["segments", "bins", "horizon"])
        ranges.share(self, ["discount"])
