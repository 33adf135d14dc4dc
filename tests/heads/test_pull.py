"""How heads' gradients meet the RL loss's: against slow twins on a small encoder, and inside agents."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rlrep.agents.heads import Heads, Losses, Met
from rlrep.agents.meeting import OUTLIER, SHARE, total_norm, trained
from rlrep.agents.sac.update import td_target
from rlrep.config.compose import compose_run
from rlrep.contrast import MomentumTarget
from rlrep.heads import Encoded, Encoders, Head, HeadConfig, InstanceContrast, Metrics, Pull, ReturnContrast
from rlrep.nn import PixelEncoderConfig
from rlrep.replay import Batch, Pairs
from rlrep.settings import ConfigError, completed
from tests.agents import test_sac as sac
from tests.agents.rainbow_rig import make_rainbow, parameters

ROWS, WIDTH = 6, 4


class Reading(Head):
    """Squared error of a linear reading of the shared latent, of observations encoded apart, or of both."""

    def __init__(self, kind: str, scale: float) -> None:
        super().__init__()
        self.kind, self.scale, self.read = kind, scale, nn.Linear(WIDTH, 1, dtype=torch.float64)

    def loss(self, batch: Batch, pairs: Pairs, encoded: Encoded, encoders: Encoders) -> tuple[Tensor, Metrics]:
        latents = [] if self.kind == "apart" else [encoded.latent]
        if self.kind != "shared":
            latents.append(encoders.online(batch.next_obs))
        return self.scale * torch.stack([self.read(z).square().mean() for z in latents]).sum(), {}


class Rig:
    """An encoder, an RL loss on its latent, heads of all kinds; a fresh batch an update."""

    def __init__(self, configs: Mapping[str, HeadConfig], kinds: Mapping[str, str], *, default: Pull = "sum") -> None:
        torch.manual_seed(0)
        self.encoder = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, WIDTH)).double()
        self.q = nn.Linear(WIDTH, 1, dtype=torch.float64)
        self.tasks = {name: Reading(kind, 3.0 + place) for place, (name, kind) in enumerate(kinds.items())}
        self.heads = Heads(self.tasks, configs, default)
        self.owned = self.heads.owned(encoder=trained(self.encoder), rl=trained(self.q))
        self.encoders = Encoders(self.encoder, MomentumTarget(self.encoder, 0.1))

    def batch(self, seed: int) -> Any:
        generator = torch.Generator().manual_seed(seed)
        obs, following = torch.randn((2, ROWS, 3), generator=generator, dtype=torch.float64)
        return SimpleNamespace(obs=obs, next_obs=following, pairs={name: Pairs() for name in self.tasks})

    def rl_loss(self, latent: Tensor, scale: float = 1.0) -> Tensor:
        loss: Tensor = scale * (self.q(latent) - 1.0).square().mean()
        return loss

    def found(self, seed: int, scale: float = 1.0) -> Met:
        batch = self.batch(seed)
        latent = self.encoder(batch.obs)
        rl = self.rl_loss(latent, scale)
        heads, metrics = self.heads.losses(batch, latent, self.encoders)
        return self.heads.differentiate(Losses(rl, heads, latent, metrics, None), self.owned)

    def gradient(self, loss: Tensor, parameters: list[Tensor]) -> list[Tensor]:
        found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        return [torch.zeros_like(p) if g is None else g for g, p in zip(found, parameters, strict=True)]


KINDS = {"a": "shared", "b": "apart", "c": "both"}
WEIGHTS = {"a": 0.5, "b": 1.0, "c": 2.0}


def configs_of(pulls: Mapping[str, Pull]) -> dict[str, HeadConfig]:
    return {name: HeadConfig(weight=WEIGHTS[name], pull=pull) for name, pull in pulls.items()}


class SlowBalance:
    """The same running norms, by hand."""

    def __init__(self) -> None:
        self.total: dict[str, float] = {}
        self.count = 0

    def means(self, norms: Mapping[str, float]) -> dict[str, float]:
        self.count += 1
        kept = 1 - SHARE
        for name, norm in norms.items():
            self.total[name] = kept * self.total.get(name, 0.0) + SHARE * norm
        return {name: value / (1 - kept**self.count) for name, value in self.total.items()}


@pytest.mark.parametrize("present", ["a", "ab", "abc", "bc", "c"])
def test_balanced_gradients_equal_those_of_losses_weighted_by_hand(present: str) -> None:
    rig = Rig(configs_of({name: "balanced" for name in present}), {name: KINDS[name] for name in present})
    slow = SlowBalance()
    for update in range(5):
        batch = rig.batch(update)
        latent = rig.encoder(batch.obs)
        rl = rig.rl_loss(latent)
        losses = {name: task.loss(batch, Pairs(), Encoded(latent), rig.encoders)[0] for name, task in rig.tasks.items()}
        norms = {
            "latent": float(total_norm(rig.gradient(rl, [latent]))),
            "encoder": float(total_norm(rig.gradient(rl, rig.owned.encoder))),
        }
        norms |= {
            name: float(total_norm(rig.gradient(loss, [latent] if name == "a" else rig.owned.encoder)))
            for name, loss in losses.items()
        }
        means = slow.means(norms)
        factors = {
            name: WEIGHTS[name]
            * means["latent" if name == "a" else "encoder"]
            / max(means[name], norms[name] / OUTLIER)
            for name in present
        }
        total = rl + sum(factors[name] * losses[name] for name in present)
        found = rig.found(update)
        for ours, theirs in zip(found.joint, rig.gradient(total, rig.heads.joint(rig.owned)), strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)
        for name in present:
            assert float(found.factors[f"aux/{name}/factor"]) == pytest.approx(factors[name], rel=1e-4)


def test_summed_gradients_are_those_of_the_sum_bit_for_bit() -> None:
    rig = Rig(configs_of({name: "sum" for name in KINDS}), KINDS)
    batch = rig.batch(0)
    latent = rig.encoder(batch.obs)
    total = rig.rl_loss(latent)
    for name, task in rig.tasks.items():
        total = total + WEIGHTS[name] * task.loss(batch, Pairs(), Encoded(latent), rig.encoders)[0]
    expected = torch.autograd.grad(total, rig.heads.joint(rig.owned))
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(rig.found(0).joint, expected, strict=True))


def test_heads_of_every_pull_side_by_side() -> None:
    rig = Rig(configs_of({"a": "own", "b": "sum", "c": "balanced"}), KINDS)
    found, batch = rig.found(0), rig.batch(0)
    latent = rig.encoder(batch.obs)
    losses = {name: task.loss(batch, Pairs(), Encoded(latent), rig.encoders)[0] for name, task in rig.tasks.items()}
    total = rig.rl_loss(latent) + losses["b"] + found.factors["aux/c/factor"] * losses["c"]
    for ours, theirs in zip(found.joint, rig.gradient(total, rig.heads.joint(rig.owned)), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)
    own = rig.gradient(losses["a"], rig.heads.own(rig.owned)["a"])
    assert set(found.own) == {"a"}
    for ours, theirs in zip(found.own["a"], own, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("kind", ["shared", "apart", "both"])
def test_ten_times_the_reward_changes_nothing_in_a_balanced_heads_share(kind: str) -> None:
    shares = []
    for scale in (1.0, 10.0):
        rig = Rig({"a": HeadConfig(weight=0.5, pull="balanced")}, {"a": kind})
        found = [rig.found(update, scale) for update in range(3)][-1]
        batch = rig.batch(2)
        latent = rig.encoder(batch.obs)
        rl = rig.gradient(rig.rl_loss(latent, scale), rig.owned.encoder)
        head = [joint - part for joint, part in zip(found.joint, rl, strict=False)]
        shares.append(float(total_norm(head) / total_norm(rl)))
    assert shares[0] == pytest.approx(shares[1], rel=1e-4) and shares[0] > 0.05


@pytest.mark.parametrize("kind", ["shared", "apart"])
@pytest.mark.parametrize("flat", ["rl", "head", "both"])
def test_flat_losses_stay_finite(kind: str, flat: str) -> None:
    rig = Rig({"a": HeadConfig(pull="balanced")}, {"a": kind})
    if flat != "rl":
        rig.tasks["a"].scale = 0.0
    rl = rig.gradient(rig.rl_loss(rig.encoder(rig.batch(0).obs)), rig.owned.encoder)
    for update in range(3):
        found = rig.found(update, 0.0 if flat != "head" else 1.0)
        assert all(gradient.isfinite().all() for gradient in found.joint)
    if flat == "head":  # samples at last: the update is not led by them, however short the norms were before
        rig.tasks["a"].scale = 1.0
        found = rig.found(0)
        head = [joint - part for joint, part in zip(found.joint, rl, strict=False)]
        assert 0 < float(total_norm(head)) < 10 * float(total_norm(rl))


@dataclass(frozen=True)
class Plain:
    """Settings of a head that inherits from nothing."""


def test_a_head_without_the_option_takes_the_agents_pull() -> None:
    heads = Heads({}, {"theirs": completed(Plain(), HeadConfig), "ours": HeadConfig(pull="own")}, "balanced")
    assert heads.pulls == {"theirs": "balanced", "ours": "own"} and heads.weights == {"theirs": 1.0, "ours": 1.0}
    with pytest.raises(ValueError, match="weight must be at least 0"):
        HeadConfig(weight=-1.0)


# Inside agents


def heads_of(pull: Pull) -> dict[str, HeadConfig]:
    return {
        "curl": InstanceContrast(view=None, pull=pull, weight=0.5),
        "return_contrast": ReturnContrast(
            threshold=2.0, hidden_dim=8, embedding_dim=8, anchors="segment", pull=pull, weight=0.25
        ),
    }


@pytest.mark.parametrize("pixels", [True, False])
def test_own_equals_plain_adams_beside_the_critics(pixels: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sac, "HEADS", heads_of("own"))
    config = replace(sac.SMALL, actor_every=9, target_every=9)
    agent, twin = (sac.make_agent(pixels=pixels, config=config) for _ in range(2))
    nets, lr = twin.nets, config.lr
    encoder = trained(nets.encoder)
    owned = {name: [*encoder, *trained(head)] for name, head in twin.heads.modules.items()}
    critic = torch.optim.Adam([*encoder, *trained(nets.q)], lr)
    adams = {name: torch.optim.Adam(each, lr * twin.heads.weights[name]) for name, each in owned.items()}
    for _ in range(4):
        agent.update()
        assert agent._last is not None
        batch, noise = agent._last
        latent = nets.encoder(batch.obs)
        q_loss = (nets.q(latent, batch.action) - td_target(nets, batch, noise[0])).square().mean(1).sum()
        encoders = Encoders(nets.encoder, nets.target_encoder)
        losses = {
            name: head.loss(batch, batch.pairs[name], Encoded(latent), encoders)[0]
            for name, head in twin.heads.tasks.items()
        }
        steps: list[tuple[torch.optim.Adam, Tensor]] = [(critic, q_loss)]
        steps += [(adams[name], loss) for name, loss in losses.items()]
        gradients = [
            torch.autograd.grad(loss, adam.param_groups[0]["params"], retain_graph=True) for adam, loss in steps
        ]
        for (adam, _), gradient in zip(steps, gradients, strict=True):
            for parameter, part in zip(adam.param_groups[0]["params"], gradient, strict=True):
                parameter.grad = part
            adam.step()
        for head in twin.heads.tasks.values():
            head.after_update()
    for ours, theirs in ((agent.nets, nets), (agent.heads.modules, twin.heads.modules)):
        for name, value in theirs.state_dict().items():
            torch.testing.assert_close(ours.state_dict()[name], value, atol=5e-5, rtol=1e-3, msg=name)


def test_ten_times_the_reward_leaves_an_agents_balance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sac, "HEADS", heads_of("balanced"))
    for factor in (1.0, 10.0):
        agent, curl, contrast = sac.make_agent(pixels=False), [], []
        agent.replay.rings["steps"].columns["reward"].mul_(factor)
        for update in range(60):
            agent.update()
            if update >= 40:
                metrics = agent.metrics()
                curl.append(metrics["aux/curl/grad_ratio"])
                contrast.append(metrics["aux/return_contrast/grad_ratio_encoder"])
        # One batch's norms over each other: they scatter about the running ones, which are what is held.
        assert 0.25 < np.median(curl) < 1.0
        assert 0.125 < np.median(contrast) < 0.5


def test_a_mixed_set_of_heads_is_traced_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Balanced at the latent and at the encoder, and one on its own: one graph, the same numbers, running norms too."""
    mixed = {**heads_of("balanced"), "other": InstanceContrast(view=None, pull="own")}
    monkeypatch.setattr(sac, "HEADS", mixed)
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    torch._dynamo.reset()
    eager, traced = (sac.make_agent(aux=tuple(mixed), compile=mode) for mode in ("off", "default"))
    for agent in (eager, traced):
        agent.update()
        agent.update()
    ours, theirs = parameters(eager), parameters(traced)
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], atol=1e-6, rtol=1e-5, msg=name)
    torch.testing.assert_close(eager.heads.balance.norms, traced.heads.balance.norms)


