"""Latent contrast: a loop, no future, what it teaches, and the agent's own model, of which nothing is left when off."""

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn.functional import normalize

from rlrep.heads import Encoded, Encoders, LatentContrast, Pull
from rlrep.replay import Batch, Later, Pairs
from tests.agents.rainbow_rig import parameters
from tests.agents.test_mrq import SMALL, make_mrq

from .test_aux import BOX, ROWS, WIDTH, Setting, given
from .test_aux_contrast import batch_of
from .test_aux_heads import assert_trained, make_later


@pytest.mark.parametrize("discrete", [False, True])
def test_it_equals_a_loop(discrete: bool) -> None:
    setting, later = Setting(), make_later(3, discrete=discrete)
    batch = batch_of(given(later=later))
    config = LatentContrast(steps=3, transition_dim=7, temperature=0.3)
    head = config.make("head", WIDTH, spaces.Discrete(3) if discrete else BOX)
    loss, health = head.loss(batch, batch.pairs["head"], setting.encode(batch), setting.encoders)
    assert head.transition is not None
    total = torch.zeros(())
    latent = setting.online(batch.obs)
    for k in range(3):
        code = nn.functional.one_hot(later.action[k], 3).float() if discrete else later.action[k]
        latent = head.transition(torch.cat([latent, code], 1))
        keys = normalize(setting.target(later.obs[k]))
        rows: list[Tensor] = []
        for row in range(ROWS):
            if later.valid[k, row]:
                exponents = (normalize(latent[row], dim=0) @ keys.T / 0.3).exp()
                rows.append(-(exponents[row] / exponents.sum()).log())
        total = total + torch.stack(rows).mean()
    torch.testing.assert_close(loss, total, atol=1e-5, rtol=1e-4)
    assert health["with_later"] == pytest.approx((5 + 4 + 4) / 18)
    assert_trained(head, setting, loss)


def test_without_a_future_it_is_zero_and_bad_numbers_are_refused() -> None:
    setting, later = Setting(), make_later(2)
    nothing = Later(later.obs, torch.zeros_like(later.valid), later.action)
    head, batch = LatentContrast(steps=2).make("head", WIDTH, BOX), batch_of(given(later=nothing))
    loss, _ = head.loss(batch, batch.pairs["head"], setting.encode(batch), setting.encoders)
    assert loss == 0
    for wrong in ({"steps": 0}, {"temperature": 0.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            LatentContrast(**wrong)


@pytest.mark.parametrize("follows", [True, False])
def test_it_learns_what_follows_where_anything_does(follows: bool) -> None:
    """On a rotation by the action, new rows each time; where what follows is unrelated it stays at chance."""
    draw = torch.Generator().manual_seed(0)
    config = LatentContrast(steps=1, transition_dim=32)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        online, head = nn.Linear(2, 8), config.make("head", 8, spaces.Box(-1, 1, (1,)))
    target = copy.deepcopy(online).requires_grad_(False)
    optimiser = torch.optim.Adam([*online.parameters(), *head.parameters()], 1e-2)
    accuracy = []
    for _ in range(150):
        obs, action = torch.randn(32, 2, generator=draw), torch.rand(1, 32, 1, generator=draw) - 0.5
        cos, sin = action[0, :, 0].cos(), action[0, :, 0].sin()
        turned = torch.stack([cos * obs[:, 0] - sin * obs[:, 1], sin * obs[:, 0] + cos * obs[:, 1]], 1)
        later = (turned if follows else torch.randn(32, 2, generator=draw))[None]
        nothing = torch.zeros(32)
        pairs = Pairs({head.needs.requests[0]: Later(later, torch.ones(1, 32, dtype=torch.bool), action)})
        batch = Batch(obs, action[0], nothing, nothing, obs)
        loss, health = head.loss(batch, pairs, Encoded(online(obs)), Encoders(online, target))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        accuracy.append(float(health["accuracy"]))
    last = sum(accuracy[-20:]) / 20
    assert last > 0.4 if follows else last < 0.12


@pytest.mark.parametrize("pull", ["sum", "balanced", "own"])
def test_on_an_agents_model_it_draws_and_adds_nothing_of_its_own(pull: Pull) -> None:
    config = replace(SMALL, pull=pull)
    states: list[Any] = []
    for weight in (None, 0.0, 1.0):
        agent = make_mrq(config=config, aux={} if weight is None else {"latent_contrast": LatentContrast(weight)})
        assert not list(agent.heads.modules.parameters())
        agent.update()
        agent.update()
        states.append(parameters(agent))
        assert agent.nonfinite() == []
    off, idle, on = states
    for name in off:  # balanced at the latent, a gradient is rounded otherwise
        torch.testing.assert_close(off[name], idle[name], atol=1e-5, rtol=0.0 if pull == "sum" else 1e-4, msg=name)
    assert max((off[name] - on[name]).abs().max().item() for name in off if name.startswith("encoder")) > 1e-4
