"""PEARL: context-based meta-RL on SAC (Rakelly et al. 2019, arXiv 1903.08254)."""

from .agent import PEARL
from .config import PEARLConfig

__all__ = ["PEARL", "PEARLConfig"]
