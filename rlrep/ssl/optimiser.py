"""The optimiser of a pretraining run and its learning rate over time."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from torch import Tensor, nn

from rlrep.nn import LARS, warmup_cosine
from rlrep.nn.optim import FusedAdam


class Optimiser(Protocol):
    """Takes gradients in the parameters' order; `lr` may be set between steps."""

    lr: float

    def step(self, gradients: list[Tensor]) -> None: ...
    def state(self) -> dict[str, Any]: ...
    def load_state(self, state: dict[str, Any]) -> None: ...


@dataclass(frozen=True)
class OptimiserConfig:
    """name: `adamw`, `sgd` (with momentum) or `lars` (trust ratio `eta`).

    lr: learning rate, multiplied by batch / 256 (`lr_scale=linear`), by the root of the batch (`sqrt`), or by 1.
    weight_decay: times the rate. warmup: share of training in which the rate rises from 0. schedule: after that, half a
    cosine down to `final` times the rate, or constant.
    """

    name: Literal["adamw", "sgd", "lars"] = "sgd"
    lr: float = 0.03
    lr_scale: Literal["linear", "sqrt", "none"] = "linear"
    momentum: float = 0.9
    weight_decay: float = 1e-4
    eta: float = 0.001
    warmup: float = 0.0
    schedule: Literal["cosine", "constant"] = "cosine"
    final: float = 0.0

    def __post_init__(self) -> None:
        if not self.lr > 0 or not 0.0 <= self.warmup < 1.0 or self.weight_decay < 0 or not 0.0 <= self.momentum < 1.0:
            raise ValueError(
                f"lr must be positive, weight_decay at least 0, warmup and momentum in [0, 1), not "
                f"{self.lr}, {self.weight_decay}, {self.warmup} and {self.momentum}"
            )

    def make(self, parameters: Sequence[nn.Parameter], batch_size: int) -> Optimiser:
        """Build the optimiser; its `lr` is the full rate for this batch size."""
        lr, listed = self.rate(batch_size), list(parameters)
        if self.name == "adamw":
            return FusedAdam(listed, lr, weight_decay=self.weight_decay)
        return LARS(
            listed,
            lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            eta=self.eta if self.name == "lars" else None,
            rate_inside=self.name == "lars",
        )

    def rate(self, batch_size: int) -> float:
        """Return the full learning rate for a batch size (all processes together)."""
        scales: dict[str, float] = {"linear": batch_size / 256, "sqrt": math.sqrt(batch_size), "none": 1.0}
        return self.lr * scales[self.lr_scale]

    def factor(self, step: int, total: int) -> float:
        """Return the share of the full rate at `step` of `total` (the first is 0, and gets a part of the warm-up)."""
        warmup = round(self.warmup * total)
        if step < warmup:
            return (step + 1) / (warmup + 1)
        if self.schedule == "constant":
            return 1.0
        return warmup_cosine(step, total=total, warmup=warmup, final=self.final)
