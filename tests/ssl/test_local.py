"""Units of an encoder's parts: who gets gradient from whom, what a step keeps, and when statistics move."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.seed_local import kept_bytes
from rlrep.contrast import nt_xent
from rlrep.contrast.parts import NTXent, Projection
from rlrep.nn import EncoderConfig, ImpalaConfig, MLPEncoderConfig, PixelEncoderConfig, ResNetConfig
from rlrep.ssl import DataShape, ImageBatch, JointEmbedding, LocalContrast
from rlrep.ssl.local import LocalContrastMethod, units

from .ssl_rig import SAME, SHAPE, equal, images, learner, statistics, views

RESNET = ResNetConfig(width=4, blocks=(1, 1, 1, 1))
CNN = PixelEncoderConfig(strides=(2, 1, 1), channels=4, latent_dim=6, trunk="relu", init="torch")
ENCODERS: list[EncoderConfig] = [RESNET, CNN, ImpalaConfig(channels=(4, 6, 6), blocks=1, latent_dim=8)]
HEAD = Projection(hidden_dim=8, out_dim=5)


def method(overlap: Any, encoder: EncoderConfig = RESNET, group: int = 1) -> LocalContrastMethod:
    torch.manual_seed(0)
    config = LocalContrast(SAME, HEAD, NTXent(), overlap, group)
    made = config.make(encoder.make(SHAPE), DataShape(SHAPE, 0, 40)).train()
    assert isinstance(made, LocalContrastMethod)
    for module in made.modules():  # whose zero would hide what passes through a block
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
    return made


def by_part(made: LocalContrastMethod, loss: Tensor) -> list[list[Tensor]]:
    """Return the gradient of a loss by every part's parameters."""
    return [
        [
            torch.zeros_like(p) if g is None else g
            for p, g in zip(own, torch.autograd.grad(loss, own, retain_graph=True, allow_unused=True), strict=True)
        ]
        for own in ([p for module in part.modules for p in module.parameters()] for part in made._parts)
    ]


@pytest.mark.parametrize("encoder", ENCODERS, ids=["resnet", "cnn", "impala"])
def test_sections_make_the_body(encoder: EncoderConfig) -> None:
    body: Any = encoder.make(SHAPE).body
    x = seen = images(3)
    for section in body.sections():
        seen = section.run(seen)
    assert torch.equal(body.features(seen), body(x))
    own = [p for section in body.sections() for module in section.modules for p in module.parameters()]
    assert {id(p) for p in own} == {id(p) for p in body.parameters()} and len(own) == len(list(body.parameters()))


def test_units_overlap_as_asked() -> None:
    assert units(4, 1) == [range(0, 2), range(1, 3), range(2, 4)]
    assert units(4, 0) == [range(0, 1), range(1, 2), range(2, 3), range(3, 4)]
    assert units(4, None) == [range(4)] and units(1, 1) == [range(1)]


def test_a_units_gradient_stops_at_its_own_lowest_part_and_shared_parts_get_both() -> None:
    made, batch = method(1), views()
    losses = [loss for loss, _ in made._unit_losses(batch)]
    found = [by_part(made, loss) for loss in losses]
    for number, parts in enumerate(found):
        touched = [any(float(g.abs().sum()) > 0 for g in part) for part in parts]
        assert touched == [part in (number, number + 1) for part in range(4)]
    parameters = [p for p in made.parameters() if p.requires_grad]
    gradients, metrics = made.gradients(batch, parameters)
    shared = [g for g, p in zip(gradients, parameters, strict=True) if id(p) in ids(made, 1)]
    for ours, lower, upper in zip(shared, found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(ours, lower + upper)
    assert float(metrics["loss"]) == pytest.approx(sum(float(loss.detach()) for loss in losses), rel=1e-5)
    whole, _ = made.loss(batch)
    torch.testing.assert_close(gradients, list(torch.autograd.grad(whole, parameters)))


def ids(made: LocalContrastMethod, part: int) -> set[int]:
    return {id(p) for module in made._parts[part].modules for p in module.parameters()}


def test_without_units_it_is_simclr() -> None:
    local, batch = method(None), views()
    torch.manual_seed(0)
    joint = JointEmbedding(SAME, HEAD, NTXent(), forward="together")
    plain = joint.make(RESNET.make(SHAPE), DataShape(SHAPE, 0, 40)).train()
    plain.load_state_dict(local.state_dict())
    parameters = [[p for p in made.parameters() if p.requires_grad] for made in (local, plain)]
    ours, theirs = (made.gradients(batch, own)[0] for made, own in zip((local, plain), parameters, strict=True))
    assert equal(ours, theirs) and equal(statistics(local).values(), statistics(plain).values())
    z = plain.embed(torch.cat(batch.views)).chunk(2)
    torch.testing.assert_close(local.loss(batch)[0], nt_xent(*z, temperature=0.5))


@pytest.mark.parametrize("overlap", [0, 1])
def test_statistics_move_once_and_to_where_end_to_end_moves_them(overlap: int) -> None:
    made, whole, batch = method(overlap), method(None), views()
    whole.encoder.load_state_dict(made.encoder.state_dict())
    for each in (made, whole):
        each.gradients(batch, [p for p in each.parameters() if p.requires_grad])
    ours, theirs = statistics(made.encoder), statistics(whole.encoder)
    assert all(int(value) == 1 for name, value in ours.items() if "tracked" in name)
    assert equal(ours.values(), theirs.values())


def test_a_step_keeps_what_its_largest_unit_does() -> None:
    batch = ImageBatch(tuple(images(16, seed) for seed in range(2)))
    deep = ResNetConfig(width=8, blocks=(2, 2, 2, 2))
    end, loco, greedy = (kept_bytes(method(overlap, deep), batch) for overlap in (None, 1, 0))
    assert loco <= 0.58 * end and greedy <= 0.40 * end
    stages = kept_bytes(method(1, deep, group=2), batch)
    assert loco < stages < end


def test_it_resumes_bit_for_bit() -> None:
    words = ("encoder=resnet18", "encoder.width=4", "encoder.blocks=[1,1]")
    whole, first = learner("loco", *words), learner("loco", *words)
    for _ in range(2):
        whole.update()
        first.update()
    second = learner("loco", *words)
    second.load_state(first.state())
    for _ in range(2):
        whole.update()
        second.update()
    assert equal(second.method.state_dict().values(), whole.method.state_dict().values())


def test_what_has_no_sections_is_refused() -> None:
    config = LocalContrast(SAME, HEAD, NTXent())
    with pytest.raises(ValueError, match="sections of convolutions"):
        config.make(MLPEncoderConfig().make((5,)), DataShape((5,), 0, 40))
    with pytest.raises(ValueError, match="group"):
        LocalContrast(SAME, HEAD, NTXent(), group=0)
