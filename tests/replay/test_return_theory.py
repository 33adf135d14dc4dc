"""The theory of return contrast (Liu et al. 2021) on a finite MDP with exact return distributions.

Z(x, a) are the probabilities that the return of state-action (x, a) falls into each of K equal bins.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rlrep.contrast import pair_regression

Array = NDArray[Any]
HORIZON = 6
LARGEST_REWARD = 2
BINS = [2, 3, 4, 7, 13]
RETURNS = np.arange(HORIZON * LARGEST_REWARD + 1)


@dataclass(frozen=True)
class Chain:
    """An MDP under a fixed policy, as a Markov chain over M state-actions: move `(M, M)`, reward `(M,)` integers."""

    move: Array
    reward: Array


@cache
def make_chain() -> Chain:
    """8 states (the last two are copies of the first two), 3 actions, random dynamics, rewards and policy."""
    rng = np.random.default_rng(0)
    states, actions = 8, 3
    dynamics = rng.dirichlet(np.full(states, 0.5), (states, actions))
    reward = rng.integers(0, LARGEST_REWARD + 1, (states, actions))
    policy = rng.dirichlet(np.ones(actions), states)
    for table in (dynamics, reward, policy):
        table[-2:] = table[:2]
    move = (dynamics[..., None] * policy).reshape(states * actions, states * actions)
    return Chain(move, reward.ravel())


@cache
def return_probabilities() -> Array:
    """Exact probability of every undiscounted return over the horizon, `(M, 13)`, by backward induction."""
    chain = make_chain()
    later = np.zeros((len(chain.reward), len(RETURNS)))
    later[:, 0] = 1.0
    for _ in range(HORIZON):
        later = chain.move @ later
        later = np.stack([np.roll(row, reward) for row, reward in zip(later, chain.reward, strict=True)])
    return later


def bin_of(returns: Array, bins: int) -> Array:
    width = RETURNS[-1] / bins
    binned: Array = np.minimum((returns / width + 1e-9).astype(np.int64), bins - 1)
    return binned


def make_z(bins: int) -> Array:
    """Z of every state-action, `(M, K)`."""
    return return_probabilities() @ np.eye(bins)[bin_of(RETURNS, bins)]


def z_partition(z: Array) -> Array:
    """Cell of every state-action: equal Z, equal cell."""
    cells: Array = np.unique(z.round(9), axis=0, return_inverse=True)[1].ravel()
    return cells


def cell_means(values: Array, cells: Array) -> Array:
    """Mean of values `(M, ...)` over the members of each state-action's cell."""
    member = np.eye(cells.max() + 1)[cells]
    means: Array = member @ ((member / member.sum(0)).T @ values)
    return means


@cache
def sample_returns(count: int, seed: int) -> Array:
    """Returns `(M, count)` of rollouts from each state-action."""
    chain = make_chain()
    rng = np.random.default_rng(seed)
    at = np.repeat(np.arange(len(chain.reward))[:, None], count, axis=1)
    cumulative = chain.move.cumsum(1)
    total = np.zeros_like(at)
    for _ in range(HORIZON):
        total += chain.reward[at]
        step = np.asarray(rng.random(at.shape))
        at = np.minimum((cumulative[at] < step[..., None]).sum(-1), len(chain.reward) - 1)
    return total


def test_return_probabilities_are_those_of_rollouts() -> None:
    probabilities = return_probabilities()
    np.testing.assert_allclose(probabilities.sum(1), 1.0)
    sampled = np.stack([np.bincount(row, minlength=len(RETURNS)) for row in sample_returns(10_000, seed=0)]) / 10_000
    assert np.abs(sampled - probabilities).max() < 0.03


@pytest.mark.parametrize("bins", BINS)
def test_merging_equal_z_keeps_q_within_half_a_bin(bins: int) -> None:
    z = make_z(bins)
    width = RETURNS[-1] / bins
    middles = (np.arange(bins) + 0.5) * width
    cells = z_partition(z)
    assert cells.max() + 1 < len(z)  # the copies are merged
    q = return_probabilities() @ RETURNS
    assert np.abs(cell_means(z @ middles, cells) - q).max() <= width / 2


