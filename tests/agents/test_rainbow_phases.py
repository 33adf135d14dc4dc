"""What changes in Rainbow by its updates: schedules since a reset, resets, targets that follow slowly, weight decay."""

from copy import deepcopy
from dataclasses import replace
from math import inf
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rlrep.agents.online import make_parts
from rlrep.agents.rainbow import Rainbow, RainbowConfig
from rlrep.agents.rainbow.agent import _make_networks
from rlrep.agents.rainbow.policy import Policy
from rlrep.agents.rainbow.schedules import Resets, Schedule
from rlrep.contract.agent import AgentSpec
from rlrep.heads import HeadConfig, InstanceContrast, SelfPrediction
from rlrep.nn import PixelEncoderConfig
from rlrep.views import CropPadCrop, RandomCrop

from .rainbow_rig import ACTIONS, PIXELS, SMALL, make_rainbow, observations, parameters

HEADS: dict[str, HeadConfig] = {
    "curl": InstanceContrast(
        objective="info_nce",
        negatives="queue",
        queue_size=20,
        view=CropPadCrop(23),
        embedding_dim=8,
        hidden_dim=8,
    ),
    "self_prediction": SelfPrediction(steps=2, transition_dim=8, hidden_dim=8, embedding_dim=6),
}
SHRINK = Resets(every=4, keep_encoder=0.75)
PHASES = replace(
    SMALL,
    n_step_schedule=Schedule(5, 3),
    discount_schedule=Schedule(0.5, 3),
    resets=SHRINK,
    target_tau=0.3,
    target_every=1,
    weight_decay=0.1,
)


# Schedules


@pytest.mark.parametrize("since", [0, 1, 400, 9_999, 10_000, 70_000])
def test_schedules_are_the_published_ones(since: int) -> None:
    """By logarithms, as BBF writes them: of n over the largest n, and of 1 - discount."""
    left = float(np.clip((10_000 - since) / 10_000, 0, 1))
    steps = np.exp(left * (0 - np.log(3 / 10)) + np.log(3 / 10)) * 10
    gap = np.exp(left * (np.log(1 - 0.97) - np.log(1 - 0.997)) + np.log(1 - 0.997))
    assert Schedule(10, 10_000).horizon(3, since) == int(np.round(steps))
    assert Schedule(0.97, 10_000).discount(0.997, since) == pytest.approx(1 - gap, abs=1e-12)
    assert (Schedule().horizon(3, since), Schedule().discount(0.99, since)) == (3, 0.99)


@pytest.mark.parametrize("resets", [Resets(), Resets(every=3), Resets(every=3, until=10), Resets(every=3, until=9)])
def test_resets_come_every_so_often_until_the_last(resets: Resets) -> None:
    latest = 0
    for updates in range(20):
        due = updates > 0 and updates % (resets.every or 100) == 0 and updates <= (resets.until or 100)
        latest = updates if due else latest
        assert (resets.due(updates), resets.latest(updates)) == (due, latest)


def test_the_replay_is_told_the_schedule_before_each_update(monkeypatch: pytest.MonkeyPatch) -> None:
    agent, told = make_rainbow(config=PHASES), list[tuple[int, float]]()
    assert agent.replay.spec.n_step == 5
    tell = agent.replay.sum_rewards

    def heard(n_step: int, discount: float) -> None:
        told.append((n_step, discount))
        tell(n_step, discount)

    monkeypatch.setattr(agent.replay, "sum_rewards", heard)
    for _ in range(10):
        agent.update()
    cycle = [(5, 0.5), (4, 1 - 0.5 ** (2 / 3) * 0.01 ** (1 / 3)), (4, 1 - 0.5 ** (1 / 3) * 0.01 ** (2 / 3)), (3, 0.99)]
    assert told == [pytest.approx(each) for each in [*cycle, *cycle, *cycle[:2]]]
    assert agent._last is not None
    drawn = agent._last[0].discount
    assert float(drawn[drawn > 0].min()) == pytest.approx(cycle[1][1] ** 4)


# Resets


