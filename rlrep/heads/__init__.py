"""Auxiliary tasks for RL: each names what it needs in a batch and returns a loss on the agent's latents."""

from rlrep.contrast.parts import Metrics

from .autoencoder import Autoencoder
from .base import Encoded, Encoders, Head, HeadConfig, Pull, Rollout
from .comatch_return import CoMatchReturn
from .frame_drop import FrameDropContrast
from .instance_contrast import InstanceContrast
from .latent_contrast import LatentContrast
from .redundancy_reduction import RedundancyReduction
from .return_contrast import ReturnContrast
from .self_distillation import SelfDistillation
from .self_prediction import SelfPrediction
from .temporal_contrast import TemporalContrast
from .trajectory_contrast import TrajectoryContrast

__all__ = [
    "Autoencoder",
    "CoMatchReturn",
    "Encoded",
    "Encoders",
    "FrameDropContrast",
    "Head",
    "HeadConfig",
    "InstanceContrast",
    "LatentContrast",
    "Metrics",
    "Pull",
    "RedundancyReduction",
    "ReturnContrast",
    "Rollout",
    "SelfDistillation",
    "SelfPrediction",
    "TemporalContrast",
    "TrajectoryContrast",
]
