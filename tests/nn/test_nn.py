"""Networks against plain re-statements of their equations."""

from contextlib import nullcontext
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import nn

from rlrep.nn import (
    EnsembleLinear,
    IdentityConfig,
    ImpalaConfig,
    MLPEncoderConfig,
    PixelEncoderConfig,
    delta_orthogonal_,
    init_orthogonal,
)
from rlrep.nn.actions import Choosing, action_axes, per_action
from rlrep.nn.distributions import sample_squashed
from rlrep.nn.graph import GraphedStep, tensors_of
from rlrep.nn.optim import FusedAdam


def test_actions_that_are_not_there_are_no_choice_and_in_no_mean() -> None:
    whole, padded = Choosing(3), Choosing(5)
    padded.real = torch.tensor([True, True, True, False, False])
    values = torch.tensor([[-3.0, -1.0, -2.0, 9.0, torch.nan], [-1.0, -1.0, -2.0, -1.0, 0.0]])
    assert padded.best(values).tolist() == whole.best(values[:, :3]).tolist() == [1, 0]
    outputs = torch.randn(2, 5, 4)
    torch.testing.assert_close(padded.mean(outputs), whole.mean(outputs[:, :3]))


def test_which_axes_grow_with_the_number_of_actions() -> None:
    layers = nn.Sequential(per_action(nn.Linear(2, 3), 1), nn.ReLU(), per_action(nn.Linear(3, 4), 0))
    assert action_axes(deepcopy(layers)) == {"0.weight": 1, "2.weight": 0, "2.bias": 0}


def test_delta_orthogonal_keeps_the_norm_of_a_constant_image() -> None:
    conv = nn.Conv2d(8, 8, 3, bias=False)
    delta_orthogonal_(conv.weight, gain=1.0)
    x = torch.randn(1, 8, 1, 1).expand(1, 8, 5, 5)
    torch.testing.assert_close(conv(x).norm(dim=1), x[:, :, 1:4, 1:4].norm(dim=1))
    with pytest.raises(ValueError, match="odd square kernel"):
        delta_orthogonal_(torch.empty(4, 4, 2, 2), 1.0)


def test_ensemble_linear_is_independent_linears() -> None:
    layer = EnsembleLinear(2, 5, 3)
    layer.apply(init_orthogonal)
    x = torch.randn(7, 5)
    for member, weight in enumerate(layer.weight):
        torch.testing.assert_close(layer(x)[member], x @ weight)
        torch.testing.assert_close(weight.T @ weight, torch.eye(3))
    stacked = torch.randn(2, 7, 5)
    torch.testing.assert_close(layer(stacked)[1], stacked[1] @ layer.weight[1])


def test_frozen_ensemble_passes_gradient_to_its_input_only() -> None:
    layer, x = EnsembleLinear(2, 5, 3), torch.randn(7, 5, requires_grad=True)
    layer(x, frozen=True).sum().backward()
    assert x.grad is not None and layer.weight.grad is None and layer.bias.grad is None


@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_conv_body_equals_scaling_then_plain_convolutions(offset: float) -> None:
    encoder = PixelEncoderConfig(strides=(2, 1), channels=4, latent_dim=6, offset=offset).make((9, 20, 20))
    frames = torch.randint(0, 255, (3, 9, 20, 20), dtype=torch.uint8)
    x = frames.float() / 255 - offset
    for layer in encoder.body.layers:  # type: ignore[union-attr]
        x = nn.functional.conv2d(x, layer.weight, layer.bias, layer.stride).relu()
    torch.testing.assert_close(encoder.body(frames), x.permute(0, 2, 3, 1).flatten(1), atol=1e-5, rtol=1e-4)
    assert encoder(frames).shape == (3, 6)


