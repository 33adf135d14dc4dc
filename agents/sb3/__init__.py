"""Stable-Baselines3: its algorithms with rlrep's heads, and as agents of rlrep's own loop."""

from .config import SB3DQNConfig, SB3SACConfig
from .extractor import EncoderExtractor, MLPExtractor, OwnExtractor
from .mixin import AuxDQN, AuxMixin, AuxSAC
from .replay import AuxNStepReplayBuffer, AuxReplayBuffer

__all__ = [
    "AuxDQN",
    "AuxMixin",
    "AuxNStepReplayBuffer",
    "AuxReplayBuffer",
    "AuxSAC",
    "EncoderExtractor",
    "MLPExtractor",
    "OwnExtractor",
    "SB3DQNConfig",
    "SB3SACConfig",
]
