"""Whitening and split batch norm against their definitions."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from rlrep.contrast import (
    GroupWhitening,
    SplitBatchNorm,
)

from .contrast_cases import draw

METHODS = pytest.mark.parametrize("method", ["eigh", "cholesky", "newton_schulz"])


def whitening(method: str, dim: int, groups: int | None, *, shuffle: bool = False, steps: int = 40) -> GroupWhitening:
    kinds = {"eigh": "eigh", "cholesky": "cholesky"}
    return GroupWhitening(
        dim,
        groups=groups,
        shuffle=shuffle,
        method=kinds.get(method, "newton_schulz"),  # type: ignore[arg-type]
        eps=1e-12,
        iterations=steps,
    )


@METHODS
@pytest.mark.parametrize("groups", [1, 2])
def test_every_group_is_white(method: str, groups: int) -> None:
    z = draw(64, 6) @ draw(6, 6, seed=1) + 5
    out = whitening(method, 6, groups)(z)
    torch.testing.assert_close(out.mean(0), torch.zeros(6).double(), rtol=0.0, atol=1e-9)
    for group in out.chunk(groups, 1):
        torch.testing.assert_close(group.T @ group / 64, torch.eye(6 // groups).double(), rtol=0.0, atol=1e-7)
    covariance = out.T @ out / 64
    assert groups == 1 or covariance[0, 3:].abs().max() > 1e-3
    torch.testing.assert_close(whitening(method, 6, groups)(out), out, rtol=0.0, atol=1e-6)  # white data stay


def test_eigh_is_the_symmetric_root_and_newton_schulz_comes_near() -> None:
    z = draw(64, 4) @ draw(4, 4, seed=1)
    x = z - z.mean(0)
    values, vectors = torch.linalg.eigh(x.T @ x / 64)
    want = x @ vectors @ torch.diag(values.rsqrt()) @ vectors.T
    torch.testing.assert_close(whitening("eigh", 4, 1)(z), want)
    errors = [(whitening("newton_schulz", 4, 1, steps=steps)(z) - want).abs().max().item() for steps in (2, 6, 12, 40)]
    assert errors == sorted(errors, reverse=True) and errors[-1] < 1e-6


def test_groups_of_one_feature_are_batch_norm() -> None:
    z = draw(16, 4) * 3 + 1
    want = F.batch_norm(z, None, None, training=True, eps=1e-300)
    torch.testing.assert_close(whitening("eigh", 4, 4)(z), want)


def test_shuffling_keeps_the_order_of_features_and_changes_the_groups() -> None:
    z = draw(256, 8) * torch.arange(1, 9)
    generator = torch.Generator().manual_seed(0)
    layer = GroupWhitening(8, groups=4, generator=generator)
    one, two = layer(z), layer(z)
    assert not torch.equal(one, two)
    for out in (one, two):  # ZCA of nearly independent features hardly mixes them
        assert F.cosine_similarity(z, out, dim=0).mean() > 0.9
        torch.testing.assert_close(out.square().mean(0), torch.ones(8).double())
    mixed = GroupWhitening(8, groups=1, shuffle=True)(z)
    torch.testing.assert_close(mixed, GroupWhitening(8, groups=1, shuffle=False)(z))


@pytest.mark.parametrize(("count", "dim", "groups"), [(64, 128, 4), (256, 128, 1), (10, 12, 3), (8, 10, 5), (3, 7, 7)])
def test_groups_fit_the_batch(count: int, dim: int, groups: int) -> None:
    """At most N/2 wide, and a divisor of D."""
    z = draw(count, dim)
    torch.testing.assert_close(
        GroupWhitening(dim, shuffle=False)(z), GroupWhitening(dim, groups=groups, shuffle=False)(z)
    )


@METHODS
def test_gradient_of_whitening(method: str) -> None:
    z = (draw(8, 4) @ draw(4, 4, seed=1)).requires_grad_()
    assert torch.autograd.gradcheck(whitening(method, 4, 2, steps=5), [z])
    equal = F.pad(torch.linalg.qr(draw(4, 2))[0], (0, 0, 0, 4)).requires_grad_()  # eigenvalues nearly meet
    assert torch.autograd.gradcheck(lambda x: whitening(method, 2, 1, steps=5)(x - x.detach().mean(0)), [equal])


def test_gradient_across_the_floor() -> None:
    """One eigenvalue is below the floor, where the derivative of the root is 0."""
    z = (draw(8, 3) * torch.tensor([1.0, 0.5, 0.01]).double()).requires_grad_()
    layer = GroupWhitening(3, groups=1, shuffle=False, eps=0.05)
    assert torch.autograd.gradcheck(layer, [z])
    assert layer(z).square().mean(0).min() < 0.1


@METHODS
@pytest.mark.parametrize("batch", ["one_sample", "identical", "zeros", "more_features_than_samples", "large"])
def test_whitening_without_sense_stays_finite(method: str, batch: str) -> None:
    z = {
        "one_sample": draw(1, 8),
        "identical": torch.ones(6, 8),
        "zeros": torch.zeros(6, 8),
        "more_features_than_samples": draw(4, 8),
        "large": 1e4 * draw(4, 8),
    }[batch]
    z = z.float().requires_grad_()
    for groups in (1, None):
        layer = GroupWhitening(8, groups=groups, method=method)  # type: ignore[arg-type]
        with torch.autocast("cpu", torch.bfloat16):
            out = layer(z.bfloat16())
        assert out.dtype == torch.float32 and bool(out.isfinite().all())
        assert bool(torch.autograd.grad(out.square().sum(), z)[0].isfinite().all())


def test_whitening_names_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="groups must divide dim, got dim 6 and groups 4"):
        GroupWhitening(6, groups=4)
    with pytest.raises(ValueError, match="cholesky"):
        GroupWhitening(6, method="svd")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"\(N, 6\).*\(4, 5\)"):
        GroupWhitening(6)(draw(4, 5))


@pytest.mark.parametrize("shape", [(12, 5), (12, 5, 3, 2)])
def test_split_batch_norm_is_batch_norm_of_every_part(shape: tuple[int, ...]) -> None:
    x = draw(*shape, dtype=torch.float32) * 2 + 1
    split = SplitBatchNorm(5, 3)
    nn.init.normal_(split.weight)
    parts = [nn.BatchNorm1d(5) if len(shape) == 2 else nn.BatchNorm2d(5) for _ in range(3)]
    want = torch.empty_like(x)
    for i, part in enumerate(parts):
        part.weight.data.copy_(split.weight.data)
        want[i::3] = part(x[i::3])  # sample n is in part n mod 3
    torch.testing.assert_close(split(x), want)
    for name in ("running_mean", "running_var"):
        mean = torch.stack([part.get_buffer(name) for part in parts]).mean(0)
        torch.testing.assert_close(split.get_buffer(name), mean)
    plain = nn.BatchNorm1d(5) if len(shape) == 2 else nn.BatchNorm2d(5)
    plain.load_state_dict(split.state_dict())
    torch.testing.assert_close(split.eval()(x), plain.eval()(x))


def test_split_batch_norm_replaces_batch_norm_in_a_network() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, momentum=0.01), nn.Sequential(nn.BatchNorm2d(4, affine=False))
    )
    net(draw(8, 3, 2, 2, dtype=torch.float32))
    x = draw(8, 3, 2, 2, seed=1, dtype=torch.float32)
    want, names = net.eval()(x), list(net.state_dict())
    split = SplitBatchNorm.convert(net, 4)
    assert list(split.state_dict()) == names and not any(type(part) is nn.BatchNorm2d for part in split.modules())
    torch.testing.assert_close(split(x), want)
    momenta = [part.momentum for part in split.modules() if isinstance(part, SplitBatchNorm)]
    assert momenta == [0.01, 0.1] and not split[1].training  # type: ignore[index]
    split.train()(x)
    with pytest.raises(ValueError, match=r"\(6, 4, 2, 2\).* 4 equal parts"):
        split(x[:6])
    with pytest.raises(ValueError, match=r"\(N, 4, ...\), got \(8, 3\)"):
        SplitBatchNorm(4, 2)(x[:, :, 0, 0])
