"""Projected gradient ascent against closed forms."""

from typing import Any

import pytest
import torch
from torch import Tensor

from rlrep.contrast import pgd

WEIGHT = torch.tensor([[1.0, -2.0, 0.0], [0.5, 0.5, -1.0]])
X = torch.tensor([[0.2, 0.3, 0.4], [0.5, 0.9, 0.1]])


def linear(x: Tensor) -> Tensor:
    return (x * WEIGHT).sum()


@pytest.mark.parametrize("start", ["uniform", "clean"])
def test_a_linear_loss_is_worst_in_a_corner_of_the_ball(start: Any) -> None:
    found = pgd(linear, X, epsilon=0.25, step=0.2, steps=4, start=start)
    moves = WEIGHT != 0
    torch.testing.assert_close(found[moves], (X + 0.25 * WEIGHT.sign())[moves])
    assert not found.requires_grad and float((found - X).abs().max()) <= 0.25 + 1e-7
    inside = pgd(linear, X, epsilon=0.25, step=0.2, steps=4, start=start, bounds=(0.0, 1.0))
    torch.testing.assert_close(inside[moves], (X + 0.25 * WEIGHT.sign()).clamp(0, 1)[moves])


def test_one_step_from_the_clean_input_is_fgsm_and_a_curved_loss_needs_several() -> None:
    one = pgd(linear, X, epsilon=0.1, step=0.1, steps=1, start="clean")
    assert torch.equal(one, X + 0.1 * WEIGHT.sign())
    reach = torch.tensor([0.1, 0.2, 0.0])
    by_column = pgd(linear, X, epsilon=reach, step=reach, steps=1, start="clean")
    assert torch.equal(by_column, X + reach * WEIGHT.sign())

    def curved(x: Tensor) -> Tensor:
        return -(x - X - 0.07).square().sum(1)  # one value a row: best within the ball, not in its corner

    fgsm, ascent = (pgd(curved, X, epsilon=0.25, step=0.25 / s, steps=s, start="clean") for s in (1, 25))
    assert float(curved(ascent).sum()) > float(curved(fgsm).sum())
    torch.testing.assert_close(ascent, X + 0.07, atol=0.011, rtol=0)


def test_the_random_start_is_in_the_ball_and_follows_its_generator() -> None:
    def drawn(seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return pgd(linear, X, epsilon=0.1, step=0.1, steps=0, generator=generator)

    assert torch.equal(drawn(1), drawn(1)) and not torch.equal(drawn(1), drawn(2))
    assert 0.0 < float((drawn(1) - X).abs().max()) <= 0.1


@pytest.mark.parametrize(
    ("x", "options"),
    [
        (torch.zeros(2, dtype=torch.uint8), {}),
        (X, {"start": "corner"}),
        (X, {"epsilon": -0.1}),
        (X, {"steps": -1}),
        (X, {"step": torch.tensor(-1.0)}),
    ],
)
def test_what_makes_no_ball_is_refused(x: Tensor, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"pgd needs|0 or more"):
        pgd(linear, x, **{"epsilon": 0.1, "step": 0.1, "steps": 1, **options})
