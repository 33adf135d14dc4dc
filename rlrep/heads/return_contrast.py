"""Return-based contrast of state-actions (RCRL: Liu et al. 2021, arXiv 2102.10960)."""

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from gymnasium import spaces
from torch import Tensor, nn

from rlrep.contrast import MomentumTarget, bilinear_info_nce, pair_regression, sup_con
from rlrep.contrast.parts import Metrics, in_batch_health, label_health, masked_share, same_known
from rlrep.replay import UNKNOWN, Batch, Needs, Pairs, Partners, ReturnLabels, SameReturn, Time
from rlrep.settings import ranges
from rlrep.views.base import View

from .actions import action_dim, join_action, state_action_projector
from .base import Encoded, Encoders, Head
from .branches import make_projector
from .negatives import NegativeMask, Origin, has_negative
from .return_classifier import ReturnClassifierHead


@dataclass(frozen=True)
class ReturnContrast(NegativeMask):
    """Settings of `aux=return_contrast`, beside those of `NegativeMask`.

    mode, threshold, segments, max_length, bins, binning, discount, horizon: the labels, see `ReturnLabels`.
    objective: `bilinear_info_nce` (in-batch negatives), `pair_regression` (the theory's squared loss on a pair
        discriminator), `sup_con` (Khosla et al. 2020: all that share a known return bin attract, form `out`), or
        `classify` (cross entropy with the bin, see `ReturnClassifierHead`; no partners, so `mode` does not matter).
    early: weight of early-learning regularisation beside `classify`, against wrong labels; 0 = cross entropy alone.
    anchors: `batch` = the RL batch's own state-actions, `segment` = drawn by a uniform choice of segment.
    hidden_dim, embedding_dim: of the state-action projector. tau: EMA rate of its momentum copy.
    view: augmentation of the partners (None = the agent's own).
    """

    mask_same_return: bool = True
    mode: Literal["reward_event", "return_threshold", "return_bin"] = "return_threshold"
    threshold: float | None = None
    segments: int = 20
    max_length: int | None = None
    objective: Literal["bilinear_info_nce", "pair_regression", "sup_con", "classify"] = "bilinear_info_nce"
    early: float = 3.0
    anchors: Literal["batch", "segment"] = "batch"
    hidden_dim: int = 256
    embedding_dim: int = 128
    temperature: float = 1.0
    tau: float = 0.05
    view: View | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.labels  # whose numbers out of range are refused
        ranges.at_least(self, 0, ("early",))
        ranges.at_least(self, 1, ("hidden_dim", "embedding_dim"))
        ranges.positive(self, ("temperature",))
        ranges.part(self, ("tau",))

    @property
    def labels(self) -> ReturnLabels:
        """The labelling rule."""
        segments, length = self.segments, self.max_length
        return replace(self.binned, mode=self.mode, threshold=self.threshold, segments=segments, max_length=length)

    def make(self, name: str, latent_dim: int, action_space: spaces.Space[Any]) -> Head:
        if self.objective == "classify":
            return ReturnClassifierHead(self, latent_dim, action_dim(action_space), early=self.early)
        return ReturnContrastHead(self, latent_dim, action_dim(action_space))


