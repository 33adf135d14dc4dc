"""Auxiliary tasks for RL: each names what it needs in a batch and returns a loss on the agent's latents."""

from .base import AuxConfig, AuxTask, Encoded, Encoders, Metrics
from .instance_contrast import InstanceContrast
from .return_contrast import ReturnContrast

__all__ = ["AuxConfig", "AuxTask", "Encoded", "Encoders", "InstanceContrast", "Metrics", "ReturnContrast"]
