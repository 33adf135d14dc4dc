"""Sparse coding data, masks and the recovery of directions."""

import pytest
import torch

from rlrep.studies.feature_decoupling import COMPLEMENTARY, CONDITIONS, INDEPENDENT, SparseCoding, recovery, two_views


@pytest.mark.parametrize("condition", CONDITIONS)
def test_views_are_the_data_on_average(condition: str) -> None:
    torch.manual_seed(0)
    x = torch.tensor([1.0, -2.0, 3.0]).expand(20_000, 3)
    for view in two_views(x, condition):
        assert torch.allclose(view.mean(0), x[0], atol=0.08)


def test_masks_decorrelate_what_is_dense() -> None:
    torch.manual_seed(0)
    x = torch.randn(500, 8)
    first, second = two_views(x, COMPLEMENTARY)
    assert torch.equal(first * second, torch.zeros_like(x)) and torch.allclose(first + second, 2.0 * x)
    first, second = two_views(x, INDEPENDENT)
    assert 0.2 < (first * second != 0).float().mean() < 0.3


def test_data_are_sparse_signals_under_dense_noise() -> None:
    torch.manual_seed(0)
    dictionary = torch.linalg.qr(torch.randn(30, 4)).Q
    signal = SparseCoding(dictionary, 0.25, 0.0).draw(4000) @ dictionary
    assert set(signal.round().unique().tolist()) == {-1.0, 0.0, 1.0}
    assert (signal.abs() > 0.5).float().mean() == pytest.approx(0.25, abs=0.02)
    assert SparseCoding(dictionary, 0.0, 0.5).draw(4000).var(0).mean() == pytest.approx(0.5, abs=0.02)


def test_recovery_is_the_best_neuron_of_the_median_latent() -> None:
    dictionary = torch.eye(5)[:, :3]
    assert recovery(2.0 * dictionary.T, dictionary) == 1.0
    assert recovery(torch.ones(1, 5), dictionary) == pytest.approx(5**-0.5)
    assert recovery(torch.eye(5)[3:], dictionary) == 0.0
