"""When the RL batch's rows were seen, in which episode."""

from dataclasses import dataclass

from torch import Tensor

from ..pairs import Anchors, Request, Sampler
from ..reader import Steps


@dataclass(frozen=True)
class Time:
    """When B rows were seen. episode: int64, equal within one episode only. step: int64, counts agent steps."""

    episode: Tensor
    step: Tensor


@dataclass(frozen=True)
class SeenAt(Request[Time]):
    """Asks when the RL batch's rows were seen."""


class SeenAtSampler(Sampler[SeenAt, Time], serves=SeenAt):
    """Looks it up."""

    capturable = True
    rows: Steps

    def draw(self, anchors: Anchors) -> Time:
        return seen_at(self.rows, anchors.rows)


def seen_at(steps: Steps, rows: Tensor) -> Time:
    """Return when the given flat rows `(B,)` were seen."""
    envs = steps.window.num_envs
    episode = steps.take("first", rows).long() * envs + rows.remainder(envs)
    return Time(steps.send(episode), steps.send(steps.window.steps_of(rows)))
