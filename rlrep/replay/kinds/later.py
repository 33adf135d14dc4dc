"""Observations that followed the RL batch's rows in their episodes."""

from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from ..pairs import Anchors, Request, Sampler, Viewing
from ..reader import Steps

Found = TypeVar("Found", bound="Later")


@dataclass(frozen=True)
class Later:
    """What followed the RL batch's rows, at K offsets, the largest of them T.

    obs `(K, B, ...)`: the observation so many steps on, the episode's last known one where it is not `valid`.
    valid `(K, B)` bool: the episode goes on for so long (its final observation counts) and has been seen so far.
    action `(T, B, ...)`: actions of the steps from the row's own on; meaningful up to a valid offset.
    """

    obs: Tensor
    valid: Tensor
    action: Tensor


@dataclass(frozen=True)
class LaterSteps(Request[Later]):
    """Asks for the observations so many agent steps after the RL batch's rows. Raises ValueError on offsets below 1."""

    offsets: tuple[int, ...]

    def __post_init__(self) -> None:
        if min(self.offsets, default=0) < 1:
            raise ValueError(f"later observations lie at least 1 agent step on, got offsets {list(self.offsets)}")

    def viewed(self, found: Later, view: Viewing) -> Later:
        return _viewed(found, view)


@dataclass(frozen=True)
class Unrolled(Later):
    """The T steps from the RL batch's rows on, one after another, as `Later` has them.

    reward `(T, B)`, terminated `(T, B)` bool: of these steps, meaningful where `valid`.
    """

    reward: Tensor
    terminated: Tensor


@dataclass(frozen=True)
class Unroll(Request[Unrolled]):
    """Asks for so many steps from the RL batch's rows on, with what each of them led to. Raises ValueError on fewer
    than 1."""

    steps: int

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"an unroll has at least 1 agent step, not {self.steps}")

    def viewed(self, found: Unrolled, view: Viewing) -> Unrolled:
        return _viewed(found, view)


class LaterSampler(Sampler[LaterSteps, Later], serves=LaterSteps):
    """Reads forward: the observation k steps on is the one that followed step k - 1."""

    capturable = True
    rows: Steps

    def __init__(self, request: LaterSteps, rows: Steps) -> None:
        super().__init__(request, rows)
        self._offset = torch.tensor(request.offsets, device=rows.home)[:, None]

    def draw(self, anchors: Anchors) -> Later:
        reader, offset = self.rows, self._offset
        rows, there = reader.ahead(anchors.step, anchors.env, max(self.request.offsets))
        return _later(reader, rows.T, there.sum(1), offset)


class UnrollSampler(Sampler[Unroll, Unrolled], serves=Unroll):
    """Reads forward, every step."""

    capturable = True
    rows: Steps

    def __init__(self, request: Unroll, rows: Steps) -> None:
        super().__init__(request, rows)
        self._offset = torch.arange(1, request.steps + 1, device=rows.home)[:, None]

    def draw(self, anchors: Anchors) -> Unrolled:
        reader = self.rows
        rows, there = reader.ahead(anchors.step, anchors.env, self.request.steps)
        rows = rows.T
        reward, terminated = (
            reader.send(reader.take(name, rows.reshape(-1))).view(rows.shape) for name in ("reward", "terminated")
        )
        later = _later(reader, rows, there.sum(1), self._offset)
        return Unrolled(later.obs, later.valid, later.action, reward, terminated)


def _later(reader: Steps, rows: Tensor, reach: Tensor, offset: Tensor) -> Later:
    """Read forward to offsets `(K, 1)` along rows `(T, B)`, of which the first `reach` `(B,)` are of the episode."""
    last = rows.gather(0, torch.minimum(offset, reach) - 1)
    obs = reader.stacks(last.reshape(-1), shift=1)
    action = reader.action(rows.reshape(-1))
    return Later(
        obs=obs.unflatten(0, last.shape),
        valid=reader.send(offset <= reach),
        action=action.unflatten(0, rows.shape),
    )


def _viewed(found: Found, view: Viewing) -> Found:
    return replace(found, obs=view(found.obs.flatten(0, 1)).unflatten(0, found.valid.shape))
