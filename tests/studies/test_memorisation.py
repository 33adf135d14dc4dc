"""Who is found among whom, and how far shares are from those of objects that are alike."""

import pytest
import torch

from rlrep.studies.memory import alike, distance_to_binomial, excess_variance, partner_found


def test_partners_of_random_embeddings_are_found_by_chance_and_true_ones_always() -> None:
    torch.manual_seed(0)
    found = torch.stack([partner_found(torch.randn(5, 16), torch.randn(5, 16)) for _ in range(4000)])
    assert float(found.float().mean()) == pytest.approx(1 / 9, abs=0.01)  # 1 / (2B - 1)
    z = torch.randn(5, 16)
    assert partner_found(z, 3.0 * z + 0.01).all()
    assert not partner_found(z, -z).any()


def test_objects_that_are_alike_are_binomial() -> None:
    torch.manual_seed(0)
    same = torch.rand(20, 2000) < 0.25
    apart = torch.rand(20, 2000) < torch.where(torch.arange(2000) % 4 == 0, 0.97, 0.01)
    assert distance_to_binomial(same) < 0.01 and distance_to_binomial(apart) > 0.2
    assert excess_variance(same) == pytest.approx(1.0, abs=0.15)
    assert excess_variance(apart) > 15.0
    assert alike(same).shape == (10, 2000) and alike(same).mean() == pytest.approx(float(same.float().mean()), abs=0.01)


def test_what_never_varies_has_no_excess() -> None:
    assert excess_variance(torch.zeros(4, 10, dtype=torch.bool)) == 0.0
    assert distance_to_binomial(torch.ones(4, 10, dtype=torch.bool)) == 0.0
