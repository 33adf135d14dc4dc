"""PEARL's update: the product of Gaussians, which loss trains what, and a slow twin of the published equations."""

from copy import deepcopy
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence
from torch.nn.functional import mse_loss, softplus

from rlrep.agents.pearl import PEARL
from rlrep.agents.pearl.networks import ContextEncoder, to_gaussians
from rlrep.agents.pearl.update import encoder_loss
from rlrep.nn import Gaussians, product
from rlrep.replay import Batch, Transitions

from .pearl_rig import ACTIONS, SMALL, Pull, make_pearl, moved
from .rainbow_rig import parameters


def some_gaussians(*shape: int) -> Gaussians:
    return Gaussians(torch.randn(shape, dtype=torch.float64), torch.rand(shape, dtype=torch.float64) + 0.05)


def test_the_product_is_proportional_to_the_product_of_densities() -> None:
    factors = some_gaussians(4, 5, 1)
    found = product(factors)
    grid = torch.linspace(-30, 30, 60001, dtype=torch.float64)
    log = Normal(factors.mean, factors.var.sqrt()).log_prob(grid).sum(1)  # (4, grid)
    density = (log - log.logsumexp(1, keepdim=True)).exp()
    mean = (density * grid).sum(1)
    torch.testing.assert_close(found.mean[:, 0], mean, atol=1e-6, rtol=0)
    torch.testing.assert_close(found.var[:, 0], (density * (grid - mean[:, None]).square()).sum(1), atol=1e-6, rtol=0)


def test_a_product_in_closed_form() -> None:
    found = product(Gaussians(torch.tensor([[1.0], [4.0]]), torch.tensor([[1.0], [0.5]])))
    assert found.mean.tolist() == [3.0] and found.var.tolist() == pytest.approx([1 / 3])
    alone = some_gaussians(3, 1, 2)
    torch.testing.assert_close(tuple(product(alone)), (alone.mean[:, 0], alone.var[:, 0]))


def test_the_order_does_not_matter_and_a_transition_never_raises_the_variance() -> None:
    factors = some_gaussians(3, 8, 2)
    order = torch.randperm(8)
    torch.testing.assert_close(tuple(product(factors)), tuple(product(Gaussians(*(f[:, order] for f in factors)))))
    variances = [product(Gaussians(factors.mean[:, :n], factors.var[:, :n])).var for n in range(1, 9)]
    assert all((b < a).all() for a, b in pairwise(variances))


def test_tiny_variances_stay_finite() -> None:
    found = product(Gaussians(torch.ones(1, 3, 1), torch.tensor([[[0.0], [1e-20], [1.0]]])))
    assert found.var.item() == pytest.approx(5e-8, rel=1e-4) and found.mean.item() == pytest.approx(1)
    assert to_gaussians(torch.tensor([0.0, -200.0])).var.item() == pytest.approx(1e-7)


def test_kl_and_samples_are_those_of_torch() -> None:
    gaussians = some_gaussians(5, 3)
    expected = kl_divergence(Normal(gaussians.mean, gaussians.var.sqrt()), Normal(0.0, 1.0)).sum(-1)
    torch.testing.assert_close(gaussians.kl(), expected)
    assert Gaussians(torch.zeros(4, 3), torch.ones(4, 3)).kl().tolist() == [0.0] * 4
    drawn = Gaussians(torch.tensor([2.0]), torch.tensor([9.0])).sample(torch.randn(100_000, 1))
    assert drawn.mean().item() == pytest.approx(2, abs=0.05) and drawn.std().item() == pytest.approx(3, abs=0.05)