def test_an_encoder_that_nothing_trains_serves_without_heads() -> None:
    frozen = PixelEncoderConfig(strides=(5, 2), channels=4, kernels=(5, 2), trunk="none", init="torch", freeze=True)
    agent = make_rainbow(encoder=frozen)
    agent.update()
    assert "rep/effective_rank" in agent.metrics() and agent.state()["updates"] == 1
    with pytest.raises(ValueError, match="aux=curl has no encoder to train: choose encoder"):
        make_rainbow(encoder=frozen, aux={"curl": InstanceContrast(view=None)})


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["env=dmc_cheetah", "aux=curl"], ("own", 1.0)),
        (["env=dmc_cheetah", "aux=curl", "preset=cpu"], (None, None)),
        (["env=dmc_cheetah", "aux=curl", "aux.curl.pull=sum"], ("sum", 1.0)),
        (["env=atari_pong", "aux=curl"], ("sum", 1.0)),
        (["env=atari_pong", "aux=curl_weak", "preset=cpu"], ("sum", 0.05)),
        (["env=dmc_cheetah", "aux=autoencoder"], ("own", 1.0)),
        (["env=dmc_cheetah", "aux=self_prediction"], ("sum", 5.0)),
        (["env=dmc_cheetah", "aux=self_prediction", "aux.self_prediction.pull=own"], ("own", 1.0)),
        (["env=cheetah_vel", "aux=trajectory_contrast"], ("own", 1.0)),
    ],
)
def test_the_papers_preset_takes_the_pull_of_the_papers_code(
    words: list[str], expected: tuple[Pull | None, float | None]
) -> None:
    (head,) = compose_run(words).config.aux.values()
    pull, weight = expected
    assert head.pull == pull and (weight is None or head.weight == weight)


def test_a_pull_that_is_none_is_refused_in_one_line() -> None:
    with pytest.raises(ConfigError, match=r"aux\.curl\.pull=hard is not a choice.*balanced"):
        compose_run(["env=dmc_cheetah", "aux=curl", "aux.curl.pull=hard"])
