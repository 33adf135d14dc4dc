"""Partners of the same return label, for every way of labelling (RCRL, Liu et al. 2021, arXiv 2102.10960)."""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Generator, Tensor

from ..labels import ReturnLabels
from ..pairs import Anchors, Request, Sampler, Viewing
from ..reader import Steps
from ..returns import ReturnBins
from ..segments import Segments
from ..spans import draw_below
from .seen_at import Time, seen_at


@dataclass(frozen=True)
class Partners:
    """Same-label partners of B anchors, with what is known of both sides' returns.

    obs, action: the partner's, shaped as in `Batch`. It is not the anchor unless the anchor is alone in its group.
    labelled `(B,)` bool: the anchor has a partner. Where it is alone in its group, or in none, that is itself.
    group `(B,)` int64: equal for anchors (and their partners) of one group: the number of the segment, over all
        environments, or the bin in mode `return_bin`, `UNKNOWN` while that is not known.
    anchor_bin, positive_bin `(B,)` int64: return bins, `UNKNOWN` until the episode has ended, and for good where a
        time limit cut off what the return is made of.
    length `(B,)` int64: agent steps in the anchor's segment still stored (members of its bin in mode `return_bin`).
    anchor_obs, anchor_action: the anchors themselves when `SameReturn.anchors == "segment"`, else None.
    anchor_time, positive_time: with `SameReturn.time`.
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
class SameReturn(Request[Partners]):
    """Asks for a transition of the same return label, for each anchor.

    anchors: the RL batch's own rows, or rows drawn by a uniform choice of segment or bin.
    time: also asks when both were seen.
    """

    labels: ReturnLabels
    anchors: Literal["batch", "segment"] = "batch"
    time: bool = False
    shared = True

    def viewed(self, found: Partners, view: Viewing) -> Partners:
        anchor = None if found.anchor_obs is None else view(found.anchor_obs)
        return replace(found, obs=view(found.obs), anchor_obs=anchor)


class SameReturnSampler(Sampler[SameReturn, Partners], serves=SameReturn):
    """Keeps the labels of all stored transitions up to date, step by step."""

    rows: Steps

    def __init__(self, request: SameReturn, rows: Steps) -> None:
        super().__init__(request, rows)
        labels, reward = request.labels, rows.flat["reward"]
        grouped = labels.mode == "return_bin"
        self.capturable = not (grouped and request.anchors == "segment")  # how many bins are occupied changes
        self._bins = ReturnBins(labels, rows.window, reward, grouped=grouped)
        self._segments = None if grouped else Segments(labels, rows.window, reward.device)
        self.keeps = [self._bins, *([] if self._segments is None else [self._segments])]

    def draw(self, anchors: Anchors) -> Partners:
        """Return a partner of each anchor, uniform over its label's other stored members (itself if it is alone)."""
        reader, generator, own = self.rows, anchors.generator, self.request.anchors == "segment"
        place = anchors.step, anchors.env, anchors.rows
        step, env, rows = self._drawn(*place, generator) if own else place
        bins = self._bins.of(rows)
        found, length, group = self._partners(step, env, rows, bins, generator)
        return Partners(
            obs=reader.stacks(found),
            action=reader.action(found),
            labelled=reader.send(found != rows),
            group=reader.send(group),
            anchor_bin=reader.send(bins),
            positive_bin=reader.send(self._bins.of(found)),
            length=reader.send(length),
            anchor_obs=reader.stacks(rows) if own else None,
            anchor_action=reader.action(rows) if own else None,
            anchor_time=seen_at(reader, rows) if self.request.time else None,
            positive_time=seen_at(reader, found) if self.request.time else None,
        )

    def _drawn(self, step: Tensor, env: Tensor, rows: Tensor, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Return steps, environments and flat rows drawn by a uniform choice of segment or bin.

        The given ones, of the same shape, are returned while no bin is known yet.
        """
        if self._segments is not None:
            step, env = self._segments.draw(len(rows), generator)
            return step, env, self.rows.window.rows(step, env)
        if self._bins.groups.empty:
            return step, env, rows
        return step, env, self._bins.groups.draw(len(rows), generator)

    def _partners(
        self, step: Tensor, env: Tensor, rows: Tensor, bins: Tensor, generator: Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return flat rows of partners, and the length and the number of what they share with the anchors."""
        if self._segments is None:
            return *self._bins.groups.partners(rows, bins, generator), bins
        first, stop = self._segments.extent(rows, env)
        length = stop - first
        other = draw_below((length - 1).clamp_min_(1), generator).add_(first)
        other += other >= step  # skips the anchor itself
        partner = torch.where(length > 1, other, step)
        return self.rows.window.rows(partner, env), length, self._segments.numbers(rows, env)
