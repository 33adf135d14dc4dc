"""How good return labels are."""

import torch

from rlrep.contrast.parts import Metrics, same_known
from rlrep.replay import UNKNOWN, Partners


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
