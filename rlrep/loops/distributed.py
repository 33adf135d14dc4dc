"""Several processes of one run, as torchrun starts them."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
import torch.distributed as dist

from rlrep.process.cli import processes
from rlrep.process.signals import StopRequest
from rlrep.settings import UserError

T = TypeVar("T")
_AGREE_EVERY = 10
"""Updates between two exchanges of stop requests: each waits for the device."""


@contextmanager
def process_group(device: torch.device) -> Iterator[torch.device]:
    """Join the processes that torchrun started, if it did, and yield this one's device.

    Raises UserError for a part of its variables that is left in a shell.
    """
    if processes() == 1:
        yield device
        return
    for name in ("RANK", "LOCAL_RANK", "MASTER_PORT", "MASTER_ADDR"):
        value = os.environ.get(name, "")
        if not (value if name == "MASTER_ADDR" else value.isdecimal()):
            raise UserError(
                f"WORLD_SIZE={processes()} but {name}={value}: start several processes by torchrun, or unset "
                f"WORLD_SIZE for one"
            )
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield device
    finally:
        dist.destroy_process_group()


def first_alone(action: Callable[[], T]) -> T:
    """Do something in every process, in the first one before all others."""
    if dist.is_initialized() and dist.get_rank() > 0:
        dist.barrier()
        return action()
    result = action()
    wait_for_all()
    return result


def wait_for_all() -> None:
    """Let no process go on before all are here."""
    if dist.is_initialized():
        dist.barrier()


def check_stop(stop: StopRequest, updates: int, device: torch.device) -> None:
    """Raise Stopped if a signal came; with several processes, in all of them after the same update."""
    if not dist.is_initialized():
        stop.check()
    elif updates % _AGREE_EVERY == 0:
        number = torch.tensor(stop.signal_number or 0, device=device)
        dist.all_reduce(number, dist.ReduceOp.MAX)
        stop.signal_number = int(number) or None
        stop.check()
