"""Two processes that gather against one that has the whole batch."""

import os
from datetime import timedelta
from pathlib import Path
from typing import Literal

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn
from torch.nn.parallel import DistributedDataParallel

from rlrep.contrast import DirectPredictor, gather_with_grad, nt_xent

WORLD = 2
Z1, Z2 = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
SECONDS = 120


def single(z1: Tensor, z2: Tensor, row_weight: Tensor | None = None) -> Tensor:
    return nt_xent(z1, z2, temperature=0.5, row_weight=row_weight)


def rows(z: Tensor, rank: int) -> Tensor:
    return z.chunk(WORLD)[rank]


def check_gather(rank: int, backward: Literal["mean", "sum"]) -> None:
    """With the whole loss everywhere, and with the mean over one's own anchors."""
    whole = [z.clone().requires_grad_() for z in (Z1, Z2)]
    want = torch.autograd.grad(single(whole[0], whole[1]), whole)
    scale = 1.0 if backward == "mean" else float(WORLD)
    mine = torch.zeros(len(Z1), dtype=torch.float64)
    rows(mine, rank).fill_(1.0)
    for row_weight in (None, mine):
        parts = [rows(z, rank).clone().requires_grad_() for z in (Z1, Z2)]
        gathered = [gather_with_grad(part, backward=backward) for part in parts]
        torch.testing.assert_close(gathered, [Z1, Z2])
        got = torch.autograd.grad(single(gathered[0], gathered[1], row_weight), parts)
        torch.testing.assert_close([g / scale for g in got], [rows(g, rank) for g in want])


def check_parallel_training(rank: int) -> None:
    """Under DistributedDataParallel the parameters' gradient is that of one process."""
    nets = [nn.Linear(4, 3).double() for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    alone, spread = nets[0], DistributedDataParallel(nets[1])
    single(alone(Z1), alone(Z2)).backward()
    z1, z2 = spread(torch.cat([rows(Z1, rank), rows(Z2, rank)])).chunk(2)
    single(gather_with_grad(z1, backward="sum"), gather_with_grad(z2, backward="sum")).backward()
    torch.testing.assert_close([p.grad for p in nets[1].parameters()], [p.grad for p in alone.parameters()])


def check_statistics(rank: int) -> None:
    head = DirectPredictor(4).double()
    head.observe(rows(Z1, rank))
    torch.testing.assert_close(head.correlation, Z1.T @ Z1 / len(Z1))


def process(rank: int, store: str) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo" if Path("/sys/class/net/lo").exists() else "lo0")
    dist.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=WORLD, timeout=timedelta(seconds=SECONDS)
    )
    try:
        check_gather(rank, "mean")
        check_gather(rank, "sum")
        check_parallel_training(rank)
        check_statistics(rank)
    finally:
        dist.destroy_process_group()


@pytest.mark.skipif(not (dist.is_available() and dist.is_gloo_available()), reason="torch without gloo")
def test_two_processes_equal_one(tmp_path: Path) -> None:
    context = spawn(process, (str(tmp_path / "store"),), WORLD, join=False)
    try:
        assert any(context.join(timeout=SECONDS) for _ in range(WORLD))  # each call ends with the next process
    finally:
        for child in context.processes:
            child.kill()