class Twin:
    """PEARL as published, in float64, one task and one transition at a time, by autograd and torch's Adam."""

    def __init__(self, agent: PEARL) -> None:
        config, nets = agent.config, deepcopy(agent.nets).double()
        assert isinstance(nets.context, ContextEncoder)
        self.config, self.target_entropy = config, agent.step.target_entropy
        self.phi, self.pi, self.log_alpha = nets.context.layers, nets.actor.layers, nets.log_alpha
        self.q = [_member(nets.q, k) for k in range(2)]
        self.v = None if nets.v is None else nets.v.layers
        self.target = deepcopy(self.q if self.v is None else [self.v])
        self.head = deepcopy(agent.heads.modules["pull"]).double() if "pull" in agent.heads.modules else None
        self.slow_phi = deepcopy(self.phi)
        weights = [*self.phi.parameters(), *(p for q in self.q for p in q.parameters())]
        weights += [] if self.head is None else list(self.head.parameters())
        self.critic_adam = torch.optim.Adam(weights, config.lr)
        self.actor_adam = torch.optim.Adam(self.pi.parameters(), config.lr)
        self.alpha_adam = torch.optim.Adam([self.log_alpha], config.alpha_lr)
        self.v_adam = None if self.v is None else torch.optim.Adam(self.v.parameters(), config.lr)

    def belief(self, phi: nn.Module, context: Transitions, task: int) -> tuple[Tensor, Tensor]:
        precision, weighted = torch.zeros(2).double(), torch.zeros(2).double()
        for step in range(context.obs.shape[1]):
            obs, action, reward = (getattr(context, k)[task, step].double() for k in ("obs", "action", "reward"))
            out = phi(torch.cat([obs, action, reward[None]]))
            mu, var = out[:2], softplus(out[2:])
            precision, weighted = precision + 1 / var, weighted + mu / var
        return weighted / precision, 1 / precision

    def policy(self, seen: Tensor, eps: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        mean, log_std = self.pi(seen).chunk(2, 1)
        log_std = log_std.clamp(-20, 2)
        raw = mean + log_std.exp() * eps
        log_prob = Normal(mean, log_std.exp()).log_prob(raw) - torch.log(1 - raw.tanh().square())
        return raw.tanh(), log_prob.sum(1), mean, log_std

    def update(self, batch: Batch, noise: Tensor, latent_noise: Tensor) -> None:
        assert batch.context is not None and batch.tasks is not None
        config, count, noise = self.config, len(batch.tasks), noise.double()
        beliefs = [self.belief(self.phi, batch.context, task) for task in range(count)]
        kls = [kl_divergence(Normal(mu, var.sqrt()), Normal(0.0, 1.0)).sum() for mu, var in beliefs]
        z = [mu + var.sqrt() * eps for (mu, var), eps in zip(beliefs, latent_noise.double(), strict=True)]
        latent = torch.stack([z[row // config.batch_size] for row in range(len(batch.obs))])
        obs, next_obs = (torch.cat([o.double(), latent], 1) for o in (batch.obs, batch.next_obs))
        seen = obs.detach()
        loss = config.kl_weight * sum(kls, torch.zeros(()).double()) / (count if config.kl_reduction == "mean" else 1)
        target = batch.reward.double() + batch.discount.double() * self.bootstrap(next_obs.detach(), noise[0])
        for q in self.q:
            own = obs if config.critic_to_context else seen
            loss = loss + mse_loss(q(torch.cat([own, batch.action.double()], 1))[:, 0], target.detach())
        if self.head is not None:
            loss = loss + 0.5 * self.pull(batch, count)
        self.step(self.critic_adam, loss)
        if self.v is not None and self.v_adam is not None:
            action, log_prob, *_ = self.policy(seen, noise[2])
            value = self.least(self.q, seen, action) - self.log_alpha.exp() * log_prob
            self.step(self.v_adam, mse_loss(self.v(seen)[:, 0], value.detach()))
        action, log_prob, mean, log_std = self.policy(seen, noise[1])
        regular = config.penalty * (mean.square().mean() + log_std.square().mean())
        gap = (-log_prob - self.target_entropy).detach().mean()
        self.step(
            self.actor_adam,
            (self.log_alpha.exp().detach() * log_prob - self.least(self.q, seen, action)).mean() + regular,
        )
        self.step(self.alpha_adam, self.log_alpha * gap)
        for slow, fast in zip(self.target, self.q if self.v is None else [self.v], strict=True):
            _follow(slow, fast, config.critic_tau)
        _follow(self.slow_phi, self.phi, config.context_tau)

    def bootstrap(self, seen: Tensor, eps: Tensor) -> Tensor:
        if self.v is not None:
            value: Tensor = self.target[0](seen)[:, 0]
            return value
        action, log_prob, *_ = self.policy(seen, eps)
        return self.least(self.target, seen, action) - self.log_alpha.exp() * log_prob

    def least(self, q: Any, seen: Tensor, action: Tensor) -> Tensor:
        return torch.minimum(*(member(torch.cat([seen, action], 1))[:, 0] for member in q))

    def pull(self, batch: Batch, count: int) -> Tensor:
        (windows,) = batch.pairs["pull"].found.values()
        assert self.head is not None
        query = torch.stack([self.belief(self.phi, windows.first, task)[0] for task in range(count)])
        key = torch.stack([self.belief(self.slow_phi, windows.second, task)[0] for task in range(count)])
        return mse_loss(self.head.turned(query), key.detach())  # type: ignore[operator]

    def step(self, adam: torch.optim.Adam, loss: Tensor) -> None:
        """Only what this optimiser owns moves, whatever else the loss reaches."""
        owned = [p for group in adam.param_groups for p in group["params"]]
        adam.zero_grad()
        for parameter, gradient in zip(owned, torch.autograd.grad(loss, owned), strict=True):
            parameter.grad = gradient
        adam.step()


def _member(q: Any, index: int) -> nn.Sequential:
    """One of the twin Q functions as ordinary layers."""
    layers: list[nn.Module] = []
    for own in q.layers:
        layer = nn.Linear(*own.weight.shape[1:]).double()
        layer.weight.data.copy_(own.weight[index].T)
        layer.bias.data.copy_(own.bias[index, 0])
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


@torch.no_grad()
def _follow(slow: nn.Module, fast: nn.Module, tau: float) -> None:
    for target, source in zip(slow.parameters(), fast.parameters(), strict=True):
        target.mul_(1 - tau).add_(tau * source)


VARIANTS = {
    "default": SMALL,
    "original": replace(SMALL, value="v", alpha_lr=0.0, kl_reduction="sum", kl_weight=0.3),
    "detached": replace(SMALL, critic_to_context=False, reward_scale=5.0, target_entropy=-1.0),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_updates_are_those_of_the_published_equations(name: str) -> None:
    config = replace(VARIANTS[name], critic_tau=0.1, context_tau=0.2, penalty=0.05, pull="sum")
    agent = make_pearl(config, aux={"pull": Pull(weight=0.5)})
    twin, before = Twin(agent), parameters(agent)
    for _ in range(3):
        agent.update()
        assert agent._last is not None
        drawn = agent.step.named(*agent._last)
        twin.update(agent._last[0], torch.stack(drawn[:3]), drawn.latent)
    nets = agent.nets
    assert nets.context is not None and nets.target_context is not None
    pairs: list[tuple[Any, Any]] = [
        (nets.context.layers, twin.phi),
        (nets.target_context.module.layers, twin.slow_phi),
        (nets.actor.layers, twin.pi),
        (agent.heads.modules["pull"], twin.head),
    ]
    pairs += [(_member(nets.q, k), twin.q[k]) for k in range(2)]
    if nets.v is None or nets.target_v is None:
        pairs += [(_member(nets.target_q.module, k), twin.target[k]) for k in range(2)]
    else:
        pairs += [(nets.v.layers, twin.v), (nets.target_v.module.layers, twin.target[0])]
    for ours, theirs in pairs:
        for own, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(own.double(), other, atol=2e-6, rtol=0)
    torch.testing.assert_close(nets.log_alpha.double(), twin.log_alpha)
    learned = (
        "context",
        "target_context",
        "actor",
        "q",
        "heads.pull",
        *(["v", "target_v"] if nets.v else ["target_q"]),
    )
    assert all(moved(before, parameters(agent), f"{part}.") for part in learned)
    assert moved(before, parameters(agent), "log_alpha") is (config.alpha_lr > 0)


def test_a_summed_kl_weighs_as_many_times_the_mean_as_there_are_tasks() -> None:
    settings: list[tuple[float, Any]] = [(0.1, "sum"), (0.3, "mean"), (0.1, "mean")]
    agents = [make_pearl(replace(SMALL, kl_weight=weight, kl_reduction=kind)) for weight, kind in settings]
    for agent in agents:
        assert agent.meta_batch == 3
        agent.update()
    summed, equal, smaller = (parameters(agent)["context.layers.0.weight"] for agent in agents)
    torch.testing.assert_close(summed, equal, atol=1e-7, rtol=0)
    assert (summed - smaller).abs().max() > 1e-5


@pytest.mark.parametrize("value", ["q", "v"])
@pytest.mark.parametrize("source", ["nothing", "critic", "kl", "head"])
def test_critic_kl_and_heads_train_the_context_encoder_and_nothing_else_does(value: Any, source: str) -> None:
    config = replace(
        SMALL, value=value, critic_to_context=source == "critic", kl_weight=0.1 if source == "kl" else 0.0, penalty=1.0
    )
    agent = make_pearl(config, aux={"pull": Pull(weight=1.0 if source == "head" else 0.0)})
    before = parameters(agent)
    agent.update()
    after = parameters(agent)
    assert moved(before, after, "context.") is (source != "nothing")
    others = ("q.", "actor.", "log_alpha", *(["v."] if value == "v" else []))
    assert all(moved(before, after, part) for part in others)


def test_what_the_actor_and_the_value_function_read_is_detached() -> None:
    agent = make_pearl(replace(SMALL, value="v"))
    batch = agent._sample()
    found = agent.step.critic_gradients(batch, agent.step.draw(batch, agent.update_stream))
    assert not found.kept.latent.requires_grad and not found.kept.features.requires_grad
    assert torch.equal(found.kept.latent[:, :3], batch.obs)
    owners = [{id(p) for p in adam.parameters} for adam in agent.optimisers.adams.values()]
    assert sum(map(len, owners)) == len(set().union(*owners)), "each parameter has one owner"


def joined(agent: PEARL, batch: Batch) -> Tensor:
    noise = torch.zeros(3 * 5, ACTIONS), torch.ones(3, 2)
    return encoder_loss(agent.nets, batch, None, *noise, agent.step.weights)[1]


def test_the_latent_of_a_task_depends_on_its_context_alone() -> None:
    agent = make_pearl()
    batch = agent._sample()
    context = batch.context
    assert context is not None
    changed = replace(context, reward=context.reward + torch.tensor([[0.0], [1.0], [0.0]]))
    one, two = joined(agent, batch), joined(agent, replace(batch, context=changed))
    differ = (one != two).any(1).view(3, 5)
    assert differ.tolist() == [[False] * 5, [True] * 5, [False] * 5]
    latents = one[:, 3:].view(3, 5, 2)
    assert (latents == latents[:, :1]).all() and len(latents[:, 0].unique(dim=0)) == 3
