"""MR.Q: a deterministic actor-critic on a representation that a model of the environment has made."""

from .agent import MRQ
from .config import MRQConfig

__all__ = ["MRQ", "MRQConfig"]
