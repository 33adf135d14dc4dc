"""Batches that are spread over processes."""

from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor


def gather_with_grad(z: Tensor, *, backward: Literal["mean", "sum"] = "mean") -> Tensor:
    """Return the rows of all processes `(world * N, ...)`, by rank; z itself without a process group.

    z: `(N, ...)`, the same shape in every process; all processes must call it.
    backward: the gradient of z is the `mean` over processes of what each sends back: where the loss is the mean of
        the processes' losses (or the same everywhere), it equals the gradient in a single process.
        Choose `sum` under DistributedDataParallel, which takes that mean itself, over parameters.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return z
    gathered: Tensor = _Gather.apply(z, backward == "mean")  # type: ignore[no-untyped-call]
    return gathered


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, mean: bool) -> Tensor:
        ctx.mean = mean
        parts = [torch.empty_like(z, memory_format=torch.contiguous_format) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, z.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        world, rank = dist.get_world_size(), dist.get_rank()
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        mine = total.chunk(world)[rank]
        return (mine / world if ctx.mean else mine), None
