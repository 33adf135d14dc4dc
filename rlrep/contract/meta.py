"""What is collected of the tasks of a family: jobs of stages, and the episodes they bring."""

from dataclasses import dataclass

from .env import Array


@dataclass(frozen=True)
class Trajectory:
    """One whole episode of L steps.

    obs `(L + 1, S)`, action `(L, A)`, reward `(L,)`, all float32. context_reward `(L,)`: what a context shows.
    terminated: whether the task ended it (not a time limit).
    """

    obs: Array
    action: Array
    reward: Array
    context_reward: Array
    terminated: bool

    def __len__(self) -> int:
        return len(self.action)


@dataclass(frozen=True)
class Stage:
    """At least `steps` agent steps in whole episodes, by latents of the prior or (informed) of the task's belief.

    context: whether the episodes become context.
    """

    steps: int
    informed: bool
    context: bool


@dataclass(frozen=True)
class Job:
    """What is collected of one task, stage after stage."""

    task: int
    stages: tuple[Stage, ...]
