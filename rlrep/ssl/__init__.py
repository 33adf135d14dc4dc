"""Self-supervised learning from images and frames: methods as compositions, their training, and their evaluation."""

from .adversarial import AdversarialContrast
from .autoencoder import Autoencoder
from .base import Method, MethodConfig
from .batch import ImageBatch, LabelledSubset, Needs
from .heads import HardMixing, LearnedPredictor, Momentum, Projection, Queue, SetPredictor, Whitening
from .joint import JointEmbedding
from .labelled import LabelledContrast
from .learner import Learner, Length
from .objectives import (
    BarlowTwins,
    Contrast,
    HardNTXent,
    NTXent,
    Regression,
    SquaredDistance,
    Suncet,
    SupCon,
    Transport,
    VICReg,
)
from .optimiser import OptimiserConfig
from .target import TargetEmbedding

__all__ = [
    "AdversarialContrast",
    "Autoencoder",
    "BarlowTwins",
    "Contrast",
    "HardMixing",
    "HardNTXent",
    "ImageBatch",
    "JointEmbedding",
    "LabelledContrast",
    "LabelledSubset",
    "LearnedPredictor",
    "Learner",
    "Length",
    "Method",
    "MethodConfig",
    "Momentum",
    "NTXent",
    "Needs",
    "OptimiserConfig",
    "Projection",
    "Queue",
    "Regression",
    "SetPredictor",
    "SquaredDistance",
    "Suncet",
    "SupCon",
    "TargetEmbedding",
    "Transport",
    "VICReg",
    "Whitening",
]
