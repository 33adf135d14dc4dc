"""What MR.Q's speed is measured beside computes the same: the unroll's loss, the target, a step of critic and actor."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from benchmarks.mrq_eager import Eager
from rlrep.agents.mrq import MRQ
from rlrep.agents.mrq.update import UNROLL, Smoothing, td_target

from .test_mrq import SMALL, make_mrq

CONFIG = replace(SMALL, hidden_dim=8, unroll_steps=2)


def give(plain: nn.Module, agent: MRQ) -> None:
    """Give the plain networks our weights."""
    nets = agent.nets
    ours: list[Tensor] = [p for part in (nets.encoder, nets.model) for p in part.parameters()]
    for member in range(2):
        for layer in (*nets.value.hidden, nets.value.last):
            ours += [layer.weight[member].T, layer.bias[member, 0]]
    ours += nets.actor.parameters()
    with torch.no_grad():
        for theirs, weight in zip(plain.parameters(), ours, strict=True):
            theirs.copy_(weight)


def test_the_plain_twin_computes_the_same() -> None:
    agent, plain = make_mrq(config=CONFIG), Eager(CONFIG, 5, 2, 6, stored=50)
    for place in (plain.nets, plain.targets):
        give(place, agent)
    agent.nets.target_scale.fill_(1.0)
    plain.target_scale = 1.0
    batch = agent._view(agent._sample())
    followed = batch.pairs[UNROLL][agent.step.unroll]
    whole = followed.valid.all(0).nonzero().squeeze(1)
    noise = torch.randn(batch.action.shape)
    loss = plain.unroll_loss(
        batch.obs, followed.action.transpose(0, 1), followed.obs.transpose(0, 1), followed.reward.T
    )
    agent.nets.terminates.zero_()
    followed.valid.fill_(True)  # the twin knows whole windows only
    torch.testing.assert_close(agent.step.losses(batch, noise).rl, loss, atol=1e-5, rtol=1e-4)
    theirs = plain.target(batch.next_obs, batch.reward, noise)[whole, 0]
    ours = td_target(agent.nets, batch, noise, Smoothing(CONFIG.target_noise, CONFIG.noise_bound))[whole]
    goes_on = (batch.discount[whole] - CONFIG.discount**CONFIG.n_step).abs() < 1e-6
    torch.testing.assert_close(ours[goes_on], theirs[goes_on], atol=1e-5, rtol=1e-4)


def test_the_plain_twin_updates() -> None:
    plain = Eager(CONFIG, 5, 2, 6, stored=200)
    before = [p.clone() for p in plain.nets.parameters()]
    for _ in range(4):
        plain.update()
    assert all(not torch.equal(a, b) for a, b in zip(before, plain.nets.parameters(), strict=True))
    assert (plain.priority >= 0).all() and plain.priority.max() >= 1