def test_encoders_name_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="encoder=mlp"):
        PixelEncoderConfig().make((17,))
    with pytest.raises(ValueError, match="encoder=curl"):
        MLPEncoderConfig().make((9, 84, 84))
    with pytest.raises(ValueError, match="too small"):
        PixelEncoderConfig().make((9, 8, 8))
    assert IdentityConfig().make((5,)).latent_dim == 5


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: MLPEncoderConfig(latent_dim=0), "latent_dim must be at least 1, not 0"),
        (lambda: PixelEncoderConfig(strides=()), r"strides must be at least 1, not \[\]"),
        (lambda: PixelEncoderConfig(channels=(8, -4, 8, 8)), r"channels must be at least 1, not \[8, -4, 8, 8\]"),
        (lambda: ImpalaConfig(blocks=0), "blocks must be at least 1, not 0"),
    ],
)
def test_sizes_below_one_are_named(make: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


def test_squashed_gaussian_density_against_torch_distributions() -> None:
    mean, log_std, noise = torch.randn(3, 50, 4, dtype=torch.float64).unbind()
    action, log_prob = sample_squashed(mean, log_std, noise)
    base = torch.distributions.Normal(mean, log_std.exp())
    expected = torch.distributions.TransformedDistribution(
        base, torch.distributions.transforms.TanhTransform(cache_size=1)
    )
    raw = mean + log_std.exp() * noise
    torch.testing.assert_close(action, raw.tanh())
    keep = raw.abs() < 6  # torch's own form loses digits beyond
    assert keep.float().mean() > 0.8
    plain = base.log_prob(raw) - torch.log(1 - raw.tanh().square())
    torch.testing.assert_close(log_prob[keep.all(1)], plain.sum(1)[keep.all(1)])
    assert expected.log_prob(action)[keep.all(1)].sum(1).allclose(plain.sum(1)[keep.all(1)])


def test_fused_adam_is_adam() -> None:
    torch.manual_seed(0)
    ours = [
        nn.Parameter(torch.randn(4, 3)),
        nn.Parameter(torch.randn(2, 5, 3, 3).to(memory_format=torch.channels_last)),
    ]
    theirs = [nn.Parameter(p.detach().clone()) for p in ours]
    mine, reference = FusedAdam(ours, 1e-2, beta1=0.5), torch.optim.Adam(theirs, 1e-2, betas=(0.5, 0.999))
    for _ in range(5):
        gradients = [torch.randn_like(p) for p in ours]
        for parameter, gradient in zip(theirs, gradients, strict=True):
            parameter.grad = gradient
        mine.step(gradients)
        reference.step()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_fused_adam_state_round_trip_and_refusal() -> None:
    parameters = [nn.Parameter(torch.randn(4))]
    optimiser = FusedAdam(parameters, 1e-2)
    optimiser.step([torch.randn(4)])
    saved = {name: [tensor.clone() for tensor in tensors] for name, tensors in optimiser.state().items()}
    fresh = FusedAdam([nn.Parameter(torch.zeros(4))], 1e-2)
    fresh.load_state(saved)
    for name, tensors in fresh.state().items():
        for a, b in zip(tensors, saved[name], strict=True):
            assert torch.equal(a, b)
    with pytest.raises(ValueError, match="other number or shape"):
        FusedAdam([nn.Parameter(torch.zeros(5))], 1e-2).load_state(saved)


class FakeGraph:
    """Stands for a CUDA graph on a machine without one: a replay runs the recorded step on the recorded inputs."""

    def __init__(self, run: object) -> None:
        self.run = run

    def replay(self) -> None:
        self.run()  # type: ignore[operator]


class HostGraphedStep(GraphedStep[Any, Any, Any]):
    """`GraphedStep` with the device calls replaced; inputs are copied into the recorded ones just as on CUDA."""

    def _run_aside(self, inputs, key):  # type: ignore[no-untyped-def]
        return self._step(inputs, key)

    def _capture(self, inputs, key):  # type: ignore[no-untyped-def]
        output = [torch.zeros(())]
        return FakeGraph(lambda: output[0].copy_(self._step(inputs, key))), inputs, output


def test_graphed_step_runs_every_call_once_on_its_own_inputs() -> None:
    total = torch.zeros(())

    def step(inputs: dict[str, torch.Tensor], key: object) -> torch.Tensor:
        total.add_(inputs["x"].sum() * (1 if key == "a" else 100))
        return total.clone()

    graphed = HostGraphedStep(step, warmup=2)
    for call in range(6):
        for key in "ab":
            graphed({"x": torch.full((2,), float(call))}, key)
    assert total.item() == 2 * sum(range(6)) * 101


def test_a_step_that_cannot_be_captured_names_the_way_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("operation not permitted when stream is capturing\nCUDA kernel errors might be ...")

    monkeypatch.setattr("torch.cuda.CUDAGraph", lambda: None)
    monkeypatch.setattr("torch.cuda.graph", lambda _: nullcontext())
    with pytest.raises(ValueError, match=r"\(operation not permitted [^\n]*\): compile=default trains without$"):
        GraphedStep(refuse, warmup=0)((), "key")


def test_tensors_of_walks_nested_structures_in_order() -> None:
    a, b, c = torch.zeros(1), torch.ones(1), torch.ones(2)
    assert [t is u for t, u in zip(tensors_of({"p": (a, [b]), "q": c, "r": 3}), (a, b, c), strict=True)] == [True] * 3
