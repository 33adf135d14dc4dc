"""MR.Q: two-hot rewards, both kinds of step against plain twins, phases, ownership, resume, compilation, refusals."""

import math
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rlrep.agents.mrq import MRQ, MRQConfig
from rlrep.agents.mrq.two_hot import cross_entropy, make_bins, mean, place
from rlrep.agents.mrq.update import UNROLL, Due, Smoothing, td_target
from rlrep.agents.sac import SACConfig
from rlrep.commands.train import main as train
from rlrep.contract.agent import AgentSpec
from rlrep.heads import HeadConfig, InstanceContrast, ReturnContrast
from rlrep.nn import EluConvConfig, EluMLPConfig, IdentityConfig
from rlrep.replay import Batch
from rlrep.views import AmplitudeScale, NoChange, RandomShift
from tests.runs import evaluations

from .rainbow_rig import fill, parameters

PIXELS = spaces.Box(0, 255, (6, 24, 24), np.uint8)
STATE = spaces.Box(-np.inf, np.inf, (5,), np.float32)
ACTIONS = spaces.Box(-1, 1, (2,), np.float32)
SMALL = MRQConfig(hidden_dim=16, action_width=4, batch_size=8, capacity=200, target_every=3, bins=9, bound=2.0)
HEADS: dict[str, HeadConfig] = {
    "curl": InstanceContrast(view=None),
    "return_contrast": ReturnContrast(threshold=2.0, hidden_dim=8, embedding_dim=8),
}


def make_mrq(
    *,
    pixels: bool = False,
    config: MRQConfig = SMALL,
    aux: dict[str, HeadConfig] | None = None,
    compile: Any = "off",
    seed: int = 0,
) -> MRQ:
    """A small agent with 60 random transitions of two environments in its replay."""
    space = PIXELS if pixels else STATE
    agent = config.make(
        AgentSpec(
            space,
            ACTIONS,
            frame_stack=2 if pixels else 1,
            num_envs=2,
            encoder=EluConvConfig(strides=(2, 2), channels=4, latent_dim=6) if pixels else EluMLPConfig(8, 6),
            augment=RandomShift(20, 2) if pixels else AmplitudeScale(),
            aux=aux or {},
            seed=seed,
            compile=compile,
        )
    )
    draw = {"reward": lambda rng: rng.random(2), "action": lambda rng: rng.uniform(-1, 1, (2, 2)).astype(np.float32)}
    fill(agent, space, 30, **draw)
    return agent


# Two-hot rewards


@pytest.mark.parametrize("value", [-30.0, -1.0, -0.013, 0.0, 0.4, 6.0, 1e6])
def test_two_hot_is_the_two_neighbours_in_proportion(value: float) -> None:
    bins = make_bins(9, 2.0)
    symexp = [math.copysign(math.exp(abs(x)) - 1, x) for x in (-2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0)]
    assert bins.tolist() == pytest.approx(symexp, abs=1e-6)
    within = min(max(value, symexp[0]), symexp[-1])
    lower = max(k for k in range(8) if symexp[k] <= within + 1e-9)
    upper = (within - symexp[lower]) / (symexp[lower + 1] - symexp[lower])
    found, share = place(torch.tensor([[value]]), bins)
    assert found.item() == lower and share.item() == pytest.approx(upper, abs=1e-5)
    logits = torch.randn(1, 1, 9, generator=torch.Generator().manual_seed(0))
    two_hot = torch.zeros(9)
    two_hot[lower], two_hot[lower + 1] = 1 - upper, upper
    expected = torch.nn.functional.cross_entropy(logits[0], two_hot[None])
    torch.testing.assert_close(cross_entropy(logits, torch.tensor([[value]]), bins).squeeze(), expected)
    certain = (two_hot.clamp(min=1e-30)).log()
    assert mean(certain, bins).item() == pytest.approx(within, abs=1e-4)


