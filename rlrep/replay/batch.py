"""What replay hands to an update, and what an auxiliary head may ask of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from rlrep.views.base import View

UNKNOWN = -1
"""Return bin of a transition whose episode has not ended."""


@dataclass(frozen=True)
class ReturnLabels:
    """How transitions are grouped by return (RCRL, Liu et al. 2021).

    mode: `reward_event` closes a segment at a non-zero reward, `return_threshold` when the absolute reward accumulated
        in it reaches `threshold`, `return_bin` groups by the bin of the return-to-go. A segment ends with its episode.
    threshold: accumulated reward (task units, action repeats summed) that closes a segment.
    max_length: longest segment in agent steps; None = unlimited.
    bins, binning: return-to-go bins, which label every mode's false negatives (and are the groups of `return_bin`).
    discount: of the return-to-go.
    """

    mode: Literal["reward_event", "return_threshold", "return_bin"]
    threshold: float = 1.0
    max_length: int | None = None
    bins: int = 20
    binning: Literal["quantile", "equal_width"] = "quantile"
    discount: float = 1.0


@dataclass(frozen=True)
class Needs:
    """Extra fields a head wants in the batch.

    second_view: the RL batch's observations once more, under `view`.
    pairs: for each anchor a transition of the same return label, its observation under `view`.
    anchors: whose partners `pairs` holds: the RL batch's own rows, or rows drawn by a uniform choice of segment or bin.
    view: augmentation of everything this head adds; None = the agent's own.
    """

    second_view: bool = False
    pairs: ReturnLabels | None = None
    anchors: Literal["batch", "segment"] = "batch"
    view: View | None = None


@dataclass(frozen=True)
class Pairs:
    """Same-label partners of B anchors, with what is known of both sides' returns.

    obs, action: the partner's, shaped as in `Batch`. It is not the anchor unless the anchor is alone in its group.
    labelled `(B,)` bool: the anchor has a label. False only in mode `return_bin`, for unfinished episodes; its
        partner is itself.
    anchor_bin, positive_bin `(B,)` int64: return-to-go bins, `UNKNOWN` until the episode has ended.
    length `(B,)` int64: agent steps in the anchor's segment still stored (members of its bin in mode `return_bin`).
    anchor_obs, anchor_action: the anchors themselves when `Needs.anchors == "segment"`, else None.
    """

    obs: Tensor
    action: Tensor
    labelled: Tensor
    anchor_bin: Tensor
    positive_bin: Tensor
    length: Tensor
    anchor_obs: Tensor | None = None
    anchor_action: Tensor | None = None


@dataclass(frozen=True)
class Extra:
    """What one head asked for."""

    second_view: Tensor | None = None
    pairs: Pairs | None = None


@dataclass(frozen=True)
class Batch:
    """B transitions on the training device.

    obs, next_obs: uint8 `(B, S*C, H, W)`, oldest frame first, or float32 `(B, S*D)`. `next_obs` is n steps on, or the
        episode's last.
    action: float32 `(B, A)` or int64 `(B,)`. reward `(B,)`: n-step discounted sum.
    discount `(B,)`: gamma**n, or 0 where the episode *terminated* within n steps; a truncated episode still bootstraps
        (gamma**k for the k <= n steps summed).
    extra: by head name.
    """

    obs: Tensor
    action: Tensor
    reward: Tensor
    discount: Tensor
    next_obs: Tensor
    extra: Mapping[str, Extra] = field(default_factory=dict)