def fresh_parts(agent: Rainbow, config: RainbowConfig, updates: int) -> dict[str, Tensor]:
    """What a reset after so many updates draws: an agent's parts by a seed of their own."""
    seed = int(np.random.SeedSequence(0, spawn_key=(updates,)).generate_state(1)[0])
    encoder = PixelEncoderConfig(strides=(5, 2), channels=4, kernels=(5, 2), trunk="none", init="torch")
    spec = AgentSpec(PIXELS, ACTIONS, encoder, RandomCrop(23), HEADS, seed=seed, frame_stack=2, num_envs=2)
    nets, heads = make_parts(spec, lambda made: _make_networks(config, spec, made), config.pull)
    return {**nets.state_dict(), **{f"heads.{k}": v for k, v in heads.modules.state_dict().items()}}


def kept(name: str, resets: Resets) -> float:
    """The share of the old value of a tensor that a reset leaves, by its name."""
    if "encoder" in name.split(".")[0] or name.startswith("heads.self_prediction.transition"):
        return resets.keep_encoder
    return resets.keep_aux if name.startswith("heads.") else resets.keep_head


@pytest.mark.parametrize("resets", [SHRINK, Resets(every=4), Resets(every=4, keep_head=0.5, keep_aux=1)])
def test_a_reset_mixes_every_part_by_its_share_and_clears_what_the_optimiser_knew_of_it(resets: Resets) -> None:
    config = replace(PHASES, resets=resets)
    agent = make_rainbow(config=config, aux=HEADS)
    for _ in range(4):
        agent.update()
    before, states = parameters(agent), deepcopy(agent.optimisers.state())
    agent._prepare(4, agent.replay)  # type: ignore[misc]
    new, after = fresh_parts(agent, config, 4), parameters(agent)
    assert new.keys() == after.keys()
    for name, tensor in after.items():
        share = kept(name, resets)
        want = new[name] if share == 0 else share * before[name] + (1 - share) * new[name]
        torch.testing.assert_close(tensor, before[name] if share == 1 else want, msg=name)
    assert not torch.equal(before["head.hidden.weight"], new["head.hidden.weight"])
    queue: Any = agent.heads.tasks["curl"].contrast.queue  # type: ignore[union-attr]
    assert len(queue.memory) == (0 if resets.keep_aux == 0 else 20)
    ((adam, state),) = zip(agent.optimisers.adams.values(), states, strict=True)
    modules: Any = nn.ModuleDict({"heads": agent.heads.modules})
    names = {id(p): name for holder in (agent.nets, modules) for name, p in holder.named_parameters()}
    for place, parameter in enumerate(adam.parameters):
        for field in ("first", "second", "steps"):
            now, old = adam.state()[field][place], state[field][place]
            untouched = kept(names[id(parameter)], resets) == 1
            assert torch.equal(now, old if untouched else torch.zeros_like(old)), (names[id(parameter)], field)
            assert old.abs().max() > 0


def test_a_reset_draws_the_same_again_and_another_one_others() -> None:
    first, second = (make_rainbow(config=PHASES, aux=HEADS) for _ in range(2))
    torch.manual_seed(5)
    states = torch.get_rng_state()
    first._prepare(4, first.replay)  # type: ignore[misc]
    assert torch.equal(torch.get_rng_state(), states), "the global stream is left alone"
    second._prepare(8, second.replay)  # type: ignore[misc]
    again = make_rainbow(config=PHASES, aux=HEADS)
    again._prepare(4, again.replay)  # type: ignore[misc]
    ours, same, others = parameters(first), parameters(again), parameters(second)
    assert all(torch.equal(ours[name], same[name]) for name in ours)
    assert not torch.equal(ours["head.hidden.weight"], others["head.hidden.weight"])


def test_a_frozen_body_stays() -> None:
    encoder = PixelEncoderConfig(
        strides=(5, 2), channels=4, kernels=(5, 2), latent_dim=6, trunk="relu", init="torch", freeze=True
    )
    agent = make_rainbow(config=replace(PHASES, resets=Resets(every=1, keep_encoder=0)), encoder=encoder)
    before = parameters(agent)
    agent._prepare(1, agent.replay)  # type: ignore[misc]
    after = parameters(agent)
    bodies = {name for name in before if "encoder" in name and "body" in name}
    still = {name for name in before if torch.equal(before[name], after[name]) and "sigma" not in name}
    assert still == bodies and len(bodies) == 8


