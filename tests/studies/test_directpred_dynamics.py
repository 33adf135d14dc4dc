"""The linear theory: its fixed points, their end, its invariant, and what aligned means."""

import pytest
import torch

from rlrep.contrast import DirectPredictor
from rlrep.studies.dynamics import alignment, fixed_point, integrate, look


def test_the_flow_ends_in_the_fixed_points() -> None:
    eta, expected = torch.tensor([[0.04, 0.1, 0.12, 0.13], [0.4562, 0.3618, 0.3, 0.0]], dtype=torch.float64)
    assert torch.allclose(fixed_point(eta, 1.0, 1.0), expected, atol=1e-4)
    p, s = integrate(torch.full_like(eta, 0.5), torch.full_like(eta, 0.25), eta, 1.0, 1.0, time=1000.0, step=1.0)
    assert torch.allclose(p, expected, atol=1e-4) and torch.allclose(s, expected.square(), atol=1e-4)


def test_without_decay_the_invariant_stays() -> None:
    p, s = torch.tensor([0.6, -0.2], dtype=torch.float64), torch.tensor([0.1, 0.5], dtype=torch.float64)
    end, corr = integrate(p, s, torch.zeros(2, dtype=torch.float64), 1.0, 1.0, time=20.0, step=0.1)
    assert torch.allclose(corr - end.square(), s - p.square(), atol=1e-6) and not torch.allclose(end, p, atol=0.1)


def test_a_predictor_set_from_a_correlation_is_aligned_with_it() -> None:
    z = torch.randn(200, 5, generator=torch.Generator().manual_seed(0)) * torch.tensor([3.0, 2.0, 1.0, 0.5, 0.2])
    predictor = DirectPredictor(5)
    predictor.observe(z)
    predictor.refresh()
    assert alignment(predictor.correlation, predictor.weight) == pytest.approx(1.0, abs=1e-5)
    turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]])
    assert alignment(torch.eye(2), turn) == pytest.approx(0.0) and alignment(torch.eye(2), -torch.eye(2)) == -1.0
    assert alignment(torch.diag(torch.tensor([3.0, 1.0])), torch.diag(torch.tensor([1.0, -1.0]))) == pytest.approx(0.5)


def test_a_balanced_network_has_no_imbalance() -> None:
    w = torch.diag(torch.tensor([2.0, 1.0]))
    found = look(w, w, torch.ones(2))
    assert found["imbalance"] == 0.0 and found["alignment"] == pytest.approx(1.0)
    assert look(w, torch.zeros(2, 2), torch.ones(2))["imbalance"] == pytest.approx(1.0)
