"""LARS and its schedule against loops over single weights and torch's own SGD."""

import math
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from rlrep.nn import LARS, warmup_cosine
from rlrep.nn.optim import FusedAdam


def weights() -> list[nn.Parameter]:
    torch.manual_seed(3)
    return [nn.Parameter(torch.randn(shape)) for shape in ((4, 3), (4,), (2, 3, 3, 3), ())]


def gradients(step: int) -> list[Tensor]:
    torch.manual_seed(100 + step)
    return [torch.randn_like(weight) for weight in weights()]


def slow_lars(lrs: list[float], *, momentum: float, decay: float, eta: float, inside: bool) -> list[list[float]]:
    """The equations for one number at a time, in Python floats."""
    values = [weight.detach().flatten().tolist() for weight in weights()]
    velocity = [[0.0] * len(value) for value in values]
    for step, lr in enumerate(lrs):
        for w, v, gradient in zip(values, velocity, gradients(step), strict=True):
            g, trust = gradient.flatten().tolist(), 1.0
            if gradient.ndim > 1:
                g = [a + decay * b for a, b in zip(g, w, strict=True)]
                trust = eta * math.hypot(*w) / math.hypot(*g)
            for i in range(len(w)):
                v[i] = momentum * v[i] + (lr if inside else 1.0) * trust * g[i]
                w[i] -= v[i] if inside else lr * v[i]
    return values


@pytest.mark.parametrize("inside", [True, False])
def test_lars_is_its_equations(inside: bool) -> None:
    lrs = [0.1, 0.5, 1.0, 0.7, 0.2]
    ours = weights()
    lars = LARS(ours, 0.0, momentum=0.9, weight_decay=0.02, eta=0.05, rate_inside=inside)
    for step, lr in enumerate(lrs):
        lars.lr = lr
        given = gradients(step)
        lars.step(given)
        assert all(torch.equal(a, b) for a, b in zip(given, gradients(step), strict=True)), "gradients are the caller's"
    expected = slow_lars(lrs, momentum=0.9, decay=0.02, eta=0.05, inside=inside)
    for weight, values in zip(ours, expected, strict=True):
        torch.testing.assert_close(weight.detach().flatten(), torch.tensor(values), atol=2e-6, rtol=1e-5)


def test_without_adaptation_it_is_sgd_with_momentum() -> None:
    ours, theirs = weights(), weights()
    mine = LARS(ours, 0.1, weight_decay=0.01, eta=None, rate_inside=False)
    groups: list[dict[str, Any]] = [
        {"params": [w for w in theirs if w.ndim > 1], "weight_decay": 0.01},
        {"params": [w for w in theirs if w.ndim <= 1]},
    ]
    reference = torch.optim.SGD(groups, 0.1, momentum=0.9)
    for step, lr in enumerate([0.1, 0.3, 0.2]):
        for weight, gradient in zip(theirs, gradients(step), strict=True):
            weight.grad = gradient
        mine.lr = reference.param_groups[0]["lr"] = reference.param_groups[1]["lr"] = lr
        mine.step(gradients(step))
        reference.step()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_zero_weights_and_zero_gradients_have_trust_one() -> None:
    zero = nn.Parameter(torch.zeros(2, 2))
    LARS([zero], 0.5, eta=0.001).step([torch.ones(2, 2)])
    assert torch.equal(zero.detach(), torch.full((2, 2), -0.5))
    still = nn.Parameter(torch.ones(2, 2))
    LARS([still], 0.5, eta=0.001).step([torch.zeros(2, 2)])
    assert torch.equal(still.detach(), torch.ones(2, 2))


def test_lars_continues_from_its_state_and_refuses_anothers() -> None:
    whole, parts = weights(), weights()
    first, second = LARS(whole, 0.1), LARS(parts, 0.1)
    for step in range(4):
        first.step(gradients(step))
        second.step(gradients(step))
        fresh = LARS(parts, 0.1)
        fresh.load_state({"velocity": [v.clone() for v in second.state()["velocity"]]})
        second = fresh
    assert all(torch.equal(a, b) for a, b in zip(whole, parts, strict=True))
    with pytest.raises(ValueError, match="other number or shape"):
        first.load_state(LARS([nn.Parameter(torch.zeros(3))], 0.1).state())


@pytest.mark.parametrize("decayed", ["all", "matrices"])
def test_adam_with_decay_is_adamw(decayed: Literal["all", "matrices"]) -> None:
    ours, theirs = weights(), weights()
    mine = FusedAdam(ours, 1e-2, weight_decay=0.1, decayed=decayed)
    groups = [{"params": [w], "weight_decay": 0.1 if w.dim() > 1 or decayed == "all" else 0.0} for w in theirs]
    reference = torch.optim.AdamW(groups, 1e-2)
    for step in range(5):
        for weight, gradient in zip(theirs, gradients(step), strict=True):
            weight.grad = gradient
        mine.step(gradients(step))
        reference.step()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_schedule_at_its_marks() -> None:
    def factor(step: int) -> float:
        return warmup_cosine(step, total=110, warmup=10)

    assert [factor(s) for s in (0, 5, 10)] == [0.0, 0.5, 1.0]
    assert factor(60) == pytest.approx(0.5) and factor(110) == pytest.approx(0.0) and factor(500) == pytest.approx(0.0)
    assert factor(35) == pytest.approx(0.5 * (1 + math.cos(math.pi / 4)))
    assert all(factor(s) > factor(s + 1) for s in range(10, 109))
    assert warmup_cosine(0, total=5) == 1.0 and warmup_cosine(5, total=5, final=0.1) == pytest.approx(0.1)
    with pytest.raises(ValueError, match="does not fit"):
        warmup_cosine(0, total=5, warmup=6)
