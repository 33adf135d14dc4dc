"""Self-supervised learning from images and frames: methods as compositions, their training, and their evaluation."""

from .adversarial import AdversarialContrast
from .adversarial_autoencoder import AdversarialAutoencoder
from .autoencoder import Autoencoder
from .base import Method, MethodConfig
from .batch import DataShape, ImageBatch, LabelledSubset, Needs
from .classifier import Classifier, LinearHead
from .comatch import CoMatch
from .joint import JointEmbedding
from .labelled import LabelledContrast
from .learner import Learner, Length
from .local import LocalContrast
from .optimiser import OptimiserConfig
from .robust import RobustClassifier
from .target import TargetEmbedding
from .video import VideoContrast

__all__ = [
    "AdversarialAutoencoder",
    "AdversarialContrast",
    "Autoencoder",
    "Classifier",
    "CoMatch",
    "DataShape",
    "ImageBatch",
    "JointEmbedding",
    "LabelledContrast",
    "LabelledSubset",
    "Learner",
    "Length",
    "LinearHead",
    "LocalContrast",
    "Method",
    "MethodConfig",
    "Needs",
    "OptimiserConfig",
    "RobustClassifier",
    "TargetEmbedding",
    "VideoContrast",
]
