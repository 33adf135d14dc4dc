"""SAC: one update against a plain twin, ownership of parameters, resume, compilation, refusals."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from rlrep.agents.sac import SAC, SACConfig
from rlrep.agents.sac.networks import Networks
from rlrep.agents.sac.update import TemperatureLoss
from rlrep.contract.agent import AgentSpec
from rlrep.heads import HeadConfig, InstanceContrast, Pull, ReturnContrast
from rlrep.nn import IdentityConfig, MLPEncoderConfig, PixelEncoderConfig
from rlrep.views import AmplitudeScale, NoChange, RandomCrop

from .rainbow_rig import fill, observations, parameters

PIXELS = spaces.Box(0, 255, (6, 24, 24), np.uint8)
STATE = spaces.Box(-np.inf, np.inf, (5,), np.float32)
ACTIONS = spaces.Box(-1, 1, (2,), np.float32)
SMALL = SACConfig(hidden_dim=16, batch_size=8, capacity=200)
HEADS: dict[str, HeadConfig] = {
    "curl": InstanceContrast(view=None),
    "return_contrast": ReturnContrast(threshold=2.0, hidden_dim=8, embedding_dim=8),
}


def make_agent(
    *,
    pixels: bool = True,
    config: SACConfig = SMALL,
    aux: tuple[str, ...] = ("curl", "return_contrast"),
    compile: Any = "off",
    seed: int = 0,
    heads: Mapping[str, HeadConfig] | None = None,
) -> SAC:
    """A small agent with 60 random transitions of two environments in its replay."""
    encoder = PixelEncoderConfig(strides=(2, 1), channels=4, latent_dim=6) if pixels else MLPEncoderConfig(8, 6)
    agent = config.make(
        AgentSpec(
            PIXELS if pixels else STATE,
            ACTIONS,
            frame_stack=2 if pixels else 1,
            num_envs=2,
            encoder=encoder,
            augment=RandomCrop(20) if pixels else AmplitudeScale(),
            aux={name: HEADS[name] for name in aux} if heads is None else heads,
            seed=seed,
            compile=compile,
        )
    )
    draw = {"reward": lambda rng: rng.random(2), "action": lambda rng: rng.uniform(-1, 1, (2, 2)).astype(np.float32)}
    fill(agent, PIXELS if pixels else STATE, 30, **draw)
    return agent


def learned_metrics(agent: SAC) -> dict[str, float]:
    return {name: value for name, value in agent.metrics().items() if not name.startswith("perf/")}


def plain_update(nets: Networks, agent: SAC, heads: Any, config: SACConfig) -> None:
    """The same update from separate losses, one encoding each, and torch's own Adam."""
    assert agent._last is not None
    batch, (next_noise, noise) = agent._last
    critic_parameters = [
        *nets.encoder.parameters(),
        *nets.q.parameters(),
        *(p for h in heads.values() for p in h.parameters() if p.requires_grad),
    ]
    critic_optimiser = torch.optim.Adam(critic_parameters, config.lr)
    actor_optimiser = torch.optim.Adam(nets.actor.parameters(), config.lr)
    alpha_optimiser = torch.optim.Adam([nets.log_alpha], config.alpha_lr, betas=(config.alpha_beta1, 0.999))

    def policy(obs: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = nets.actor(nets.encoder.body(obs).detach())
        normal = torch.distributions.Normal(mean, log_std.exp())
        raw = mean + log_std.exp() * eps
        return raw.tanh(), (normal.log_prob(raw) - torch.log(1 - raw.tanh().square())).sum(1)

    with torch.no_grad():
        action, log_prob = policy(batch.next_obs, next_noise)
        first, second = nets.target_q(nets.target_encoder(batch.next_obs), action)
        target = batch.reward + batch.discount * (torch.minimum(first, second) - nets.log_alpha.exp() * log_prob)
    stored = nets.encoder(batch.obs).detach()
    features = nets.encoder.body(batch.obs).detach()
    q1, q2 = nets.q(nets.encoder(batch.obs), batch.action)
    loss = torch.nn.functional.mse_loss(q1, target) + torch.nn.functional.mse_loss(q2, target)
    encoded, encoders = (
        SimpleNamespace(latent=nets.encoder(batch.obs)),
        SimpleNamespace(online=nets.encoder, target=nets.target_encoder),
    )
    for name, head in heads.items():
        loss = loss + agent.heads.weights[name] * head.loss(batch, batch.pairs[name], encoded, encoders)[0]
    loss.backward()
    critic_optimiser.step()
    mean, log_std = nets.actor(features)
    raw = mean + log_std.exp() * noise
    log_prob = (torch.distributions.Normal(mean, log_std.exp()).log_prob(raw) - torch.log(1 - raw.tanh().square())).sum(
        1
    )
    q = torch.minimum(*nets.q(stored, raw.tanh()))
    actor_loss = (nets.log_alpha.exp().detach() * log_prob - q).mean()
    factor = nets.log_alpha if config.temperature_loss == "log_alpha" else nets.log_alpha.exp()
    alpha_loss = (factor * (2 - log_prob).detach()).mean()
    actor_optimiser.zero_grad()
    nets.log_alpha.grad = None
    (actor_loss + alpha_loss).backward()
    actor_optimiser.step()
    alpha_optimiser.step()
    for online, target_net, tau in (
        (nets.q, nets.target_q.module, config.critic_tau),
        (nets.encoder, nets.target_encoder.module, config.encoder_tau),
    ):
        for a, b in zip(online.parameters(), target_net.parameters(), strict=True):
            b.data = (1 - tau) * b.data + tau * a.data
    for head in heads.values():
        head.after_update()


@pytest.mark.parametrize("pixels", [True, False])
def test_joint_update_equals_the_plain_one(pixels: bool) -> None:
    form: TemperatureLoss = "alpha" if pixels else "log_alpha"
    config = replace(SMALL, actor_every=1, target_every=1, temperature_loss=form, pull="sum")
    agent = make_agent(pixels=pixels, config=config)
    nets, heads = deepcopy(agent.nets), deepcopy(dict(agent.heads.modules.items()))
    agent.update()
    plain_update(nets, agent, heads, config)
    for ours, theirs in zip(agent.nets.state_dict().values(), nets.state_dict().values(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4)
    for name, head in agent.heads.modules.items():
        for ours, theirs in zip(head.state_dict().values(), heads[name].state_dict().values(), strict=True):
            torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("pull", ["sum", "balanced", "own"])
def test_every_parameter_has_one_owner_but_the_encoder_of_heads_on_their_own(pull: Pull) -> None:
    agent = make_agent(config=replace(SMALL, pull=pull))
    owned = [id(p) for adam in agent.optimisers.adams.values() for p in adam.parameters]
    trainable = [id(p) for module in (agent.nets, agent.heads.modules) for p in module.parameters() if p.requires_grad]
    encoder = {id(p) for p in agent.nets.encoder.parameters()}
    assert set(owned) == set(trainable)
    several = {p for p in owned if owned.count(p) > 1}
    assert several == (encoder if pull == "own" else set())


def test_actor_and_targets_move_when_due() -> None:
    agent = make_agent(config=replace(SMALL, actor_every=2, target_every=3))
    moved = []
    for _ in range(6):
        before = parameters(agent)
        agent.update()
        after = parameters(agent)
        changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
        assert {"encoder", "q", "heads"} <= changed
        moved.append(("actor" in changed, "target_q" in changed, "target_encoder" in changed))
    assert moved == [(update % 2 == 0, update % 3 == 0, update % 3 == 0) for update in range(1, 7)]


@pytest.mark.parametrize(
    ("pixels", "aux", "pull"),
    [(True, tuple(HEADS), "own"), (False, tuple(HEADS), "balanced"), (True, ("curl",), "sum"), (False, (), "own")],
)
def test_resume_is_bit_exact(pixels: bool, aux: tuple[str, ...], pull: Pull) -> None:
    agent, other = (make_agent(pixels=pixels, aux=aux, config=replace(SMALL, pull=pull), seed=k) for k in (0, 9))
    for _ in range(3):
        agent.update()
    for name, ring in agent.rings.items():
        other.rings[name].restore(ring.oldest, ring.read(ring.oldest, ring.written))
    other.load_state(deepcopy(agent.state()))
    obs = observations(PIXELS if pixels else STATE, np.random.default_rng(3))
    for _ in range(3):
        agent.update()
        other.update()
        assert np.array_equal(agent.act(obs, explore=True), other.act(obs, explore=True))
    assert learned_metrics(agent) == learned_metrics(other)
    ours, theirs = parameters(agent), parameters(other)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert torch.equal(agent.heads.balance.norms, other.heads.balance.norms)


def test_metrics_are_means_and_reading_them_changes_nothing() -> None:
    agent, silent = make_agent(), make_agent()
    for _ in range(4):
        agent.update()
        silent.update()
        assert agent.metrics()["aux/curl/grad_ratio"] > 0
    values = silent.metrics()
    assert {"loss/critic", "loss/actor", "aux/return_contrast/same_return_rate", "rep/effective_rank"} <= set(values)
    ours, theirs = parameters(agent), parameters(silent)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert "loss/critic" not in silent.metrics()


def test_acting_is_deterministic_or_drawn_within_bounds() -> None:
    agent = make_agent()
    obs = observations(PIXELS, np.random.default_rng(0))
    assert np.array_equal(agent.act(obs, explore=False), agent.act(obs, explore=False))
    assert not np.array_equal(agent.act(obs, explore=True), agent.act(obs, explore=True))
    assert np.abs(agent.random_actions(500)).max() <= 1


def test_nonfinite_terms_are_named_and_the_batch_is_kept() -> None:
    agent = make_agent(pixels=False)
    agent.update()
    assert agent.nonfinite() == []
    agent.rings["steps"].columns["reward"].fill_(torch.inf)
    agent.update()
    assert "loss/critic" in agent.nonfinite() and "loss/alpha" not in agent.nonfinite()
    assert agent.last_batch()["reward"].isinf().all()


def test_bf16_runs_the_same_update_coarsely() -> None:
    exact, coarse = make_agent(), make_agent(config=replace(SMALL, precision="bf16"))
    exact.update()
    coarse.update()
    ours, theirs = exact.metrics(), coarse.metrics()
    assert (
        theirs["loss/critic"] == pytest.approx(ours["loss/critic"], rel=0.05)
        and theirs["loss/critic"] != ours["loss/critic"]
    )
    assert all(tensor.dtype != torch.bfloat16 for tensor in coarse.nets.state_dict().values())


def test_compiled_update_equals_eager() -> None:
    eager, compiled = make_agent(pixels=False), make_agent(pixels=False, compile="default")
    for _ in range(4):
        eager.update()
        compiled.update()
    ours, theirs = parameters(eager), parameters(compiled)
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], atol=1e-5, rtol=1e-4)


def test_misfits_are_refused_in_words() -> None:
    def make(**changes: Any) -> SAC:
        return SMALL.make(replace(AgentSpec(STATE, ACTIONS, IdentityConfig(), NoChange()), **changes))

    with pytest.raises(ValueError, match="encoder=mlp"):
        make(aux={"curl": InstanceContrast()})
    with pytest.raises(ValueError, match="continuous actions"):
        make(action_space=spaces.Discrete(3))
    with pytest.raises(ValueError, match="RescaleAction"):
        make(action_space=spaces.Box(-2, 2, (1,), np.float32))
    assert make().act(np.zeros((1, 5), np.float32), explore=False).shape == (1, 2)