def test_merging_different_z_breaks_the_bound() -> None:
    q = return_probabilities() @ RETURNS
    assert np.ptp(q) > RETURNS[-1] / 13  # no single value is within half a bin of all


@pytest.mark.parametrize("bins", [2, 4, 13])
def test_the_mean_label_is_one_minus_the_product_of_z(bins: int) -> None:
    count = 20_000
    first, second = (bin_of(sample_returns(count, seed), bins) for seed in (1, 2))
    same = torch.from_numpy(np.stack([(row == second).mean(1) for row in first]))
    target = torch.from_numpy(1 - make_z(bins) @ make_z(bins).T)
    # The mean of the squared losses over draws is least at the mean label, where its gradient is 0.
    score = (1 - same).requires_grad_()
    torch.autograd.backward(pair_regression(score, same))
    assert score.grad is not None and bool((score.grad.abs() < 1e-12).all())
    assert (score.detach() - target).abs().max() < 0.02


@pytest.mark.parametrize("bins", BINS)
def test_identical_pairs_still_differ_in_return(bins: int) -> None:
    z = make_z(bins)
    own = 1 - (z**2).sum(1)
    assert own.max() > 0.1 and own.min() >= 0.0


class Discriminator(nn.Module):
    """Encoder of one-hot state-actions and regressor on pairs of codes."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count
        self.encoder = nn.Sequential(nn.Linear(count, 32), nn.ReLU(), nn.Linear(32, 16))
        self.regressor = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))

    def forward(self) -> Tensor:
        """Return the scores `(M, M)` of all pairs."""
        codes = self.encoder(torch.eye(self.count))
        one, two = codes.repeat_interleave(self.count, 0), codes.repeat(self.count, 1)
        score: Tensor = self.regressor(torch.cat([one, two, (one - two).abs(), one * two], 1))
        return score.view(self.count, self.count)


def train_discriminator(binned: Tensor, updates: int, draws: int) -> Discriminator:
    """Fit the discriminator to sampled returns: binned `(M, count)`, the bin of every rollout's return."""
    torch.manual_seed(0)
    total, count = binned.shape
    net = Discriminator(total)
    optimiser = torch.optim.Adam(net.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, updates)
    rows = torch.arange(total)[:, None]
    for _ in range(updates):
        # Both returns are drawn for every pair, also for that of a state-action with itself.
        first = binned[rows, torch.randint(count, (draws, total, total))]
        second = binned[rows.T, torch.randint(count, (draws, total, total))]
        optimiser.zero_grad()
        torch.autograd.backward(pair_regression(net().expand(draws, -1, -1), first == second))
        optimiser.step()
        schedule.step()
    return net


def test_a_trained_encoder_reaches_the_minimiser() -> None:
    bins = 4
    binned = torch.from_numpy(bin_of(sample_returns(20_000, seed=3), bins))
    net = train_discriminator(binned, updates=1000, draws=8)
    z = torch.from_numpy(make_z(bins)).float()
    with torch.no_grad():
        score = net()
    error = (score - (1 - z @ z.T)).abs().max().item()
    assert error < 0.05
    assert (score.mean() - (1 - z @ z.T)).abs().max().item() > 0.1  # a constant would not do


def excess_risk(z: Array, cells: Array) -> float:
    """Squared loss of the best regressor on cells, over that of the best on pairs, under uniform state-actions."""
    product = z @ z.T
    best = cell_means(cell_means(product, cells).T, cells).T
    return float(((product - best) ** 2).mean())


@pytest.mark.parametrize("bins", BINS)
def test_excess_risk_is_zero_exactly_for_the_z_partition(bins: int) -> None:
    z = make_z(bins)
    cells = z_partition(z)
    assert excess_risk(z, cells) < 1e-12
    assert excess_risk(z, np.zeros_like(cells)) > 1e-5
    for other in range(1, cells.max() + 1):  # merging any two of its cells costs something
        merged = np.where(cells == other, 0, cells)
        _, dense = np.unique(merged, return_inverse=True)
        assert excess_risk(z, dense.ravel()) > 1e-10
