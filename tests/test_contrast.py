"""Objectives, targets, heads and meters against slow twins, closed forms and symmetries."""

import math

import pytest
import torch
from torch import Tensor, nn

from rlrep.contrast import Bilinear, MomentumTarget, bilinear_info_nce, effective_rank, feature_std, pair_regression


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def slow_info_nce(query: Tensor, key: Tensor, weight: Tensor, temperature: float, valid: Tensor) -> float:
    """Loops and plain exponentials."""
    losses = []
    for i, q in enumerate(query):
        scores = [math.exp(float(q @ weight @ k) / temperature) for k in key]
        rest = sum(score for j, score in enumerate(scores) if j != i and valid[i, j])
        losses.append(-math.log(scores[i] / (scores[i] + rest)))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("temperature", [1.0, 0.3])
@pytest.mark.parametrize("masked", [False, True])
def test_bilinear_info_nce_equals_its_slow_twin(temperature: float, masked: bool) -> None:
    query, key, weight = draw(6, 4, seed=1), draw(6, 4, seed=2), draw(4, 4, seed=3)
    valid = draw(6, 6, seed=4) > 0 if masked else torch.ones(6, 6, dtype=torch.bool)
    want = slow_info_nce(query, key, weight, temperature, valid)
    got = bilinear_info_nce(query, key, weight, temperature=temperature, valid=valid if masked else None)
    assert got.item() == pytest.approx(want, rel=1e-12)
    assert got.shape == ()


def test_bilinear_info_nce_gradient() -> None:
    inputs = [draw(4, 3, seed=1), draw(4, 3, seed=2), draw(3, 3, seed=3)]
    valid = draw(4, 4, seed=4) > 0
    weights = torch.tensor([1.0, 0.0, 2.0, 0.5], dtype=torch.float64)

    def loss(query: Tensor, key: Tensor, weight: Tensor) -> Tensor:
        return bilinear_info_nce(query, key, weight, valid=valid, row_weight=weights)

    assert torch.autograd.gradcheck(loss, [tensor.requires_grad_() for tensor in inputs])


def test_bilinear_info_nce_closed_forms() -> None:
    query, key, weight = draw(8, 5, seed=1), draw(8, 5, seed=2), draw(5, 5, seed=3)
    assert bilinear_info_nce(query[:1], key[:1], weight).item() == 0.0
    assert bilinear_info_nce(query, key, torch.zeros_like(weight)).item() == pytest.approx(math.log(8))
    nothing_valid = torch.zeros(8, 8, dtype=torch.bool)
    assert bilinear_info_nce(query, key, weight, valid=nothing_valid).item() == pytest.approx(0.0, abs=1e-12)


def test_a_constant_per_row_changes_nothing() -> None:
    """A constant key feature with its own weights adds q . c to every logit of the row."""
    query, key, weight = draw(7, 4, seed=1), draw(7, 4, seed=2), draw(4, 4, seed=3)
    key[:, 3] = 1.0
    shifted = weight.clone()
    shifted[:, 3] += draw(4, seed=5) * 100
    torch.testing.assert_close(bilinear_info_nce(query, key, shifted), bilinear_info_nce(query, key, weight))


def test_permuting_the_batch_changes_nothing() -> None:
    query, key, weight = draw(7, 4, seed=1), draw(7, 4, seed=2), draw(4, 4, seed=3)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        bilinear_info_nce(query[order], key[order], weight), bilinear_info_nce(query, key, weight)
    )


def test_detached_key_gets_no_gradient_and_query_does() -> None:
    query, key = draw(5, 4, seed=1).requires_grad_(), draw(5, 4, seed=2).requires_grad_()
    torch.autograd.backward(bilinear_info_nce(query, key.detach(), draw(4, 4, seed=3)))
    assert key.grad is None
    assert query.grad is not None and query.grad.abs().sum() > 0


