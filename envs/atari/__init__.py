"""Atari games of the Arcade Learning Environment."""

from .env import Atari

__all__ = ["Atari"]
