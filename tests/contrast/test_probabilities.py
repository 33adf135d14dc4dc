"""Objectives on what a classifier believes, against loops and closed forms."""

import math

import pytest
import torch

from rlrep.contrast import MemoryQueue, early_learning, graph_contrast, info_nce
from rlrep.contrast.parts import EarlyLearning


def beliefs(rows: int, classes: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(rows, classes, generator=generator, dtype=torch.float64)).softmax(1)


def graph_twin(z0: torch.Tensor, z1: torch.Tensor, p: torch.Tensor, temperature: float, threshold: float) -> float:
    total = 0.0
    for i in range(len(z0)):
        edges = [1.0 if j == i else float(p[i] @ p[j]) for j in range(len(z0))]
        edges = [e if j == i or e >= threshold else 0.0 for j, e in enumerate(edges)]
        alike = [math.exp(float(torch.cosine_similarity(z0[i], z1[j], dim=0)) / temperature) for j in range(len(z0))]
        for edge, similarity in zip(edges, alike, strict=True):
            total -= edge / sum(edges) * math.log(similarity / sum(alike) + 1e-7) / len(z0)
    return total


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.8])
def test_the_graph_loss_is_the_loop(threshold: float) -> None:
    z0, z1, p = torch.randn(6, 4).double(), torch.randn(6, 4).double(), beliefs(6, 3)
    found = graph_contrast(z0, z1, p, temperature=0.2, threshold=threshold)
    assert float(found) == pytest.approx(graph_twin(z0, z1, p, 0.2, threshold), rel=1e-9)


def test_a_graph_without_edges_is_info_nce_in_one_direction() -> None:
    z0, z1 = torch.randn(8, 5).double().requires_grad_(), torch.randn(8, 5).double()
    found = graph_contrast(z0, z1, beliefs(8, 3), temperature=0.5, threshold=1.1)
    torch.testing.assert_close(found, info_nce(z0, z1, temperature=0.5), rtol=0, atol=1e-5)
    found.backward()
    assert z0.grad is not None and bool(z0.grad.any())


def test_early_learning_is_its_formula_and_reaches_the_prediction_alone() -> None:
    p, target = beliefs(5, 3).requires_grad_(), beliefs(5, 3, 1).requires_grad_()
    found = early_learning(p, target)
    expected = sum(math.log(1 - float(p[i] @ target[i])) for i in range(5)) / 5
    assert float(found) == pytest.approx(expected) and expected < 0
    found.backward()
    assert target.grad is None and p.grad is not None
    torch.testing.assert_close(p.grad, -target.detach() / (5 * (1 - (p * target).sum(1, keepdim=True)).detach()))


def test_the_memory_moves_before_use_and_only_the_batch_rows_after_the_step() -> None:
    memory, index = EarlyLearning(beta=0.7, weight=2.0).make(count=6, classes=3), torch.tensor([4, 1])
    memory.targets.copy_(torch.rand(6, 3) / 3)
    before = memory.targets.clone()
    logits = torch.randn(2, 3, requires_grad=True)
    p = logits.detach().softmax(1).clamp(1e-4, 1 - 1e-4)
    moved = 0.7 * before[index] + 0.3 * p / p.sum(1, keepdim=True)
    loss = memory.loss(logits, index)
    torch.testing.assert_close(loss, 2.0 * early_learning(p, moved))
    assert torch.equal(memory.targets, before)
    memory.write()
    torch.testing.assert_close(memory.targets[index], moved)
    rest = torch.tensor([0, 2, 3, 5])
    assert torch.equal(memory.targets[rest], before[rest])
    loss.backward()
    assert logits.grad is not None and bool(logits.grad.any())


def test_what_was_never_predicted_is_not_flagged() -> None:
    memory = EarlyLearning().make(count=4, classes=3)
    memory.targets[1:3] = torch.tensor([[0.1, 0.8, 0.1], [0.7, 0.2, 0.1]])
    assert memory.disagrees(torch.tensor([2, 1, 1, 0])).tolist() == [False, False, True, False]


def test_a_queue_keeps_values_beside_its_keys_as_they_are() -> None:
    queue, values = MemoryQueue(5, 2, payload=3), torch.randn(8, 3)
    keys = torch.randn(8, 2)
    for start in (0, 4):
        queue.push(keys[start : start + 4], values=values[start : start + 4])
    assert torch.equal(queue.values(), values[3:]) and len(queue.keys()) == 5
    other = MemoryQueue(5, 2, payload=3)
    other.load_state_dict(queue.state_dict())
    assert torch.equal(other.values(), values[3:])
    assert "beside" not in MemoryQueue(5, 2).state_dict(), "what is stored of other queues stays as it was"


def test_shapes_that_do_not_fit_are_named() -> None:
    z = torch.randn(4, 2)
    with pytest.raises(ValueError, match=r"probabilities must be \(4, C\), got \(3, 5\)"):
        graph_contrast(z, z, torch.rand(3, 5), temperature=1.0, threshold=0.5)
    with pytest.raises(ValueError, match="probability and target"):
        early_learning(torch.rand(4, 2), torch.rand(4, 3))
    with pytest.raises(ValueError, match="beta is the weight"):
        EarlyLearning(beta=1.0)
    with pytest.raises(ValueError, match=r"Expected values \(4, 3\), got None"):
        MemoryQueue(5, 2, payload=3).push(z)
