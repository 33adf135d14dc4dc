"""What replay hands to an update, and what an auxiliary head may ask of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from torch import Tensor

from rlrep.settings import ranges
from rlrep.views.base import View

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


@dataclass(frozen=True)
class WindowSpec:
    """Two windows of transitions per row (TCL, Wang et al. 2021, arXiv 2103.06386).

    length: transitions in each, W. rows: how many pairs of windows; None = as many as the agent's meta-batch has tasks.
    positives: both windows from one trajectory, or from two drawn independently of the same task.
    ordered: W transitions in a row; false: W independent draws from the trajectory (`same_task`: from all of them).
    disjoint: the two share no transition (needs 2 W in the trajectory); only for ordered ones of one trajectory.
    next_obs: whether the transitions have theirs.
    Raises ValueError on lengths below 1, fewer than 2 rows, and disjoint windows of any other kind.
    """

    length: int
    rows: int | None = None
    positives: Literal["same_trajectory", "same_task"] = "same_trajectory"
    ordered: bool = True
    disjoint: bool = True
    next_obs: bool = True

    def __post_init__(self) -> None:
        if self.length < 1 or (self.rows is not None and self.rows < 2):
            raise ValueError(f"windows need a length of at least 1 and 2 rows, got {self.length} and {self.rows}")
        if self.disjoint and not (self.ordered and self.positives == "same_trajectory"):
            raise ValueError(
                "disjoint windows are ordered ones of one trajectory: set disjoint=false with ordered=false or "
                "positives of the same task"
            )

    @property
    def least_episode(self) -> int:
        """Transitions an episode must have for windows to be drawn from it (one suffices for unordered ones of a
        task)."""
        if self.ordered or self.positives == "same_trajectory":
            return 2 * self.length if self.disjoint else self.length
        return 1


@dataclass(frozen=True)
class Needs:
    """Extra fields a head wants in the batch.

    second_view: the RL batch's observations once more, under `view`. views: how many such, independent of each other.
    pairs: for each anchor a transition of the same return label, its observation under `view`.
    anchors: whose partners `pairs` holds: the RL batch's own rows, or rows drawn by a uniform choice of segment or bin.
    later: how many agent steps after the RL batch's rows further observations of the same episode lie, each above 0.
    bins: the return bins of the RL batch's rows, by these labels' bins, binning, discount and horizon.
    time: when in which episode the rows were seen, those of `pairs` too.
    noise: numbers from U[0, 1) per row, for heads whose loss is random.
    windows: pairs of windows of transitions, from the stored part of episodes.
    view: augmentation of everything this head adds; None = the agent's own.
    """

    second_view: bool = False
    pairs: ReturnLabels | None = None
    anchors: Literal["batch", "segment"] = "batch"
    view: View | None = None
    views: int = 1
    later: tuple[int, ...] = ()
    bins: ReturnLabels | None = None
    time: bool = False
    noise: int = 0
    windows: WindowSpec | None = None


@dataclass(frozen=True)
class Time:
    """When B rows were seen. episode: int64, equal within one episode only. step: int64, counts agent steps."""

    episode: Tensor
    step: Tensor


@dataclass(frozen=True)
class Pairs:
    """Same-label partners of B anchors, with what is known of both sides' returns.

    obs, action: the partner's, shaped as in `Batch`. It is not the anchor unless the anchor is alone in its group.
    labelled `(B,)` bool: the anchor has a partner. Where it is alone in its group, or in none, that is itself.
    group `(B,)` int64: equal for anchors (and their partners) of one group: the number of the segment, over all
        environments, or the bin in mode `return_bin`, `UNKNOWN` while that is not known.
    anchor_bin, positive_bin `(B,)` int64: return bins, `UNKNOWN` until the episode has ended, and for good where a
        time limit cut off what the return is made of.
    length `(B,)` int64: agent steps in the anchor's segment still stored (members of its bin in mode `return_bin`).
    anchor_obs, anchor_action: the anchors themselves when `Needs.anchors == "segment"`, else None.
    anchor_time, positive_time: with `Needs.time`.
    """

    obs: Tensor
    action: Tensor
    labelled: Tensor
    group: Tensor
    anchor_bin: Tensor
    positive_bin: Tensor
    length: Tensor
    anchor_obs: Tensor | None = None
    anchor_action: Tensor | None = None
    anchor_time: Time | None = None
    positive_time: Time | None = None


@dataclass(frozen=True)
class Later:
    """What followed the RL batch's rows, at the K offsets of `Needs.later`, the largest of them T.

    obs `(K, B, ...)`: the observation so many steps on, the episode's last known one where it is not `valid`.
    valid `(K, B)` bool: the episode goes on for so long (its final observation counts) and has been seen so far.
    action `(T, B, ...)`: actions of the steps from the row's own on; meaningful up to a valid offset.
    """

    obs: Tensor
    valid: Tensor
    action: Tensor


@dataclass(frozen=True)
class Transitions:
    """R windows of W transitions: obs, next_obs `(R, W, ...)`, action `(R, W, A)` or int64 `(R, W)`, reward
    `(R, W)`. next_obs has a last axis of length 0 where nobody asked for it."""

    obs: Tensor
    action: Tensor
    reward: Tensor
    next_obs: Tensor

    def viewed(self, view: Callable[[Tensor], Tensor]) -> "Transitions":
        """Return the same with every observation `(R * W, ...)` under `view`."""
        obs, following = (
            view(part.flatten(0, 1)).unflatten(0, part.shape[:2]) if part.numel() else part
            for part in (self.obs, self.next_obs)
        )
        return replace(self, obs=obs, next_obs=following)


@dataclass(frozen=True)
class Windows:
    """R pairs of windows, see `WindowSpec`.

    valid `(R,)` bool: the row could be drawn; where not, its content means nothing.
    group `(R,)` int64: whom a row must not repel, because it comes from the same source: the task where there are
        several, else the episode.
    """

    first: Transitions
    second: Transitions
    valid: Tensor
    group: Tensor


@dataclass(frozen=True)
class Extra:
    """What one head asked for.

    second_view `(views * B, ...)`, view after view. bins `(B,)` int64, `UNKNOWN` as in `Pairs`.
    time: of the RL batch's rows. noise `(B, Needs.noise)`.
    """

    second_view: Tensor | None = None
    pairs: Pairs | None = None
    later: Later | None = None
    bins: Tensor | None = None
    time: Time | None = None
    noise: Tensor | None = None
    windows: Windows | None = None

    def viewed(self, view: Callable[[Tensor], Tensor]) -> "Extra":
        """Return the same with every observation `(B, ...)` under `view`."""
        second = None if self.second_view is None else view(self.second_view)
        pairs, later, windows = self.pairs, self.later, self.windows
        if pairs is not None:
            anchor = None if pairs.anchor_obs is None else view(pairs.anchor_obs)
            pairs = replace(pairs, obs=view(pairs.obs), anchor_obs=anchor)
        if later is not None:
            frames = view(later.obs.flatten(0, 1))
            later = replace(later, obs=frames.unflatten(0, later.valid.shape))
        if windows is not None:
            windows = replace(windows, first=windows.first.viewed(view), second=windows.second.viewed(view))
        return replace(self, second_view=second, pairs=pairs, later=later, windows=windows)


@dataclass(frozen=True)
class Batch:
    """B transitions on the training device.

    obs, next_obs: uint8 `(B, S*C, H, W)`, oldest frame first, or float32 `(B, S*D)`. `next_obs` is n steps on, or the
        episode's last.
    action: float32 `(B, A)` or int64 `(B,)`. reward `(B,)`: n-step discounted sum.
    discount `(B,)`: gamma**n, or 0 where the episode *terminated* within n steps; a truncated episode still bootstraps
        (gamma**k for the k <= n steps summed).
    extra: by head name.
    weight: float32 `(B,)`, importance weights of a prioritised draw, the largest 1; else None.
    rows: int64 `(B,)`, numbers of the transitions of a prioritised draw, for `Replay.update_priorities`; else None.
    tasks: int64 `(T,)`, the tasks of a meta-batch, whose B / T rows each follow each other; else None.
    context: `(T, W)` transitions of these tasks; else None.
    """

    obs: Tensor
    action: Tensor
    reward: Tensor
    discount: Tensor
    next_obs: Tensor
    extra: Mapping[str, Extra] = field(default_factory=dict)
    weight: Tensor | None = None
    rows: Tensor | None = None
    tasks: Tensor | None = None
    context: Transitions | None = None
