"""Agents, and what they are made of."""

from .heads import Heads, Losses
from .learner import Outcome
from .online import OnlineAgent, make_parts
from .optimisers import Apart, Optimisers

__all__ = ["Apart", "Heads", "Losses", "OnlineAgent", "Optimisers", "Outcome", "make_parts"]
