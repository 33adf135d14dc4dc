"""What holds for every objective: its twin's value, a right and finite gradient, precision, an unbroken graph."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from .contrast_cases import BATCHES, CASES, EVERY, EVERY_MASKED, UNLABELLED, Case, draw


@EVERY
@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_equals_its_slow_twin(case: Case, temperature: float) -> None:
    z1, z2 = draw(6, 4, seed=1), draw(6, 4, seed=2)
    loss = case.fast(z1, z2, temperature, None)
    assert loss.shape == () and loss.dtype == torch.float64
    assert loss.item() == pytest.approx(case.slow(z1, z2, temperature, None), rel=1e-10, abs=1e-12)


@EVERY_MASKED
def test_masked_equals_its_slow_twin(case: Case) -> None:
    z1, z2, valid = draw(6, 4, seed=1), draw(6, 4, seed=2), draw(6, 6, seed=4) > 0
    masked = case.fast(z1, z2, 0.5, valid).item()
    assert masked == pytest.approx(case.slow(z1, z2, 0.5, valid), rel=1e-10)
    assert masked != pytest.approx(case.fast(z1, z2, 0.5, None).item(), rel=1e-3)


@EVERY
def test_gradient(case: Case) -> None:
    """Also that of a masked objective; targets that an objective detaches are held fixed."""
    z1, z2 = draw(5, 4, seed=1).requires_grad_(), draw(5, 4, seed=2)
    z2.requires_grad_(case not in (CASES["negative_cosine"], CASES["latent_contrast"]))
    valid = draw(5, 5, seed=4) > -0.5 if case.masked else None
    assert torch.autograd.gradcheck(lambda a, b: case.fast(a, b, 0.5, valid), (z1, z2), fast_mode=True)


@pytest.mark.parametrize("case", UNLABELLED.values(), ids=UNLABELLED)
@given(count=st.integers(2, 6), seed=st.integers(0, 99), temperature=st.sampled_from([0.1, 0.5, 2.0]))
@settings(max_examples=5)
def test_the_order_of_samples_does_not_matter(case: Case, count: int, seed: int, temperature: float) -> None:
    z1, z2 = draw(count, 4, seed=seed), draw(count, 4, seed=seed + 1)
    valid = draw(count, count, seed=seed + 2) > 0 if case.masked else None
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    moved = case.fast(z1[order], z2[order], temperature, None if valid is None else valid[order][:, order])
    torch.testing.assert_close(moved, case.fast(z1, z2, temperature, valid))


@EVERY
@pytest.mark.parametrize("batch", BATCHES)
def test_degenerate_batches_have_finite_losses_and_gradients(case: Case, batch: str) -> None:
    z1, z2 = (z.float().requires_grad_() for z in BATCHES[batch])
    nothing_valid = torch.zeros(len(z1), len(z1), dtype=torch.bool)
    for temperature in (1e-3, 1.0, 1e3):
        for valid in (None, nothing_valid) if case.masked else (None,):
            loss = case.fast(z1, z2, temperature, valid)
            gradients = torch.autograd.grad(loss, [z1, z2], allow_unused=True)
            assert loss.dtype == torch.float32 and bool(loss.isfinite())
            assert all(bool(gradient.isfinite().all()) for gradient in gradients if gradient is not None)


@EVERY
def test_autocast_does_not_lower_the_precision(case: Case) -> None:
    z1, z2 = draw(6, 4, seed=1, dtype=torch.float32), draw(6, 4, seed=2, dtype=torch.float32)
    plain = case.fast(z1, z2, 0.5, None)
    with torch.autocast("cpu", torch.bfloat16):
        cast = case.fast(z1, z2, 0.5, None)
    assert cast.dtype == torch.float32 and torch.equal(cast, plain)
    rounded = case.fast(z1.bfloat16(), z2.bfloat16(), 0.5, None)
    torch.testing.assert_close(rounded, plain, rtol=0.05, atol=0.05)


@EVERY
def test_float32_agrees_with_float64(case: Case) -> None:
    z1, z2 = draw(6, 4, seed=1), draw(6, 4, seed=2)
    torch.testing.assert_close(case.fast(z1.float(), z2.float(), 0.1, None).double(), case.fast(z1, z2, 0.1, None))


@pytest.mark.parametrize("name", ["queue", "neg_sq_dist", "bilinear", "hard", "sup_con_out", "suncet_smooth", "cacr"])
def test_the_graph_has_no_break(name: str) -> None:
    """No branch on a value and no wait for the device: the update that holds it can be compiled whole."""
    z1, z2, case = draw(6, 4, seed=1), draw(6, 4, seed=2), CASES[name]
    valid = draw(6, 6, seed=4) > 0 if case.masked else None
    compiled = torch.compile(case.fast, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(z1, z2, 0.5, valid), case.fast(z1, z2, 0.5, valid))


@EVERY
def test_bad_shapes_are_named(case: Case) -> None:
    z1, z2 = draw(6, 4, seed=1), draw(6, 4, seed=2)
    for bad in (z1[0], z1[:, None].expand(-1, 2, -1), z1[:0]):
        with pytest.raises(ValueError, match=r"\(|one shape"):
            case.fast(bad, bad, 0.5, None)
    if case.masked:
        with pytest.raises(ValueError, match=r"bool \(6, 6\).*\(6, 5\)"):
            case.fast(z1, z2, 0.5, torch.ones(6, 5, dtype=torch.bool))
        with pytest.raises(ValueError, match="float64"):
            case.fast(z1, z2, 0.5, draw(6, 6))
