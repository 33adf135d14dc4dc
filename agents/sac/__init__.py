"""Soft actor-critic."""

from .agent import SAC, SACConfig

__all__ = ["SAC", "SACConfig"]
