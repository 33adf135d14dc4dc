"""Soft actor-critic with auxiliary heads on the critic's encoder."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rlrep.contract.agent import AgentConfig, AgentSpec
from rlrep.heads import Pull
from rlrep.nn import Encoder, init_orthogonal
from rlrep.nn.distributions import sample_squashed
from rlrep.nn.optim import FusedAdam
from rlrep.settings import ranges
from rlrep.views import View

from ..meeting import trained
from ..online import Exploring, OnlineAgent, make_parts
from ..optimisers import Optimisers, Precision
from ..sampling import Sampling, priority
from .networks import Actor, Networks, TwinQ
from .update import TemperatureLoss, Update


@dataclass(frozen=True)
class SACConfig(AgentConfig):
    """Settings of `agent=sac`; the YAML cites each paper's values.

    lr: of actor, critic, encoder and heads. batch_size, capacity: transitions. n_step: of the TD target.
    critic_tau, encoder_tau: weight of the new value in the target networks, every `target_every` updates.
    actor_every: updates.
    target_entropy: nats; None = minus the action dimension. temperature_loss: see `TemperatureLoss`.
    log_std_bound: tanh-`squash` (SAC-AE) or `clamp` into log_std_range.
    replay: see `Sampling`; all but `uniform` come with a Huber loss. priority_alpha: exponent of priorities.
    pull: of heads that name none, see `rlrep.heads.Pull`.
    init: `orthogonal` (SAC-AE, CURL) or `torch` (the layers' own default, as Stable-Baselines3).
    precision: `bf16` runs the losses under autocast; parameters and optimisers stay float32.
    Raises ValueError on numbers out of their range.
    """

    per_run: ClassVar[tuple[str, ...]] = (
        *("lr", "alpha_lr", "alpha_beta1", "initial_temperature"),
        *("capacity", "discount", "n_step"),
    )

    hidden_dim: int = 1024
    batch_size: int = 512
    capacity: int = 100_000
    discount: float = 0.99
    n_step: int = 1
    lr: float = 1e-3
    alpha_lr: float = 1e-4
    alpha_beta1: float = 0.5
    initial_temperature: float = 0.1
    temperature_loss: TemperatureLoss = "alpha"
    target_entropy: float | None = None
    critic_tau: float = 0.01
    encoder_tau: float = 0.05
    target_every: int = 2
    actor_every: int = 2
    log_std_range: tuple[float, float] = (-10.0, 2.0)
    log_std_bound: Literal["squash", "clamp"] = "squash"
    init: Literal["orthogonal", "torch"] = "orthogonal"
    replay: Sampling = "uniform"
    priority_alpha: float = 0.4
    pull: Pull = "own"
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        ranges.at_least(self, 1, ("hidden_dim", "batch_size", "capacity", "n_step", "target_every", "actor_every"))
        ranges.at_least(self, 0, ("lr", "alpha_lr"))
        ranges.positive(self, ("initial_temperature",))
        ranges.share(self, ("discount", "alpha_beta1", "priority_alpha"))
        ranges.part(self, ("critic_tau", "encoder_tau"))
        ranges.ascending(self, ("log_std_range",))
        priority(self.replay, self.priority_alpha)

    def make(self, spec: AgentSpec) -> "SAC":
        """Build the agent. Raises ValueError for discrete actions, or heads on an encoder without parameters."""
        space = spec.action_space
        if not isinstance(space, spaces.Box):
            raise ValueError(f"agent=sac needs continuous actions, this environment has {space}")
        if not ((space.low == -1).all() and (space.high == 1).all()):
            raise ValueError(
                f"agent=sac acts in [-1, 1], this environment in {space}: wrap it in gymnasium's RescaleAction"
            )
        action_dim = int(np.prod(space.shape))
        nets, heads = make_parts(spec, partial(_make_networks, self, spec, action_dim), self.pull)
        apart = {
            "actor": FusedAdam(trained(nets.actor), self.lr),
            "temperature": FusedAdam([nets.log_alpha], self.alpha_lr, beta1=self.alpha_beta1),
        }
        step = Update(
            nets,
            heads,
            Optimisers(spec, heads, encoder=nets.encoder, rl=nets.q, lr=self.lr, apart=apart, precision=self.precision),
            actor_every=self.actor_every,
            target_every=self.target_every,
            target_entropy=-float(action_dim) if self.target_entropy is None else self.target_entropy,
            temperature_loss=self.temperature_loss,
            prioritised=self.replay != "uniform",
        )
        drawn = priority(self.replay, self.priority_alpha)
        moved = partial(divergence, nets, spec.augment)
        return SAC("SAC", spec, self, step, partial(act, nets), drawn, divergence=moved)


SAC = OnlineAgent[Networks]


def act(nets: Networks, obs: Tensor, exploring: Exploring | None) -> Tensor:
    """Return a sample of the policy, or its mean, `(N, A)`."""
    mean: Tensor
    mean, log_std = nets.actor(nets.encoder.body(obs))
    if exploring is None:
        return mean.tanh()
    noise = torch.randn(mean.shape, generator=exploring.stream, device=mean.device)
    return sample_squashed(mean, log_std, noise)[0]


def divergence(nets: Networks, view: View, obs: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the divergence `(N,)` of the policy at other observations `(N, ...)` from the one at these, nats.

    It is KL(these || others) of the Gaussians, which the squashing leaves as it is.
    """
    with torch.no_grad():
        mean, log_std = nets.actor(nets.encoder.body(view.fixed(obs)))

    def moved(other: Tensor) -> Tensor:
        other_mean, other_log_std = nets.actor(nets.encoder.body(view.fixed(other)))
        ratio = (2 * (log_std - other_log_std)).exp()
        distance = ((mean - other_mean) / other_log_std.exp()).square()
        gap: Tensor = 0.5 * (ratio + distance - 1 - ratio.log()).sum(1)
        return gap

    return moved


def _make_networks(config: SACConfig, spec: AgentSpec, action_dim: int, encoder: Encoder) -> Networks:
    trunk = spec.encoder.make_trunk(encoder.feature_dim)
    actor = Actor(trunk, encoder.latent_dim, config.hidden_dim, action_dim, config.log_std_range, config.log_std_bound)
    q = TwinQ(encoder.latent_dim, config.hidden_dim, action_dim)
    if config.init == "orthogonal":
        actor.layers.apply(init_orthogonal)
        q.apply(init_orthogonal)
    return Networks(
        encoder,
        q,
        actor,
        temperature=config.initial_temperature,
        encoder_tau=config.encoder_tau,
        critic_tau=config.critic_tau,
    )
