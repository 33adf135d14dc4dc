"""The DeepMind Control Suite."""

from .env import DMC

__all__ = ["DMC"]
