"""Corrupted labels and the slope of a power law."""

import pytest
import torch

from rlrep.studies.random_labels import corrupted, slope


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_corrupted_labels_are_never_the_true_ones(share: float) -> None:
    torch.manual_seed(0)
    labels = torch.arange(5).repeat(40)
    moved = corrupted(labels, share, 5)
    assert int((moved != labels).sum()) == int(share * 200)
    assert moved.min() >= 0 and moved.max() <= 4
    if share == 1.0:  # each of the others as often
        assert ((moved - labels) % 5).bincount(minlength=5)[1:].min() > 30


def test_slope_is_the_power() -> None:
    shares = [0.4, 0.6, 0.8, 1.0]
    assert slope(shares, [3.0 * part**1.7 for part in shares]) == pytest.approx(1.7)
    assert slope(shares, [7.0] * 4) == pytest.approx(0.0, abs=1e-9)
