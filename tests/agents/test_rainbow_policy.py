"""Rainbow with a policy (SAC for discrete actions): its losses row by row, the optimum it comes to, acting, resets."""

from copy import deepcopy
from dataclasses import replace
from math import log
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rlrep.agents.rainbow import Rainbow, RainbowConfig
from rlrep.agents.rainbow.policy import Policy
from rlrep.agents.rainbow.schedules import Resets
from rlrep.contract.agent import AgentSpec
from rlrep.nn import MLPEncoderConfig
from rlrep.replay import Batch
from rlrep.views import NoChange

from .rainbow_rig import ACTIONS, SMALL, STATE, make_rainbow, observations, parameters
from .test_rainbow_update import plain_projection

QUIET = replace(SMALL, noisy=False, epsilon_start=0.0, epsilon_final=0.0)
LEARNT = Policy(temperature=0.5, target_entropy=0.6, soft=True)


# One update


@torch.no_grad()
def plain_target(agent: Rainbow, batch: Batch, row: int, policy: Policy) -> list[float]:
    """The target's distribution, or value, of one row: action by action and atom by atom."""
    nets: Any = agent.nets
    z = nets.target_encoder(batch.next_obs[row : row + 1])
    each = nets.target_head.module(z, nets.target_head.module.perturbed(None))[0]
    chances = nets.head.policy.layers(nets.encoder(batch.next_obs[row : row + 1])).softmax(1)[0]
    bonus = sum(-0.5 * float(p) * log(float(p)) for p in chances) if policy.soft else 0.0
    reward, discount, support = float(batch.reward[row]), float(batch.discount[row]), nets.support.tolist()
    if len(support) == 1:
        return [reward + discount * (sum(float(p * q[0]) for p, q in zip(chances, each, strict=True)) + bonus)]
    mixed = sum(p * logits.softmax(0) for p, logits in zip(chances, each, strict=True))
    return plain_projection(mixed.tolist(), [reward + discount * (atom + bonus) for atom in support], support)


def plain_loss(agent: Rainbow, batch: Batch, policy: Policy) -> Tensor:
    """The whole loss, row by row."""
    nets: Any = agent.nets
    total, atoms = torch.zeros(()), len(nets.support)
    assert batch.weight is not None
    for row in range(len(batch.reward)):
        latent, goal = nets.encoder(batch.obs[row : row + 1]), torch.tensor(plain_target(agent, batch, row, policy))
        every = nets.head(latent, nets.head.perturbed(None))[0]
        taken = every[batch.action[row]]
        error = taken[0] - goal[0]
        huber = error**2 / 2 if error.abs() < 1 else error.abs() - 0.5
        loss = huber if atoms == 1 else -(goal * taken.log_softmax(0)).sum()
        q = every.detach()[:, 0] if atoms == 1 else (every.detach().softmax(1) * nets.support).sum(1)
        log_p = nets.head.policy.layers(latent).log_softmax(1)[0]
        for action in range(3):  # E[alpha log pi - Q], Christodoulou 2019
            loss = loss + log_p[action].exp() * (0.5 * log_p[action] - q[action])
        if policy.target_entropy is not None:
            entropy = -(log_p.exp() * log_p).sum().detach()
            loss = loss + nets.head.policy.scale.exp() * (entropy - policy.target_entropy * log(3))
        total = total + batch.weight[row] * loss / len(batch.reward)
    return total


@pytest.mark.parametrize("atoms", [1, 7])
@pytest.mark.parametrize("policy", [Policy(0.5), Policy(0.5, soft=True), LEARNT])
def test_an_update_equals_the_plain_one(policy: Policy, atoms: int) -> None:
    config = replace(QUIET, policy=policy, atoms=atoms, max_norm=1e9)
    agent, before = (make_rainbow(pixels=False, config=config) for _ in range(2))
    agent.update()
    assert agent._last is not None
    learnt = [p for p in (*before.nets.encoder.parameters(), *before.nets.head.parameters()) if p.requires_grad]
    optimiser = torch.optim.Adam(learnt, config.lr, eps=config.adam_eps)
    plain_loss(before, agent._last[0], policy).backward()
    optimiser.step()
    ours, theirs = parameters(agent), parameters(before)
    assert ours.keys() == theirs.keys()
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], atol=2e-5, rtol=1e-4, msg=name)
    moved = ours["head.policy.scale"] != make_rainbow(pixels=False, config=config).nets.head.policy.scale  # type: ignore[union-attr]
    assert bool(moved) == (policy.target_entropy is not None)


# A problem with a known answer

REWARDS = torch.tensor([0.0, 0.3, 0.6])


def in_one_state(policy: Policy, updates: int) -> Rainbow:
    """An agent that knows one state, which each action pays for and none leaves, after so many updates."""
    learning = RainbowConfig(hidden_dim=16, batch_size=16, capacity=100, lr=1e-2, target_every=5, policy=policy)
    config = replace(learning, n_step=1, discount=0.5, atoms=26, v_min=-1.0, v_max=4.0, noisy=False, prioritised=False)
    agent = config.make(AgentSpec(STATE, ACTIONS, MLPEncoderConfig(8, 6), NoChange(), {}, num_envs=3))
    state, no = np.ones((3, 5), np.float32), np.zeros(3, bool)
    agent.replay.begin(state)
    for _ in range(10):
        agent.replay.add(np.arange(3), REWARDS.numpy(), no, no, state, state, no)
    for _ in range(updates):
        agent.update()
    return agent


