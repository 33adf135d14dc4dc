"""What counts as memory that a run folder's settings fill."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from rlrep.record import bounds
from rlrep.record.bounds import Bounded
from rlrep.settings import UserError

MEGABYTE = 2**20


@pytest.mark.parametrize(
    "fill",
    [
        lambda rows: torch.zeros(rows, 1024),
        lambda rows: torch.empty(rows, 1024).normal_(),
        lambda rows: nn.Linear(1024, rows, bias=False),
        lambda rows: torch.cat([torch.ones(1, 1024)] * rows),
        lambda rows: torch.stack([torch.ones(1024)] * rows),
    ],
)
def test_what_is_filled_is_counted(monkeypatch: pytest.MonkeyPatch, fill: Callable[[int], object]) -> None:
    monkeypatch.setattr(bounds, "SPARE_BYTES", 2 * MEGABYTE)
    with Bounded("run", {}):
        fill(16)
    with pytest.raises(UserError, match="run: its config asks for networks far larger"), Bounded("run", {}):
        fill(2048)


def test_what_is_reserved_or_looked_at_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "SPARE_BYTES", MEGABYTE)
    with Bounded("run", {}):
        torch.empty(2**30, dtype=torch.uint8)
        small = torch.ones(4, 4)
        assert torch.cat([small, small]).sum() == 32 and small[[0, 1]].shape == (2, 4)


def test_a_checkpoint_speaks_for_several_times_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "SPARE_BYTES", 0)
    state = {"weight": torch.zeros(1024)}
    with Bounded("run", state):
        torch.zeros(bounds.TIMES, 1024)
    with pytest.raises(UserError, match=r"which holds 0\.0 MB"), Bounded("run", state):
        torch.zeros(bounds.TIMES + 1, 1024)
