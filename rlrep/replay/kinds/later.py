"""Observations that followed the RL batch's rows in their episodes."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..pairs import Anchors, Request, Sampler, Viewing
from ..reader import Steps


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
        frames = view(found.obs.flatten(0, 1))
        return replace(found, obs=frames.unflatten(0, found.valid.shape))


class LaterSampler(Sampler[LaterSteps, Later], serves=LaterSteps):
    """Reads forward: the observation k steps on is the one that followed step k - 1."""

    rows: Steps

    def __init__(self, request: LaterSteps, rows: Steps) -> None:
        super().__init__(request, rows)
        self._offset = torch.tensor(request.offsets, device=rows.home)[:, None]

    def draw(self, anchors: Anchors) -> Later:
        reader, offset = self.rows, self._offset
        rows, there = reader.ahead(anchors.step, anchors.env, max(self.request.offsets))
        rows, reach = rows.T, there.sum(1)
        last = rows.gather(0, torch.minimum(offset, reach) - 1)
        obs = reader.stacks(last.reshape(-1), shift=1)
        action = reader.action(rows.reshape(-1))
        return Later(
            obs=obs.unflatten(0, last.shape),
            valid=reader.send(offset <= reach),
            action=action.unflatten(0, rows.shape),
        )