def known(agent: Rainbow) -> tuple[Tensor, Tensor]:
    """The policy and the values in that state."""
    nets: Any = agent.nets
    with torch.no_grad():
        latent = nets.encoder(torch.ones(1, 5))
        logits = nets.head(latent, nets.head.perturbed(None))[0]
        return nets.head.policy(latent)[0].exp(), (logits.softmax(1) * nets.support).sum(1)


@pytest.mark.parametrize("soft", [True, False])
def test_it_comes_to_the_optimum_at_its_temperature(soft: bool) -> None:
    """With Q = r + V / 2: pi = softmax(r / alpha), V = 2 alpha log sum exp(r / alpha), or 2 pi r where it is hard."""
    chances, values = known(in_one_state(Policy(0.3, soft=soft), 120))
    best = (REWARDS / 0.3).softmax(0)
    value = 0.6 * (REWARDS / 0.3).logsumexp(0) if soft else 2 * (best * REWARDS).sum()
    torch.testing.assert_close(chances, best, atol=0.02, rtol=0)
    torch.testing.assert_close(values, REWARDS + value / 2, atol=0.03, rtol=0)


def test_a_learnt_temperature_brings_the_entropy_that_is_asked_for() -> None:
    agent = in_one_state(Policy(0.4, target_entropy=0.8), 200)
    chances, _ = known(agent)
    assert float(-(chances * chances.log()).sum()) == pytest.approx(0.8 * log(3), abs=0.02)
    assert 0.2 < agent.metrics()["policy/temperature"] < 0.4


# Acting, and what changes by updates


def test_it_explores_by_the_policy_and_else_takes_its_likeliest_action() -> None:
    config = replace(QUIET, policy=Policy(0.1), act_by_target=True)
    agent = make_rainbow(pixels=False, config=config)
    nets: Any = agent.nets
    wanted = torch.tensor([0.5, 0.2, 0.3])
    for head, bias in ((nets.head, wanted.flip(0)), (nets.target_head.module, wanted)):
        head.policy.layers[2].weight.data.zero_()
        head.policy.layers[2].bias.data = bias.log()
    obs = observations(STATE, np.random.default_rng(0), 4000)
    shares = np.bincount(agent.act(obs, explore=True), minlength=3) / 4000
    assert np.abs(shares - wanted.numpy()).max() < 0.03
    assert set(agent.act(obs, explore=False)) == {0}
    agent._policy.args[0].__dict__["act_by_target"] = False  # type: ignore[attr-defined]
    assert set(agent.act(obs, explore=False)) == {2}
    gap = agent.divergence(torch.as_tensor(obs[:2]))  # type: ignore[misc]
    torch.testing.assert_close(gap(torch.as_tensor(obs[2:4])), -wanted[:1].log().expand(2))


def test_the_temperature_falls_by_updates_and_a_reset_leaves_it() -> None:
    falling = replace(QUIET, policy=Policy(0.4, updates=4), resets=Resets(every=3))
    learnt = replace(QUIET, policy=LEARNT, resets=Resets(every=3))
    agent, other = (make_rainbow(pixels=False, config=config) for config in (falling, learnt))
    seen = []
    for _ in range(6):
        agent.update()
        seen.append(float(agent.nets.head.policy.scale))  # type: ignore[union-attr]
    assert seen == pytest.approx([0.4, 0.3, 0.2, 0.1, 0.0, 0.0])
    for _ in range(3):
        other.update()
    before, moments = parameters(other), deepcopy(other.optimisers.state())
    other._prepare(3, other.replay)  # type: ignore[misc]
    after = parameters(other)
    still = {name for name in before if torch.equal(before[name], after[name])}
    assert {"head.policy.scale", "target_head.module.policy.scale"} <= still and before["head.policy.scale"] != log(0.5)
    assert not {name for name in still if "policy.layers" in name}
    (adam,) = other.optimisers.adams.values()
    place = next(i for i, p in enumerate(adam.parameters) if p is other.nets.head.policy.scale)  # type: ignore[union-attr]
    assert adam.state()["first"][place] == moments[0]["first"][place] != 0


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Policy(-0.1), "temperature must be at least 0"),
        (lambda: Policy(0.1, updates=0), "updates must be at least 1"),
        (lambda: Policy(0.1, target_entropy=1.5), r"target_entropy must lie in \[0, 1\]"),
        (lambda: Policy(soft=True), "no policy without a temperature"),
        (lambda: Policy(0.0, target_entropy=0.5), "learns the temperature, from above 0"),
        (lambda: Policy(0.1, updates=5, target_entropy=0.5), "choose updates=null"),
    ],
)
def test_misfits_are_refused_in_words(make: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()
