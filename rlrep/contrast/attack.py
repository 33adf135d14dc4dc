"""Adversarial inputs: what a small change of the input can do to a loss."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Generator, Tensor


def pgd(
    loss: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    epsilon: float | Tensor,
    step: float | Tensor,
    steps: int,
    start: Literal["uniform", "clean"] = "uniform",
    bounds: tuple[float, float] | None = None,
    generator: Generator | None = None,
) -> Tensor:
    """Projected sign-gradient ascent of a loss in the L-infinity ball of x (Madry et al. 2018, arXiv 1706.06083).

    One step of length epsilon from `clean` is FGSM (Goodfellow et al. 2015, arXiv 1412.6572).

    loss: of an input shaped like x, a scalar or one value a row; called once per step, never under `no_grad`.
    x: float, any shape. epsilon, step: radius of the ball and length of a step, in the unit of x, or tensors that
    broadcast to it. start: a uniformly random point of the ball, or x itself. bounds: of the inputs there are.
    generator: of the random start, on the device of x.
    Returns the moved input, detached. Raises ValueError on whole numbers, on lengths below 0 and on another start.
    """
    if not x.is_floating_point() or start not in ("uniform", "clean"):
        raise ValueError(f"pgd needs float inputs and start uniform or clean, not {x.dtype} and {start!r}.")
    if steps < 0 or bool((torch.as_tensor(epsilon) < 0).any()) or bool((torch.as_tensor(step) < 0).any()):
        raise ValueError(f"epsilon, step and steps must be 0 or more, not {epsilon}, {step} and {steps}.")
    x = x.detach()
    low, high = x - epsilon, x + epsilon
    if bounds is not None:
        low, high = low.clamp(*bounds), high.clamp(*bounds)
    moved = x
    if start == "uniform":
        share = torch.rand(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        moved = torch.lerp(low, high, share)
    for _ in range(steps):
        with torch.enable_grad():
            moved = moved.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(loss(moved).sum(), moved)
        moved = torch.minimum(torch.maximum(moved.detach() + step * gradient.sign(), low), high)
    return moved.detach()
