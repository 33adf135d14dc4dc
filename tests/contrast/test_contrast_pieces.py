"""Queue, mixing, targets, heads, predictors and meters."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlrep.contrast import (
    Bilinear,
    DirectPredictor,
    MemoryQueue,
    MomentumTarget,
    Predictor,
    Projector,
    SplitBatchNorm,
    effective_rank,
    feature_correlation,
    feature_std,
    gather_with_grad,
    info_nce,
    mix_hard_negatives,
)

from . import contrast_twins as twins
from .contrast_cases import draw


@pytest.mark.parametrize("batches", [[3, 3, 3], [2, 5, 1, 4], [5, 5], [12], [4, 12, 1], [1] * 7])
def test_queue_is_the_tail_of_all_that_was_pushed(batches: list[int]) -> None:
    queue, keys, labels = MemoryQueue(5, 4), draw(0, 4), torch.zeros(0, dtype=torch.int64)
    born: list[int] = []
    for i, count in enumerate(batches):
        new, tags = draw(count, 4, seed=i), torch.arange(count) + 10 * i
        assert len(queue) == min(len(keys), 5)
        torch.testing.assert_close(queue.keys(), F.normalize(keys)[-5:] if i else torch.zeros(0, 4))
        queue.push(new, tags)
        keys, labels, born = torch.cat([keys, new]), torch.cat([labels, tags]), born + [i] * count
        torch.testing.assert_close(queue.keys(), F.normalize(keys)[-5:])
        assert torch.equal(queue.labels(), labels[-5:])
        assert queue.ages().tolist() == [i + 1 - at for at in born[-5:]]


def test_queue_survives_a_checkpoint() -> None:
    queue, again = MemoryQueue(5, 4), MemoryQueue(5, 4)
    for i in range(3):
        queue.push(draw(3, 4, seed=i, dtype=torch.float32))
    state = queue.state_dict()
    assert all(isinstance(value, Tensor) for value in state.values())
    again.push(draw(1, 4, dtype=torch.float32))
    again.load_state_dict(state)
    assert len(again) == 5
    for one in (queue, again):
        one.push(draw(2, 4, seed=7, dtype=torch.float32), torch.tensor([3, 4]))
    for ours, theirs in zip(queue.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)
    assert again.labels().tolist() == [-1, -1, -1, 3, 4] and again.ages().tolist() == [2, 2, 2, 1, 1]


def test_queue_read_before_write() -> None:
    """What was read stays what it was, so that a push between loss and backward does no harm; keys are detached."""
    queue, z = MemoryQueue(4, 3), draw(4, 3, dtype=torch.float32).requires_grad_()
    queue.push(z)
    before = queue.keys()
    loss = info_nce(z, z.detach(), temperature=0.5, negatives=before)
    copy = before.clone()
    queue.push(draw(4, 3, seed=1, dtype=torch.float32))
    torch.autograd.backward(loss)
    assert torch.equal(before, copy) and not before.requires_grad and not torch.equal(queue.keys(), before)
    assert queue.double().keys().dtype == torch.float64
    queue.push(draw(2, 3).bfloat16())
    torch.testing.assert_close(queue.keys().norm(dim=1), torch.ones(4, dtype=torch.float64))


def test_queue_names_bad_shapes() -> None:
    queue = MemoryQueue(4, 3)
    with pytest.raises(ValueError, match=r"\(B, 3\).*\(2, 4\)"):
        queue.push(draw(2, 4))
    with pytest.raises(ValueError, match=r"\(2, 3\) and \(3,\)"):
        queue.push(draw(2, 3), torch.zeros(3))
    with pytest.raises(ValueError, match="size"):
        MemoryQueue(0, 3)


def test_mixed_negatives_lie_between_the_hardest() -> None:
    query, negatives = draw(5, 3, seed=1), draw(40, 3, seed=2)
    mixed = mix_hard_negatives(query.requires_grad_(), negatives.requires_grad_(), hardest=2, mixed=30, query_mixed=20)
    assert mixed.shape == (5, 50, 3) and mixed.dtype == torch.float64 and not mixed.requires_grad
    torch.testing.assert_close(mixed.norm(dim=2), torch.ones(5, 50, dtype=torch.float64))
    unit_query, unit_rows = F.normalize(query.detach()), F.normalize(negatives.detach())
    for i in range(5):
        first, second = unit_rows[(unit_rows @ unit_query[i]).topk(2).indices]
        # on the arc between two unit vectors the angles to its ends add up
        angle = (mixed[i, :30] @ torch.stack([first, second]).T).clamp(-1, 1).acos().sum(1)
        torch.testing.assert_close(angle, (first @ second).acos().expand(30), rtol=0.0, atol=1e-6)
        to_query = (mixed[i, 30:] @ unit_query[i]).clamp(-1, 1).acos()
        ends = torch.stack([first, second])
        reach = (mixed[i, 30:] @ ends.T).clamp(-1, 1).acos()
        arcs = (ends @ unit_query[i]).acos()
        on_arc = (to_query[:, None] + reach - arcs).abs() < 1e-6
        assert bool(on_arc.any(1).all())
        assert bool((to_query[:, None] >= arcs / 2 - 1e-9)[on_arc].all())  # less than half is the query


def test_mixing_is_drawn_from_its_generator_and_adds_to_the_loss() -> None:
    query, negatives = draw(5, 4, seed=1), draw(8, 4, seed=2)

    def mix(seed: int, mixed: int, query_mixed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return mix_hard_negatives(
            query, negatives, hardest=1024, mixed=mixed, query_mixed=query_mixed, generator=generator
        )

    assert torch.equal(mix(0, 4, 3), mix(0, 4, 3)) and not torch.equal(mix(0, 4, 3), mix(1, 4, 3))
    key = draw(5, 4, seed=3)
    plain = info_nce(query, key, temperature=0.2, negatives=negatives)
    assert torch.equal(info_nce(query, key, temperature=0.2, negatives=[negatives, mix(0, 0, 0)]), plain)
    assert info_nce(query, key, temperature=0.2, negatives=[negatives, mix(0, 4, 3)]) > plain
    same = mix_hard_negatives(query, query[:1], hardest=1, mixed=2, query_mixed=0)
    torch.testing.assert_close(same, F.normalize(query[:1]).expand(5, 2, 4))
    with pytest.raises(ValueError, match=r"\(K, 4\) with K > 0, got \(0, 4\)"):
        mix_hard_negatives(query, negatives[:0], hardest=1, mixed=1, query_mixed=1)
    with pytest.raises(ValueError, match="hardest"):
        mix_hard_negatives(query, negatives, hardest=0, mixed=1, query_mixed=1)


def test_direct_predictor_has_the_eigenvectors_of_its_input() -> None:
    head = DirectPredictor(4, rho=0.3, eps=0.1).double()
    first, second = draw(12, 4, seed=1) * torch.tensor([3.0, 1.0, 0.1, 0.0]).double(), draw(12, 4, seed=2)
    head.observe(first)
    torch.testing.assert_close(head.correlation, first.T @ first / 12)  # the first batch sets it
    head.observe(second)
    want = 0.3 * first.T @ first / 12 + 0.7 * second.T @ second / 12
    torch.testing.assert_close(head.correlation, want, rtol=1e-12, atol=1e-12)
    assert torch.equal(head.weight, torch.eye(4).double())  # W of a step comes from what was seen before
    head.refresh()
    values, vectors = torch.linalg.eigh(want)
    expected = vectors @ torch.diag((values / values.max()).sqrt() + 0.1) @ vectors.T
    torch.testing.assert_close(head.weight.detach(), expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(head.weight.detach(), head.weight.detach().T)
    z = draw(5, 4, seed=3)
    torch.testing.assert_close(head(z), z @ expected)
    assert not head.weight.requires_grad and not head(z).requires_grad


def test_direct_copy_and_the_general_power_agree() -> None:
    z = draw(12, 4, seed=1)
    quick, slow, root = (DirectPredictor(4, eps=0.25, power=power).double() for power in (1.0, 1.0 + 1e-12, 0.5))
    for head in (quick, slow, root):
        head.observe(z)
        head.refresh()
    torch.testing.assert_close(quick.weight, slow.weight)
    correlation = z.T @ z / 12
    scale = torch.linalg.matrix_norm(correlation, 2)
    torch.testing.assert_close(quick.weight.detach(), correlation / scale + 0.25 * torch.eye(4).double())
    half = root.weight.detach() - 0.25 * torch.eye(4).double()
    torch.testing.assert_close(half @ half, correlation / scale)


def test_direct_predictor_refreshes_every_so_often_and_trains_in_between() -> None:
    head = DirectPredictor(3, every=2)
    head.observe(draw(6, 3, dtype=torch.float32))
    head.refresh()
    assert torch.equal(head.weight.detach(), torch.eye(3)) and head.weight.requires_grad
    head.refresh()
    assert not torch.equal(head.weight.detach(), torch.eye(3))


def test_direct_predictor_of_nothing_and_with_its_small_end_cut() -> None:
    zero, cut = DirectPredictor(3), DirectPredictor(3, eps=-0.2)
    zero.observe(torch.zeros(4, 3))
    zero.refresh()
    torch.testing.assert_close(zero.weight.detach(), 0.1 * torch.eye(3))
    cut.observe(torch.diag(torch.tensor([1.0, 0.1, 0.01])))
    cut.refresh()
    torch.testing.assert_close(cut.weight.detach(), torch.diag(torch.tensor([0.8, 1e-4, 1e-4])))
    for bad in (draw(3, 4), draw(0, 3), draw(3)):
        with pytest.raises(ValueError, match=r"\(N, 3\)"):
            zero.observe(bad)
    for arguments in ({"rho": 1.0}, {"every": 0}, {"power": 0.0}):
        with pytest.raises(ValueError, match="at least 1"):
            DirectPredictor(3, **arguments)


def test_projectors_of_the_papers() -> None:
    simclr = Projector(6, 8, 4, last_norm="affine")
    assert [type(part) for part in simclr] == [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear, nn.BatchNorm1d]
    assert all(part.bias is None for part in simclr if isinstance(part, nn.Linear))
    moco = Projector(6, 8, 4, norm="none")
    assert [type(part) for part in moco] == [nn.Linear, nn.ReLU, nn.Linear]
    assert all(part.bias is not None for part in moco if isinstance(part, nn.Linear))
    simsiam = Projector(6, 8, 4, layers=3, last_norm="plain", splits=2)
    assert [part.affine for part in simsiam if isinstance(part, SplitBatchNorm)] == [True, True, False]
    assert [type(part) for part in Projector(6, 8, 4, layers=1)] == [nn.Linear]
    for head in (simclr, moco, simsiam):
        assert head(draw(4, 6, dtype=torch.float32)).shape == (4, 4)
    predictor = Predictor(4, 2)
    assert [part.out_features for part in predictor if isinstance(part, nn.Linear)] == [2, 4]
    with pytest.raises(ValueError, match="last_norm 'no'"):
        Projector(6, 8, 4, last_norm="no")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="layers 0"):
        Predictor(4, 2, layers=0)


def test_gather_alone_is_the_identity() -> None:
    z = draw(3, 2)
    assert gather_with_grad(z) is z


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


def test_feature_correlation() -> None:
    z = draw(20, 5)
    assert feature_correlation(z).item() == pytest.approx(twins.feature_correlation(z))
    assert feature_correlation(3 * z - 7).item() == pytest.approx(twins.feature_correlation(z))
    assert feature_correlation(draw(20, 1) @ draw(1, 5)).item() == pytest.approx(1.0)
    constant = torch.full((20, 5), 0.1) + torch.arange(5) / 7
    assert feature_correlation(constant).item() == feature_correlation(z[:, :1]).item() == 0.0
    assert not feature_correlation(z.requires_grad_()).requires_grad


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
