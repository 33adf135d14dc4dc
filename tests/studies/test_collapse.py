"""The meters tell the two collapses apart."""

import torch

from rlrep.studies.collapse import meters


def test_meters_tell_the_collapses_apart() -> None:
    random = torch.Generator().manual_seed(0)
    point = meters(1.0 + 1e-3 * torch.randn(200, 8, generator=random))
    line = meters(
        torch.randn(200, 1, generator=random) * torch.ones(1, 8) + 1e-3 * torch.randn(200, 8, generator=random)
    )
    full = meters(torch.randn(200, 8, generator=random))
    assert point["spread"] < 0.15 and line["spread"] > 0.7 and full["spread"] > 0.7
    assert line["correlation"] > 0.9 and full["correlation"] < 0.3
    assert line["effective_rank"] < 1.2 and full["effective_rank"] > 7.0
