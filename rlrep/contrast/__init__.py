"""Contrast core: objectives, targets, heads and meters. It knows nothing of RL."""

from .heads import Bilinear
from .meters import effective_rank, feature_std
from .objectives import bilinear_info_nce, pair_regression
from .targets import MomentumTarget

__all__ = ["Bilinear", "MomentumTarget", "bilinear_info_nce", "effective_rank", "feature_std", "pair_regression"]