# Both kinds of step


def plain_unroll(nets: Any, batch: Batch, config: MRQConfig) -> Tensor:
    """The unroll's loss row by row and step by step, which ends with the episode."""
    followed = batch.pairs[UNROLL][next(iter(batch.pairs[UNROLL].found))]
    total = torch.zeros(())
    for row in range(len(batch.obs)):
        latent = nets.encoder(batch.obs[row : row + 1])
        for step in range(config.unroll_steps):
            if not followed.valid[step, row]:
                break
            joint = nets.model(latent, followed.action[step, row : row + 1])
            terminated, latent, logits = nets.model.linear(joint).split([1, latent.shape[1], config.bins], 1)
            goal = nets.target_encoder(followed.obs[step, row : row + 1])
            lower, share = place(followed.reward[step, row], nets.bins)
            log_prob = logits[0].log_softmax(0)
            reward = -(1 - share) * log_prob[lower] - share * log_prob[lower + 1]
            ended = (terminated - followed.terminated[step, row].float()).square().sum()
            total = total + config.latent_weight * (latent - goal).square().mean() + config.reward_weight * reward
            total = total + config.terminated_weight * ended
    return total / len(batch.obs)


@pytest.mark.parametrize("pixels", [True, False])
def test_a_step_of_the_encoder_equals_the_plain_one(pixels: bool) -> None:
    agent = make_mrq(pixels=pixels)
    agent.nets.renew(*agent.replay.rewards())
    nets = deepcopy(agent.nets)
    agent._advance(agent._sample, Due(encoder=True))
    assert agent._last is not None and agent.nets.terminates == 1
    batch, _ = agent._last
    followed = batch.pairs[UNROLL][agent.step.unroll]
    assert not followed.valid.all() and followed.terminated[followed.valid].any()  # both ends are met
    optimiser = torch.optim.AdamW(
        [*nets.encoder.parameters(), *nets.model.parameters()], SMALL.encoder_lr, weight_decay=SMALL.weight_decay
    )
    plain_unroll(nets, batch, SMALL).backward()
    optimiser.step()
    for name, theirs in nets.state_dict().items():
        torch.testing.assert_close(agent.nets.state_dict()[name], theirs, atol=2e-6, rtol=1e-5, msg=name)


def plain_update(nets: Any, batch: Batch, noise: Tensor, config: MRQConfig) -> Tensor:
    """The critic's step, then the actor's, with torch's own AdamW. Returns the TD errors."""
    critic, actor = (
        torch.optim.AdamW(module.parameters(), config.lr, weight_decay=config.weight_decay)
        for module in (nets.value, nets.actor)
    )
    with torch.no_grad():
        latent = nets.target_encoder(batch.next_obs)
        blur = torch.clamp(config.target_noise * noise, -config.noise_bound, config.noise_bound)
        action = torch.clamp(torch.tanh(nets.target_actor(latent)) + blur, -1, 1)
        first, second = nets.target_value(nets.target_model(latent, action))
        ahead = batch.discount * torch.minimum(first, second) * nets.target_scale
        target = (batch.reward + ahead) / nets.reward_scale
        here = nets.encoder(batch.obs)
    error: Tensor = nets.value(nets.model(here, batch.action).detach()) - target
    huber = torch.where(error.abs() < 1, 0.5 * error.square(), error.abs() - 0.5)
    huber.mean().backward()
    nn.utils.clip_grad_norm_(nets.value.parameters(), config.max_norm)
    critic.step()
    raw = nets.actor(here)
    (config.penalty * raw.square().mean() - nets.value(nets.model(here, raw.tanh())).mean()).backward()
    actor.step()
    return error.detach()


