"""Momentum SGD with layer-wise rates, and the schedule that goes with it."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .optim import take_up


class LARS:
    """Layer-wise adaptive rate scaling (You et al. 2017, arXiv 1708.03888, algorithm 1), as SimCLR's code has it:

        g <- g + weight_decay * w;   trust = eta * |w| / |g|  (1 where either norm is 0)
        v <- momentum * v + lr * trust * g;   w <- w - v

    Biases and normalisation weights (`ndim <= 1`) are neither decayed nor adapted: their trust is 1. eta: None = trust
    1 everywhere, which is SGD with momentum. rate_inside: as above; False = `w <- w - lr * v` with the rate outside of
    the momentum, as MoCo v3 and torch.optim.SGD have it (the two differ while lr changes).
    parameters: float tensors on one device. `lr` may be set between steps.
    """

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        lr: float,
        *,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        eta: float | None = 0.001,
        rate_inside: bool = True,
    ) -> None:
        self.parameters: list[Tensor] = list(parameters)
        self.lr, self.momentum, self.weight_decay = lr, momentum, weight_decay
        self.eta, self.rate_inside = eta, rate_inside
        self._velocity = [torch.zeros_like(parameter) for parameter in parameters]
        self._matrices = [i for i, parameter in enumerate(parameters) if parameter.ndim > 1]

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor]) -> None:
        """Apply gradients given in the parameters' order; they are not changed. Never waits for the device."""
        steps = self._adapt(list(gradients))
        if self.rate_inside:
            torch._foreach_mul_(steps, self.lr)
        torch._foreach_mul_(self._velocity, self.momentum)
        torch._foreach_add_(self._velocity, steps)
        torch._foreach_sub_(self.parameters, self._velocity, alpha=1.0 if self.rate_inside else self.lr)

    def _adapt(self, gradients: list[Tensor]) -> list[Tensor]:
        """Return the decayed gradients times their trust."""
        steps = list(torch._foreach_mul(gradients, 1.0))
        weights, matrices = [self.parameters[i] for i in self._matrices], [steps[i] for i in self._matrices]
        if not matrices:
            return steps
        torch._foreach_add_(matrices, weights, alpha=self.weight_decay)
        if self.eta is not None:
            of_weights, of_gradients = (torch.stack(torch._foreach_norm(each)) for each in (weights, matrices))
            trust = self.eta * of_weights / of_gradients
            trust = torch.where((of_weights > 0) & (of_gradients > 0), trust, 1.0)
            torch._foreach_mul_(matrices, list(trust.unbind()))
        return steps

    def state(self) -> dict[str, Any]:
        """Return the momentum buffers in parameter order."""
        return {"velocity": self._velocity}

    def load_state(self, state: dict[str, Any]) -> None:
        """Copy saved buffers into the existing layout. Raises ValueError if they belong to other parameters."""
        take_up(self._velocity, state["velocity"])


def warmup_cosine(step: int, *, total: int, warmup: int = 0, final: float = 0.0) -> float:
    """Factor of the learning rate at `step` (0 is the first of `total`): linear from 0 over `warmup` steps, then half a
    cosine from 1 to `final` (SimCLR, section 2.2; Loshchilov & Hutter 2017, equation 5, without restarts).

    Raises ValueError if the warm-up is longer than the whole.
    """
    if not 0 <= warmup <= total:
        raise ValueError(f"a warm-up of {warmup} steps does not fit into {total}")
    if step < warmup:
        return step / warmup
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress))
