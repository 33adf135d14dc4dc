"""What is known of an agent's updates: means of their metrics, the spread of latents, and how hard heads pull."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rlrep.contrast import effective_rank, feature_std
from rlrep.heads import Metrics

from .heads import Heads, Losses
from .meeting import LEAST, Gradients, Owned, total_norm

Named = tuple[str, ...]


@dataclass(frozen=True)
class Scalars:
    """Named metrics in one tensor `(len(names),)`, so that an update hands over and adds up one tensor instead of
    twenty."""

    names: Named
    values: Tensor

    @staticmethod
    def stack(metrics: Metrics) -> "Scalars":
        """Join scalar tensors."""
        return Scalars(tuple(metrics), torch.stack([value.float() for value in metrics.values()]))

    def read(self) -> dict[str, float]:
        """Return the values by name (reads from the device)."""
        return dict(zip(self.names, self.values.tolist(), strict=True))


class Means:
    """Means of metrics since they were last read, and the metrics of the last update.

    Sums stay where they are, so that a CUDA graph can add to them; how often it did is counted outside.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._sums: dict[Named, Tensor] = {}
        self._counts: dict[Named, int] = {}
        self._last: Sequence[Scalars] = ()

    def add(self, metrics: Sequence[Scalars]) -> None:
        """Take an update's metrics."""
        self.sum(metrics)
        self.count(metrics)

    def sum(self, metrics: Sequence[Scalars]) -> None:
        """Add an update's metrics up, which `count` is told of, too."""
        for scalars in metrics:
            self._sum(scalars.names, scalars.values).add_(scalars.values)

    def count(self, metrics: Sequence[Scalars]) -> None:
        """Take note of metrics that were added up."""
        self._last = metrics
        for scalars in metrics:
            self._counts[scalars.names] = self._counts.get(scalars.names, 0) + 1

    def _sum(self, names: Named, like: Tensor) -> Tensor:
        if names not in self._sums:
            self._sums[names] = torch.zeros_like(like, device=self._device)
        return self._sums[names]

    def read(self) -> dict[str, float]:
        """Return means since the last call (reads from the device)."""
        means = [Scalars(names, self._sums[names] / count) for names, count in self._counts.items()]
        self._forget()
        return {name: value for scalars in means for name, value in scalars.read().items()}

    def _forget(self) -> None:
        for total in self._sums.values():
            total.zero_()
        self._counts = {}

    def nonfinite(self) -> list[str]:
        """Name the metrics of the last update that are NaN or infinite (reads from the device)."""
        bad = [scalars for scalars in self._last if not scalars.values.isfinite().all()]
        return [name for scalars in bad for name, value in scalars.read().items() if not math.isfinite(value)]

    def state(self) -> list[Any]:
        """Return the sums."""
        return [[list(names), self._sums[names].clone(), count] for names, count in self._counts.items()]

    def load_state(self, sums: Sequence[Any]) -> None:
        """Restore `state()`."""
        self._forget()
        for names, total, count in sums:
            self._sum(tuple(names), total).copy_(total)
            self._counts[tuple(names)] = count


def spread(latent: Tensor) -> Metrics:
    """Return effective rank and spread of a batch's latents `(B, D)`."""
    latent = latent.detach()
    return {"rep/effective_rank": effective_rank(latent), "rep/feature_std": feature_std(latent)}


def pulls(heads: Heads, losses: Losses[Any], owned: Owned) -> Metrics:
    """Return the norm of each head's gradient over the RL loss's, as it enters the step; 1 = both pull as hard.

    `grad_ratio`: at the latent, of heads that read it. `grad_ratio_encoder`: by the encoder's parameters. With
    `pull=own` it is the ratio of the plain losses.
    """
    found: Metrics = {}
    if not heads.tasks:  # and perhaps nothing of the encoder is trained
        return found
    meeting = losses.meeting(owned.encoder)
    rl_at, _ = meeting.split(losses.rl, [], apart=False)
    rl_encoder = meeting.carry(rl_at) if losses.meet_at_latent else rl_at
    for name, loss in losses.heads.items():
        at, _ = meeting.split(loss.value, [], apart=loss.apart)
        factor, key = heads.factor_now(name, at, apart=loss.apart), f"aux/{name}/grad_ratio"
        if not loss.apart:
            found[key] = factor * ratio(at, rl_at)
        by_encoder = at if loss.apart else meeting.split(loss.value, [], apart=True)[0]
        found[f"{key}_encoder"] = factor * ratio(by_encoder, rl_encoder)
    return found


def ratio(first: Gradients, second: Gradients) -> Tensor:
    """Return the norm of one gradient over another's, 0 where the other is none."""
    norm = total_norm(second)
    return total_norm(first) / norm.clamp(min=LEAST) * (norm > LEAST)