class ReturnContrastHead(Head):
    """Tells state-actions of one return segment (or bin) from those of others.

    Queries: online encoder and projector on (state, action). Keys: the EMA encoder and projector on the partner,
    without gradient.
    """

    stacks = True

    def __init__(self, config: ReturnContrast, latent_dim: int, action_dim: int) -> None:
        super().__init__()
        self.config = config
        self.action_dim = action_dim
        self.partners = SameReturn(config.labels, config.anchors, time=config.mask_within is not None)
        self.needs = Needs((self.partners,), config.view)
        self.projector = state_action_projector(latent_dim + action_dim, config.hidden_dim, config.embedding_dim)
        self.target_projector = MomentumTarget(self.projector, config.tau)
        width = config.embedding_dim
        # Bilinear form scaled so that the first logits are of order one (CURL's U[0, 1) needs its 50 wide latent).
        bilinear, pairs = config.objective == "bilinear_info_nce", config.objective == "pair_regression"
        self.bilinear = nn.Parameter(torch.eye(width) / width**0.5) if bilinear else None
        self.discriminator = make_projector(4 * width, config.hidden_dim, 1) if pairs else None

    def loss(self, batch: Batch, pairs: Pairs, encoded: Encoded, encoders: Encoders) -> tuple[Tensor, Metrics]:
        found = pairs[self.partners]
        query = self.projector(join_action(*self._anchors(found, batch, encoded, encoders), self.action_dim))
        with torch.no_grad():
            key = self.target_projector(join_action(encoders.target(found.obs), found.action, self.action_dim))
        by_label = self.config.objective == "sup_con"
        loss, health = (self._label_loss if by_label else self._partner_loss)(query, key, found)
        return loss, health | label_quality(found)

    def after_update(self) -> None:
        self.target_projector.update()

    def score(self, first: Tensor, second: Tensor) -> Tensor:
        """Probability that two embeddings `(B, E)` have different returns, before any squashing. Returns `(B,)`."""
        assert self.discriminator is not None
        features = torch.cat([first, second, (first - second).abs(), first * second], 1)
        return self.discriminator(features).squeeze(1)  # type: ignore[no-any-return]

    def _anchors(self, pairs: Partners, batch: Batch, encoded: Encoded, encoders: Encoders) -> tuple[Tensor, Tensor]:
        if pairs.anchor_obs is None or pairs.anchor_action is None:
            return encoded.latent, batch.action
        return encoders.online(pairs.anchor_obs), pairs.anchor_action

    def _partner_loss(self, query: Tensor, key: Tensor, pairs: Partners) -> tuple[Tensor, Metrics]:
        """Each labelled anchor's partner against the others' partners."""
        negative = self._negatives(*self._origins(pairs))
        counted = pairs.labelled & has_negative(negative)
        health = in_batch_health(query, key, self.bilinear, valid=negative, row_weight=counted.float())
        health |= {"masked": masked_share(negative), "counted": counted.float().mean()}
        if self.bilinear is None:
            return self._pair_loss(query, key, negative, counted), health
        weight, t = counted.float(), self.config.temperature
        loss = bilinear_info_nce(query, key, self.bilinear, temperature=t, valid=negative, row_weight=weight)
        return loss, health

    def _origins(self, pairs: Partners) -> tuple[Origin, Origin]:
        """Of the anchors and of the partners."""
        masked = self.config.mask_same_return
        return (
            Origin(pairs.anchor_bin if masked else None, pairs.anchor_time, pairs.group),
            Origin(pairs.positive_bin if masked else None, pairs.positive_time, pairs.group),
        )

    def _negatives(self, anchor: Origin, other: Origin) -> Tensor:
        negative = self.config.valid(anchor, other)
        assert negative is not None, "pairs have groups, which are masked always"
        return negative

    def _pair_loss(self, query: Tensor, key: Tensor, negative: Tensor, counted: Tensor) -> Tensor:
        """One positive and one negative (the nearest row's before it that is one) per anchor that counts.

        Exactly 1:1: the minimiser, 1 - Z Z', moves with the share of positives.
        """
        other = nearest_negative(negative)
        weight = counted.repeat(2).float()
        score = torch.cat([self.score(query, key), self.score(query, key[other])])
        same = torch.cat([torch.ones_like(counted), torch.zeros_like(counted)])
        # A pair of weight 0 gets residual 0; the mean is then over the pairs that count.
        loss = pair_regression(score * weight, same | (weight == 0))
        return loss * weight.numel() / weight.sum().clamp(min=1)

    def _label_loss(self, query: Tensor, key: Tensor, pairs: Partners) -> tuple[Tensor, Metrics]:
        """Supervised contrast among anchors and partners; those of unknown return neither attract nor repel."""
        z, origin = torch.cat([query, key]), _joined(*self._origins(pairs))
        bins = torch.cat([pairs.anchor_bin, pairs.positive_bin])
        known, same = bins != UNKNOWN, same_known(bins, bins)
        labels = torch.where(known, bins, UNKNOWN - 1 - torch.arange(len(z), device=z.device))
        negative = known[None, :] & self._negatives(origin, origin)
        counted = pairs.labelled.repeat(2) & has_negative(negative & ~same)
        t = self.config.temperature
        loss = sup_con(z[:, None], labels, temperature=t, valid=negative, row_weight=counted.float())
        others = same & ~torch.eye(len(z), dtype=torch.bool, device=z.device)
        return loss, label_health(z, same) | {"counted": (counted & others.any(1)).float().mean()}


@torch.no_grad()
def label_quality(pairs: Partners) -> Metrics:
    """How good the return labels are.

    same_return_rate: partners of labelled anchors, of those whose known return bin is the anchor's.
    false_negative_rate: negatives (before any masking) known to share it.
    Both are over pairs with both bins known, 0 while there are none.
    labelled: anchors with a partner. lone: anchors that are alone in their group; the rest have no group yet.
    segment_length: agent steps.
    """
    known = (pairs.anchor_bin[:, None] != UNKNOWN) & (pairs.positive_bin[None, :] != UNKNOWN)
    same = same_known(pairs.anchor_bin, pairs.positive_bin)
    off = ~torch.eye(len(known), dtype=torch.bool, device=known.device)
    return {
        "same_return_rate": (same.diagonal() & pairs.labelled).sum()
        / (known.diagonal() & pairs.labelled).sum().clamp(min=1),
        "false_negative_rate": (same & off).sum() / (known & off).sum().clamp(min=1),
        "labelled": pairs.labelled.float().mean(),
        "lone": (~pairs.labelled & (pairs.group != UNKNOWN)).float().mean(),
        "segment_length": pairs.length.float().mean(),
    }


def nearest_negative(negative: Tensor) -> Tensor:
    """Return `(N,)` int64: for every row the nearest one before it (in a circle) that is a negative, itself if none is.

    negative: `(N, N)` bool, its diagonal does not matter.
    """
    rows = torch.arange(len(negative), device=negative.device)
    before = (rows[:, None] - 1 - rows).remainder(len(rows))  # column k: k + 1 rows back, the last: the row itself
    found = (negative.gather(1, before) | (before == rows[:, None])).byte().argmax(1, keepdim=True)
    return before.gather(1, found).squeeze(1)


def _joined(first: Origin, second: Origin) -> Origin:
    """Return the origin of the anchors and then the partners."""
    time = None
    if first.time is not None and second.time is not None:
        both = ((first.time.episode, second.time.episode), (first.time.step, second.time.step))
        time = Time(*(torch.cat(part) for part in both))
    return Origin(_cat(first.bin, second.bin), time, _cat(first.group, second.group))


def _cat(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    return None if first is None or second is None else torch.cat([first, second])
