"""Which samples of a batch are no negatives of each other: one piece for every head with negatives in the batch."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from rlrep.contrast.parts import same_known
from rlrep.replay import Pairs, ReturnBin, ReturnLabels, SeenAt, Time
from rlrep.settings import ranges

from .base import HeadConfig


class Origin(NamedTuple):
    """Where B samples come from, as far as it tells false negatives.

    bin: return bins `(B,)`. time: their episodes and steps. group: `(B,)`, see `Partners`.
    """

    bin: Tensor | None = None
    time: Time | None = None
    group: Tensor | None = None


@dataclass(frozen=True)
class Binned(HeadConfig):
    """How a head bins returns. bins, binning, discount, horizon: see `ReturnLabels`."""

    bins: int = 20
    binning: Literal["quantile", "equal_width"] = "quantile"
    discount: float = 0.9
    horizon: int | None = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.binned  # which refuses numbers out of range

    @property
    def binned(self) -> ReturnLabels:
        """How returns are binned."""
        return ReturnLabels(
            "return_bin", bins=self.bins, binning=self.binning, discount=self.discount, horizon=self.horizon
        )


@dataclass(frozen=True)
class NegativeMask(Binned):
    """False negatives to leave out, as options of a head.

    mask_same_return: samples known to share the return bin. mask_within: samples of one episode at most so many agent
    steps apart (0: the same step drawn twice; None: none). Samples of one known group, where there are groups, are
    never negatives of each other.
    """

    mask_same_return: bool = False
    mask_within: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        ranges.at_least(self, 0, ("mask_within",))

    @property
    def bin_request(self) -> ReturnBin | None:
        """What asks for the return bins, if they are masked by."""
        return ReturnBin(self.binned) if self.mask_same_return else None

    @property
    def time_request(self) -> SeenAt | None:
        """What asks for the times, if they are masked by."""
        return None if self.mask_within is None else SeenAt()

    def origin(self, pairs: Pairs) -> Origin:
        """Return what was drawn for these requests."""
        bins, time = self.bin_request, self.time_request
        return Origin(None if bins is None else pairs[bins], None if time is None else pairs[time])

    def valid(self, anchor: Origin, other: Origin) -> Tensor | None:
        """Return `(A, B)` bool, False where sample j of `other` is no negative of anchor i; None = all are.

        The objectives never mask the positive, so the diagonal does not matter.
        """
        masks = [
            same_known(first, second)
            for first, second in ((anchor.group, other.group), (anchor.bin, other.bin))
            if first is not None and second is not None
        ]
        if self.mask_within is not None and anchor.time is not None and other.time is not None:
            masks.append(close_in_time(anchor.time, other.time, self.mask_within))
        return ~torch.stack(masks).any(0) if masks else None


def has_negative(negative: Tensor) -> Tensor:
    """Return `(A,)` bool: the anchor has one among the others. negative: `(A, A)` bool, whose diagonal is ignored."""
    return (negative & ~torch.eye(len(negative), dtype=torch.bool, device=negative.device)).any(1)


def close_in_time(first: Time, second: Time, within: int) -> Tensor:
    """Return `(A, B)` bool: seen in one episode, at most `within` agent steps apart."""
    distance = (first.step[:, None] - second.step[None, :]).abs()
    return (first.episode[:, None] == second.episode[None, :]) & (distance <= within)