@pytest.mark.parametrize("policy", [Policy(), Policy(0.1, updates=8), Policy(0.5, target_entropy=0.9, soft=True)])
def test_resume_is_bit_exact_across_a_reset(policy: Policy) -> None:
    agent, other = (make_rainbow(config=replace(PHASES, policy=policy), aux=HEADS, seed=0) for _ in range(2))
    for _ in range(4):  # the reset after them is the next update's
        agent.update()
    for name, ring in agent.rings.items():
        other.rings[name].restore(ring.oldest, ring.read(ring.oldest, ring.written))
    other.load_state(deepcopy(agent.state()))
    for _ in range(6):
        agent.update()
        other.update()
    ours, theirs = parameters(agent), parameters(other)
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


# Targets and decay


def test_targets_follow_by_tau_and_may_act() -> None:
    agent = make_rainbow(config=replace(SMALL, target_every=2, target_tau=0.25))
    for update in range(1, 5):
        before = parameters(agent)
        agent.update()
        after, tau = parameters(agent), 0.25 if update % 2 == 0 else 0.0
        for name in (name for name in after if name.startswith("target_")):
            online = after[name.removeprefix("target_").replace(".module", "", 1)]
            torch.testing.assert_close(after[name], before[name].lerp(online, tau), msg=name)
    obs = observations(PIXELS, np.random.default_rng(0), 64)
    acting, other = (make_rainbow(config=replace(SMALL, act_by_target=by_target)) for by_target in (True, False))
    for each in (acting, other):
        heads: Any = (each.nets.head, each.nets.target_head.module)
        for best, head in enumerate(heads):
            head.advantage.bias.data.view(3, 7)[best, -1] += 9.0  # it promises the most
    assert set(acting.act(obs, explore=False)) == {1} and set(other.act(obs, explore=False)) == {0}


@pytest.mark.parametrize("aux", [{}, HEADS])
def test_weights_decay_and_biases_do_not(aux: dict[str, HeadConfig]) -> None:
    decaying, plain = (make_rainbow(config=replace(SMALL, weight_decay=wd), aux=aux) for wd in (0.1, 0.0))
    before = parameters(plain)
    for agent in (decaying, plain):
        agent.update()
    ours, theirs = parameters(decaying), parameters(plain)
    modules: Any = nn.ModuleDict({"heads": plain.heads.modules})
    named = [*plain.nets.named_parameters(), *modules.named_parameters()]
    trained = {name: p for name, p in named if p.requires_grad}
    for name, parameter in trained.items():
        less = 0.1 * SMALL.lr * before[name] if parameter.dim() > 1 else torch.zeros_like(parameter)
        torch.testing.assert_close(theirs[name] - ours[name], less, atol=1e-7, rtol=1e-3, msg=name)
    assert len(trained) >= 8


# Bad input


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Schedule(start=10), "start=10 needs updates: over how many"),
        (lambda: Schedule(start=10, updates=0), "updates must be at least 1"),
        (lambda: replace(SMALL, n_step_schedule=Schedule(2.5, 9)), "whole number of steps"),
        (lambda: replace(SMALL, n_step_schedule=Schedule(inf, 9)), "whole number of steps"),
        (lambda: replace(SMALL, discount_schedule=Schedule(1.0, 9)), "discounts below 1"),
        (lambda: replace(SMALL, discount=1.0, discount_schedule=Schedule(0.9, 9)), "discounts below 1"),
        (lambda: Resets(every=0), "every must be at least 1"),
        (lambda: Resets(every=9, until=5), "until=5 is before the first reset"),
        (lambda: Resets(keep_encoder=1.5), r"keep_encoder must lie in \[0, 1\]"),
        (lambda: replace(SMALL, resets=Resets(every=60)).for_updates(89), "a run of 89 updates has no room"),
        (lambda: replace(SMALL, resets=Resets(every=60, until=60)).for_updates(60), "a run of 60 updates has no room"),
        (lambda: replace(SMALL, target_tau=0.0), r"target_tau must lie in \(0, 1\]"),
        (lambda: replace(SMALL, weight_decay=-1.0), "weight_decay must be at least 0"),
        (lambda: make_rainbow().replay.sum_rewards(4, 0.9), "n_step must lie between 1 and the layout's 3"),
    ],
)
def test_misfits_are_refused_in_words(make: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


def test_a_run_without_a_planned_end_to_its_resets_cannot_be_made_longer() -> None:
    config = replace(SMALL, priority_beta_steps=9, resets=Resets(every=40))
    assert config.depends_on_length and not replace(config, resets=Resets(every=40, until=40)).depends_on_length
    assert config.for_updates(100).resets.until == 80 and SMALL.for_updates(0) == SMALL
