"""The latent tree, its posterior, the network of its shape, and the covariance operator."""

import itertools

import pytest
import torch

from rlrep.studies.hltm import LOSSES
from rlrep.studies.tree import LatentTree, TreeNetwork, best_correlation, covariance_operator


def test_children_follow_their_parents_by_polarity() -> None:
    torch.manual_seed(0)
    tree = LatentTree((torch.tensor([0.8, -0.6]), torch.tensor([1.0, -1.0, 0.0, 0.5])))
    root, inner, leaves = tree.sample(torch.ones(40_000, 1))
    assert torch.allclose(inner.mean(0), torch.tensor([0.8, -0.6]), atol=0.02)
    ratio = (leaves * inner.repeat_interleave(2, 1)).mean(0)
    assert torch.allclose(ratio, torch.tensor([1.0, -1.0, 0.0, 0.5]), atol=0.02)
    assert {*root.unique().tolist(), *leaves.unique().tolist()} == {-1.0, 1.0}


def test_beliefs_are_the_exact_posterior() -> None:
    """By enumeration: of a tree with two inner nodes and four leaves."""
    tree = LatentTree((torch.tensor([0.8, -0.6]), torch.tensor([0.9, 0.5, -0.7, 0.3])))
    leaves = torch.tensor([1.0, -1.0, -1.0, 1.0])

    def likelihood(root: float, left: float, right: float) -> float:
        inner = torch.tensor([left, right])
        up = (1 + root * inner * tree.polarity[0]) / 2
        down = (1 + inner.repeat_interleave(2) * leaves * tree.polarity[1]) / 2
        return float(up.prod() * down.prod())

    states = list(itertools.product((-1.0, 1.0), repeat=3))
    mass = [likelihood(*state) for state in states]
    expected = sum(weight * state[0] for weight, state in zip(mass, states, strict=True)) / sum(mass)
    assert float(tree.beliefs(leaves[None])[0]) == pytest.approx(expected, abs=1e-4)


def test_a_trained_shape_reads_its_own_children_only() -> None:
    torch.manual_seed(0)
    network, leaves = TreeNetwork(3, 4), torch.ones(1, 8)
    changed = leaves.clone()
    changed[0, :2] = -1.0
    before, after = network.activations(leaves), network.activations(changed)
    assert [unit.shape for unit in before] == [(1, 1, 4), (1, 2, 4), (1, 4, 4)]
    assert torch.equal(before[2][:, 1:], after[2][:, 1:]) and not torch.equal(before[2][:, 0], after[2][:, 0])
    assert torch.equal(before[1][:, 1], after[1][:, 1])
    assert network(leaves).detach().norm().item() == pytest.approx(1.0, abs=1e-3)


def test_best_correlation_takes_the_best_unit() -> None:
    torch.manual_seed(0)
    latents = torch.randint(2, (2000, 2)) * 2.0 - 1.0
    units = torch.stack([torch.randn(2000, 2), -3.0 * latents + 1.0, torch.ones(2000, 2)], 2)
    assert best_correlation(units, latents) == pytest.approx(1.0, abs=1e-5)
    assert best_correlation(units[..., ::2], latents) < 0.1


def test_the_covariance_operator_is_positive_and_its_flow_amplifies() -> None:
    torch.manual_seed(0)
    tree, network = LatentTree.draw(3, 0.9), TreeNetwork(3, 3)
    root, *_, leaves = tree.sample(torch.randint(2, (500, 1)) * 2.0 - 1.0)
    operator = covariance_operator(network, leaves, root[:, 0]).detach()
    values = torch.linalg.eigvalsh(operator)
    assert operator.shape == (18, 18) and values[0] > -1e-6 * values[-1] and values[-1] > 0
    nothing = covariance_operator(network, torch.ones(500, 8), root[:, 0])
    assert nothing.abs().max() < 1e-6


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_pulls_the_pair_together(name: str) -> None:
    near, far = torch.tensor([[1.0, 0.1]]), torch.tensor([[-1.0, 0.0]])
    f = torch.tensor([[1.0, 0.0]])
    assert LOSSES[name](f, near, far, 0.1) < LOSSES[name](f, far, near, 0.1)
    assert float(LOSSES["logistic"](f, far, far, 0.1)) == pytest.approx(0.6931, abs=1e-3)
