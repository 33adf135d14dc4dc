"""Where a run stands."""

import time
from dataclasses import dataclass, field

from rlrep.contract.env import Tree


@dataclass
class Counters:
    """Steps and time of a run over all its sessions.

    agent_steps: for pretraining, updates.
    evaluations: number of the last finished periodic evaluation.
    wall_seconds: of earlier sessions, up to the checkpoint.
    """

    agent_steps: int = 0
    evaluations: int = 0
    wall_seconds: float = 0.0
    _started: float = field(default_factory=time.monotonic)

    def elapsed_seconds(self) -> float:
        """Seconds of training, all sessions together."""
        return self.wall_seconds + time.monotonic() - self._started

    def state(self) -> Tree:
        """Return the counters."""
        return {
            "agent_steps": self.agent_steps,
            "evaluations": self.evaluations,
            "wall_seconds": self.elapsed_seconds(),
        }

    def load_state(self, state: Tree) -> None:
        """Continue from a checkpoint's counters."""
        self.agent_steps, self.evaluations = state["agent_steps"], state["evaluations"]
        self.wall_seconds, self._started = state["wall_seconds"], time.monotonic()


def crossed(before: int, after: int, every: int) -> bool:
    """Whether a multiple of `every` lies in (before, after]; never for `every` 0."""
    return every > 0 and after // every > before // every