def test_a_step_of_critic_and_actor_equals_the_plain_one() -> None:
    config = replace(SMALL, max_norm=0.05, penalty=0.3)
    agent = make_mrq(config=config)
    for _ in range(4):
        agent.update()
    nets, weights = deepcopy(agent.nets), agent.replay._priorities
    agent.optimisers.adams |= {
        name: type(adam)(adam.parameters, adam.lr, weight_decay=adam.weight_decay)
        for name, adam in agent.optimisers.adams.items()
    }
    agent._advance(partial(agent.replay.sample, 8, alone=True), Due(encoder=False))
    assert agent._last is not None and weights is not None
    batch, noise = agent._last
    error = plain_update(nets, batch, noise, config)
    for name, theirs in nets.state_dict().items():
        torch.testing.assert_close(agent.nets.state_dict()[name], theirs, atol=2e-6, rtol=1e-5, msg=name)
    assert batch.rows is not None and batch.pairs == {}
    largest = error.abs().amax(0).clamp(min=1) ** config.priority_alpha  # LAP
    for row, number in enumerate(batch.rows.tolist()):
        ours = weights._tree.of(torch.tensor([number % weights._tree.size]))
        same = largest[batch.rows == number].max()
        torch.testing.assert_close(ours.squeeze(), same, atol=1e-4, rtol=1e-4, msg=f"row {row}")


def test_noise_of_the_target_is_clipped_and_the_reward_scaled() -> None:
    nets = make_mrq().nets
    nets.reward_scale.fill_(2.0), nets.target_scale.fill_(3.0)
    nets.target_actor.module = nn.Sequential(nn.Linear(6, 2))
    with torch.no_grad():
        for parameter in nets.target_actor.module.parameters():
            parameter.zero_()
    seen: list[Tensor] = []

    def joined(latent: Tensor, action: Tensor) -> Tensor:
        seen.append(action)
        return action

    nets.target_model.module.forward = joined
    nets.target_value.module.forward = lambda joint: torch.tensor([[5.0, 5.0, 5.0], [4.0, 6.0, 7.0]])
    batch = Batch(torch.zeros(3, 5), torch.zeros(3, 2), torch.ones(3), torch.tensor([0.9, 0.9, 0.0]), torch.zeros(3, 5))
    noise = torch.tensor([[1.0, -1.0], [9.0, -9.0], [0.0, 0.5]])
    target = td_target(nets, batch, noise, Smoothing(0.2, 0.3))
    torch.testing.assert_close(seen[0], torch.tensor([[0.2, -0.2], [0.3, -0.3], [0.0, 0.1]]))
    torch.testing.assert_close(target, torch.tensor([(1 + 0.9 * 4 * 3) / 2, (1 + 0.9 * 5 * 3) / 2, 0.5]))


# Phases, ownership, state


def test_the_encoder_learns_in_phases_and_targets_are_copied_before() -> None:
    agent = make_mrq()
    moved = []
    for _ in range(7):
        before = parameters(agent)
        agent.update()
        after = parameters(agent)
        changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
        assert {"value", "actor"} <= changed
        moved.append("encoder" in changed and "model" in changed)
        assert moved[-1] == bool({"target_scale", "target_encoder", "target_actor"} & changed)
    assert moved == [True, False, False, True, False, False, True]
    rewards = agent.replay._reader.flat["reward"][:60]
    torch.testing.assert_close(agent.nets.reward_scale, rewards.abs().mean())


def test_heads_train_the_encoder_alone() -> None:
    agent = make_mrq(aux=HEADS)
    owned = [id(p) for adam in agent.optimisers.adams.values() for p in adam.parameters]
    trainable = [id(p) for module in (agent.nets, agent.heads.modules) for p in module.parameters() if p.requires_grad]
    assert sorted(owned) == sorted(trainable)
    before = parameters(agent)
    agent.update()
    agent.update()
    values = agent.metrics()
    assert all(np.isfinite(value) for value in values.values())
    assert {"aux/curl/grad_ratio", "loss/latent", "loss/critic", "rep/effective_rank"} <= values.keys()
    after = parameters(agent)
    assert [name for name in before if name.startswith("heads.") and torch.equal(before[name], after[name])] == []


