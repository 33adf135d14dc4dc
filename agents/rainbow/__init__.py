"""Rainbow, and what is left of it with parts switched off: C51, DQN, DrQ(ε)."""

from .agent import Rainbow, RainbowConfig

__all__ = ["Rainbow", "RainbowConfig"]
