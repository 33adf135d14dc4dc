"""Contrast core: objectives, queues, targets, heads and meters. It knows nothing of RL."""

from .agreement import barlow_twins, negative_cosine, pair_regression, vicreg
from .attack import pgd
from .batchnorm import SplitBatchNorm
from .directpred import DirectPredictor
from .distributed import gather_with_grad
from .family import diagonal_cross_entropy, weighted_mean
from .meters import align, effective_rank, feature_correlation, feature_std, uniform
from .objectives import (
    bilinear_info_nce,
    bilinear_logits,
    debiased_nt_xent,
    hard_nt_xent,
    info_nce,
    latent_contrast,
    model_contrast,
    nt_xent,
    suncet,
    sup_con,
)
from .posteriors import (
    distance_metric,
    mahalanobis_info_nce,
    mahalanobis_logits,
    wasserstein_info_nce,
    wasserstein_logits,
)
from .probabilities import early_learning, graph_contrast
from .projectors import Bilinear, Predictor, Projector
from .queue import MemoryQueue, mix_hard_negatives
from .targets import MomentumTarget
from .transport import cacr
from .whitening import GroupWhitening

__all__ = [
    "Bilinear",
    "DirectPredictor",
    "GroupWhitening",
    "MemoryQueue",
    "MomentumTarget",
    "Predictor",
    "Projector",
    "SplitBatchNorm",
    "align",
    "barlow_twins",
    "bilinear_info_nce",
    "bilinear_logits",
    "cacr",
    "debiased_nt_xent",
    "diagonal_cross_entropy",
    "distance_metric",
    "early_learning",
    "effective_rank",
    "feature_correlation",
    "feature_std",
    "gather_with_grad",
    "graph_contrast",
    "hard_nt_xent",
    "info_nce",
    "latent_contrast",
    "mahalanobis_info_nce",
    "mahalanobis_logits",
    "mix_hard_negatives",
    "model_contrast",
    "negative_cosine",
    "nt_xent",
    "pair_regression",
    "pgd",
    "suncet",
    "sup_con",
    "uniform",
    "vicreg",
    "wasserstein_info_nce",
    "wasserstein_logits",
    "weighted_mean",
]