@pytest.mark.parametrize(("pixels", "replay", "heads"), [(True, "faded", ("curl",)), (False, "uniform", ())])
def test_resume_is_bit_exact(pixels: bool, replay: Any, heads: tuple[str, ...]) -> None:
    config, aux = replace(SMALL, replay=replay), {name: HEADS[name] for name in heads}
    agent, other = (make_mrq(pixels=pixels, config=config, aux=aux, seed=seed) for seed in (0, 9))
    for _ in range(2):
        agent.update()
    for key, ring in agent.rings.items():
        other.rings[key].restore(ring.oldest, ring.read(ring.oldest, ring.written))
    other.load_state(deepcopy(agent.state()))
    for _ in range(3):
        agent.update()
        other.update()
        ours, theirs = agent.metrics(), other.metrics()
        del ours["perf/sample_ms"], theirs["perf/sample_ms"]
        assert ours == theirs
    ours_now, theirs_now = parameters(agent), parameters(other)
    assert [key for key in ours_now if not torch.equal(ours_now[key], theirs_now[key])] == []


def test_traced_update_equals_eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both kinds of step trace into one graph each, without host synchronisation."""
    compile = partial(torch.compile, backend="eager")
    config = replace(SMALL, target_every=2, unroll_steps=2)
    eager = make_mrq(config=config)
    monkeypatch.setattr(torch, "compile", compile)
    traced = make_mrq(config=config, compile="default")
    for _ in range(3):
        eager.update()
        traced.update()
    ours, theirs = parameters(eager), parameters(traced)
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], atol=1e-5, rtol=1e-4, msg=name)


def test_small_precision_and_exploration() -> None:
    agent = make_mrq(config=replace(SMALL, precision="bf16"))
    agent.update()
    assert agent.nonfinite() == []
    obs = np.zeros((500, 5), np.float32)
    drawn, best = agent.act(obs, explore=True), agent.act(obs, explore=False)
    assert np.abs(drawn).max() <= 1 and (best == best[0]).all()
    assert (drawn - best).std() == pytest.approx(0.2, rel=0.2)


@pytest.mark.slow
def test_it_learns_a_chase_in_seconds(tmp_path: Path) -> None:
    words = (
        "env=toy_state",
        "agent=mrq",
        "preset=debug",
        "device=cpu",
        "video=false",
        "logger=none",
        f"out={tmp_path}",
    )
    run = (
        "logger=none",
        "train.agent_steps=1200",
        "train.updates_per_step=1",
        "train.eval_every=0",
        "train.eval_episodes=5",
    )
    assert train([*words, *run, "agent.lr=1e-3", "agent.encoder_lr=1e-3", "agent.target_every=50"]) == 0
    returns = [float(row["return"]) for row in evaluations(tmp_path) if row["kind"] == "final"]
    assert len(returns) == 5 and np.mean(returns) > 15  # of 18


def test_misfits_are_refused_in_words() -> None:
    def make(config: MRQConfig = SMALL, **changes: Any) -> MRQ:
        return config.make(replace(AgentSpec(STATE, ACTIONS, EluMLPConfig(8, 6), NoChange()), **changes))

    with pytest.raises(ValueError, match=r"acts in \[-1, 1\]"):
        make(action_space=spaces.Discrete(3))
    with pytest.raises(ValueError, match="encoder=elu_mlp"):
        make(encoder=IdentityConfig())
    with pytest.raises(ValueError, match=r"replay=lap draws by priorities.*replay=uniform"):
        replace(SMALL, priority_alpha=0.0)
    with pytest.raises(ValueError, match=r"replay=faded draws by priorities"):
        SACConfig(replay="faded", priority_alpha=0.0)
    assert make(replace(SMALL, replay="uniform", priority_alpha=0.0)).replay._priorities is None
