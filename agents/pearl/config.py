"""`agent=pearl`: its settings, and the agent they make."""

from dataclasses import dataclass, replace

from gymnasium import spaces

from rlrep.contract.agent import AgentSpec
from rlrep.nn import IdentityConfig

from .agent import PEARL
from .settings import PEARLSettings


@dataclass(frozen=True)
class PEARLConfig(PEARLSettings):
    """Settings of `agent=pearl` (see `PEARLSettings`), which build the agent."""

    def make_meta(self, spec: AgentSpec) -> PEARL:
        """Build the agent for these training tasks, whose episodes last at most `horizon` agent steps.

        Raises ValueError if the parts do not fit: actions, observations, heads, or windows longer than the episodes.
        """
        space = spec.action_space
        if not (isinstance(space, spaces.Box) and (space.low == -1).all() and (space.high == 1).all()):
            raise ValueError(f"agent=pearl needs continuous actions in [-1, 1], this environment has {space}")
        if not isinstance(spec.encoder, IdentityConfig):
            raise ValueError("agent=pearl encodes transitions, and reads states as they are: choose encoder=identity")
        needed = min(self.meta_batch, len(spec.tasks))
        if self.capacity < needed * spec.horizon:
            raise ValueError(
                f"agent.capacity={self.capacity} does not hold an episode of {spec.horizon} steps of each of the "
                f"{needed} tasks of an update"
            )
        return PEARL(self.for_horizon(spec.horizon), spec)

    def for_horizon(self, horizon: int) -> "PEARLConfig":
        """Return the settings for episodes of at most so many agent steps: see `context_size`."""
        explored = -(-self.prior_steps // horizon) * horizon
        fits = self.context_draw == "transitions" or self.context_size <= explored
        return self if fits else replace(self, context_size=explored)