def test_row_weights_select_anchors() -> None:
    query, key, weight = draw(6, 4, seed=1), draw(6, 4, seed=2), draw(4, 4, seed=3)
    each = [bilinear_info_nce(query, key, weight, row_weight=row) for row in torch.eye(6, dtype=torch.float64)]
    torch.testing.assert_close(torch.stack(each).mean(), bilinear_info_nce(query, key, weight))
    some = torch.tensor([1.0, 0.0, 3.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(bilinear_info_nce(query, key, weight, row_weight=some), each[0] * 0.25 + each[2] * 0.75)
    query.requires_grad_()
    none = bilinear_info_nce(query, key, weight, row_weight=torch.zeros(6))
    torch.autograd.backward(none)
    assert none.item() == 0.0 and query.grad is not None and not query.grad.any()


def test_large_logits_stay_finite_in_every_precision() -> None:
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        query = (draw(6, 4, seed=1) * 1e4).to(dtype).requires_grad_()
        loss = bilinear_info_nce(query, (draw(6, 4, seed=2) * 1e4).to(dtype), torch.eye(4, dtype=dtype))
        torch.autograd.backward(loss)
        assert loss.isfinite() and query.grad is not None and bool(query.grad.isfinite().all())


def test_autocast_does_not_lower_the_precision() -> None:
    query, key, weight = (
        draw(*shape, seed=i, dtype=torch.float32) for i, shape in enumerate([(64, 50), (64, 50), (50, 50)])
    )
    plain = bilinear_info_nce(query, key, weight)
    with torch.autocast("cpu", torch.bfloat16):
        cast = bilinear_info_nce(query, key, weight)
    assert cast.dtype == torch.float32 and torch.equal(cast, plain)


def test_bilinear_info_nce_names_bad_shapes() -> None:
    query, weight = draw(6, 4), draw(4, 4)
    with pytest.raises(ValueError, match=r"\(6, 4\), \(5, 4\)"):
        bilinear_info_nce(query, query[:5], weight)
    with pytest.raises(ValueError, match=r"\(4, 3\)"):
        bilinear_info_nce(query, query, weight[:, :3])
    with pytest.raises(ValueError, match=r"bool \(6, 6\).*\(6, 5\)"):
        bilinear_info_nce(query, query, weight, valid=torch.ones(6, 5, dtype=torch.bool))
    with pytest.raises(ValueError, match="float64"):
        bilinear_info_nce(query, query, weight, valid=draw(6, 6))
    with pytest.raises(ValueError, match=r"row_weight must be \(6,\), got \(5,\)"):
        bilinear_info_nce(query, query, weight, row_weight=draw(5))
    with pytest.raises(ValueError, match="N > 0"):
        bilinear_info_nce(query[:0], query[:0], weight)
    with pytest.raises(ValueError, match="temperature"):
        bilinear_info_nce(query, query, weight, temperature=0.0)


def test_pair_regression() -> None:
    score = torch.tensor([0.0, 0.5, 1.0, 0.2], dtype=torch.float64, requires_grad=True)
    same = torch.tensor([True, True, False, False])
    want = (0.0**2 + 0.5**2 + 0.0**2 + 0.8**2) / 4
    assert pair_regression(score, same).item() == pytest.approx(want)
    assert torch.autograd.gradcheck(lambda s: pair_regression(s, same), [score])
    assert pair_regression(torch.tensor([0.25]), torch.tensor([0.75])).item() == 0.0
    with pytest.raises(ValueError, match=r"\(4,\) and \(3,\)"):
        pair_regression(score, same[:3])


def test_pair_regression_is_least_at_the_mean_label() -> None:
    same = torch.tensor([1.0, 1.0, 1.0, 0.0])
    losses = [pair_regression(torch.full((4,), value), same).item() for value in (0.2, 0.25, 0.3)]
    assert losses[1] == min(losses) == pytest.approx(0.25 * 0.75)


def test_effective_rank() -> None:
    orthonormal = torch.linalg.qr(draw(20, 5))[0]
    assert effective_rank(orthonormal).item() == pytest.approx(5.0)
    assert effective_rank(7 * orthonormal).item() == pytest.approx(5.0)
    assert effective_rank(draw(20, 1) @ draw(1, 5)).item() == pytest.approx(1.0, abs=1e-6)
    assert effective_rank(torch.zeros(4, 3)).item() == 1.0
    two = torch.diag(torch.tensor([3.0, 1.0]))
    assert effective_rank(two).item() == pytest.approx(math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25))))
    with pytest.raises(ValueError, match=r"\(3,\)"):
        effective_rank(torch.zeros(3))


def test_feature_std() -> None:
    z = torch.tensor([[1.0, 5.0], [3.0, 5.0]])
    assert feature_std(z).item() == 0.5
    assert feature_std(z[:1]).item() == 0.0
    assert not feature_std(z.requires_grad_()).requires_grad


def make_net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


@pytest.mark.parametrize("buffers", ["own", "copy"])
def test_momentum_target_follows(buffers: str) -> None:
    net = make_net()
    target = MomentumTarget(net, 0.25, buffers="own" if buffers == "own" else "copy")
    before = [p.detach().clone() for p in net.parameters()]
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(1.0)
    net(draw(16, 3, dtype=torch.float32) + 5)
    target.update()
    for start, parameter in zip(before, target.parameters(), strict=True):
        torch.testing.assert_close(parameter, start + 0.25)
    mine, theirs = target.module.get_buffer("1.running_mean"), net.get_buffer("1.running_mean")
    assert torch.equal(mine, theirs) == (buffers == "copy")
    assert buffers == "copy" or not mine.any()


def test_momentum_target_is_frozen_and_separate() -> None:
    net = make_net()
    target = MomentumTarget(net, 1.0)
    x = draw(4, 3, dtype=torch.float32).requires_grad_()
    assert torch.equal(target(x), make_net()(x)) and not target(x).requires_grad
    assert not any(parameter.requires_grad for parameter in target.parameters())
    assert len(list(target.parameters())) == len(list(net.parameters()))  # the online module is not a part of it
    assert list(target.state_dict()) == [f"module.{name}" for name in net.state_dict()]
    mine, theirs = target.module.get_parameter("0.weight"), net.get_parameter("0.weight")
    nn.init.ones_(theirs)
    assert not torch.equal(mine, theirs)
    target.update()
    assert torch.equal(mine, theirs)
    for tau in (0.0, 1.5):
        with pytest.raises(ValueError, match="tau"):
            MomentumTarget(net, tau)


def test_momentum_target_keeps_memory_format_and_takes_parameterless_modules() -> None:
    conv = nn.Conv2d(4, 8, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    target = MomentumTarget(conv, 0.5)
    target.update()
    assert target.module.get_parameter("weight").is_contiguous(memory_format=torch.channels_last)
    MomentumTarget(nn.Identity(), 0.5).update()


def test_bilinear() -> None:
    head = Bilinear(6, generator=torch.Generator().manual_seed(1))
    assert bool(((head.weight >= 0) & (head.weight < 1)).all()) and head.weight.mean().item() == pytest.approx(
        0.5, abs=0.2
    )
    again = Bilinear(6, generator=torch.Generator().manual_seed(1))
    assert torch.equal(head.weight, again.weight)
    query, key = draw(5, 6, dtype=torch.float32), draw(5, 6, seed=1, dtype=torch.float32)
    torch.testing.assert_close(Bilinear(6, init="identity")(query, key), query @ key.T)
    torch.testing.assert_close(head(query, key), torch.einsum("id,de,je->ij", query, head.weight, key))
    with pytest.raises(ValueError, match="dim"):
        Bilinear(0)
