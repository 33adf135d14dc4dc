"""The simplex: its closed form, and that it is where the losses are least."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rlrep.contrast import sup_con
from rlrep.studies.simplex import geometry


def simplex(classes: int) -> Tensor:
    """Return the vertices `(K, K)` of a regular simplex around the origin, on the sphere."""
    return F.normalize(torch.eye(classes, dtype=torch.float64) - 1.0 / classes, dim=1)


@pytest.mark.parametrize(("classes", "angular"), [(10, 0.4646), (3, 1 / 3), (2, 0.0)])
def test_geometry_of_a_simplex(classes: int, angular: float) -> None:
    labels = torch.arange(classes).repeat(4)
    found = geometry(simplex(classes)[labels] * 3.0, labels)
    assert found["deviation"] == pytest.approx(0.0, abs=1e-7) and found["within"] == pytest.approx(1.0)
    assert found["angular"] == pytest.approx(angular, abs=1e-4)
    one = geometry(torch.ones(len(labels), 3), labels)
    assert one["deviation"] == pytest.approx(1.0 + 1.0 / (classes - 1)) and one["angular"] == pytest.approx(
        1.0, abs=1e-3
    )


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_sup_con_is_least_at_the_simplex(temperature: float) -> None:
    labels = torch.arange(4).repeat(3)
    z = simplex(4)[labels].requires_grad_()
    least = sup_con(z[:, None], labels, temperature=temperature)
    (gradient,) = torch.autograd.grad(least, z)
    assert gradient.abs().max() < 1e-9
    # of every anchor: 2 positives at 1, 9 negatives at -1/3
    closed = math.log(2 + 9 * math.exp((-1 / 3 - 1) / temperature))
    assert least.item() == pytest.approx(closed)
    for scale in (0.01, 0.3):
        other = z.detach() + scale * torch.randn(z.shape, dtype=z.dtype, generator=torch.Generator().manual_seed(1))
        assert sup_con(other[:, None], labels, temperature=temperature) > least


def test_embeddings_that_are_no_simplex_are_told() -> None:
    labels = torch.arange(3).repeat(2)
    found = geometry(torch.eye(3)[labels], labels)
    assert found["deviation"] == pytest.approx(0.5)
    mixed = geometry(torch.eye(6), labels)
    assert mixed["within"] == pytest.approx(math.sqrt(0.5))
