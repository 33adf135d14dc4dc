"""`agent=pearl`: its settings, and the agent they make."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from gymnasium import spaces

from rlrep.nn import IdentityConfig
from rlrep.nn.graph import CompileMode
from rlrep.views import View

from ..learner import Setting
from .agent import PEARL
from .settings import PEARLSettings, Task


@dataclass(frozen=True)
class PEARLConfig(PEARLSettings):
    """Settings of `agent=pearl` (see `PEARLSettings`), which build the agent."""

    def make_meta(
        self,
        observation_space: spaces.Box,
        action_space: Any,
        *,
        tasks: Sequence[Task],
        horizon: int,
        encoder: Any,
        augment: View,
        aux: Mapping[str, Any],
        device: torch.device,
        seed: int,
        compile: CompileMode,
    ) -> PEARL:
        """Build the agent for these training tasks, whose episodes last at most `horizon` agent steps.

        Raises ValueError if the parts do not fit: actions, observations, heads, or windows longer than the episodes.
        """
        low, high = getattr(action_space, "low", None), getattr(action_space, "high", None)
        if low is None or high is None or not ((low == -1).all() and (high == 1).all()):
            raise ValueError(f"agent=pearl needs continuous actions in [-1, 1], this environment has {action_space}")
        if not isinstance(encoder, IdentityConfig):
            raise ValueError("agent=pearl encodes transitions, and reads states as they are: choose encoder=identity")
        needed = min(self.meta_batch, len(tasks))
        if self.capacity < needed * horizon:
            raise ValueError(
                f"agent.capacity={self.capacity} does not hold an episode of {horizon} steps of each of the {needed} "
                f"tasks of an update"
            )
        setting = Setting(observation_space, action_space, 1, 1, encoder, augment, aux, device, seed, compile)
        return PEARL(self.for_horizon(horizon), setting, tasks, horizon)

    def for_horizon(self, horizon: int) -> "PEARLConfig":
        """Return the settings for episodes of at most so many agent steps: see `context_size`."""
        explored = -(-self.prior_steps // horizon) * horizon
        fits = self.context_draw == "transitions" or self.context_size <= explored
        return self if fits else replace(self, context_size=explored)
