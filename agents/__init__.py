"""Agents, and what they are made of."""

from .heads import Heads, Losses
from .learner import Outcome
from .online import Exploring, OnlineAgent, make_parts
from .optimisers import Apart, Optimisers

__all__ = ["Apart", "Exploring", "Heads", "Losses", "OnlineAgent", "Optimisers", "Outcome", "make_parts"]
