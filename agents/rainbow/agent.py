"""Rainbow with auxiliary heads on its encoder; every part of it can be switched off."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from math import inf
from typing import ClassVar

import torch
from gymnasium import spaces
from torch import Tensor
from torch.nn.functional import cross_entropy

from rlrep.contract.agent import AgentConfig, AgentSpec
from rlrep.heads import Pull
from rlrep.nn import Encoder
from rlrep.replay import Priority, Replay
from rlrep.settings import ranges
from rlrep.views import View

from ..heads import Heads
from ..online import Exploring, OnlineAgent, make_parts
from ..optimisers import Optimisers, Precision
from .networks import Networks, QHead
from .policy import Policy
from .resets import Renewal
from .schedules import Resets, Schedule
from .update import Update, expected


@dataclass(frozen=True)
class RainbowConfig(AgentConfig):
    """Settings of `agent=rainbow`, `agent=dqn` and `agent=drq_eps`; the YAML cites each paper's values.

    The parts of Rainbow: double, dueling, noisy, prioritised (switches), atoms (1 = values instead of distributions),
    n_step (1 = none). hidden_dim: of the Q head's first layer, of each stream of a dueling head, or (shared_hidden) of
        both.
    lr, adam_eps, weight_decay: of encoder, Q head and heads (decay not of biases); gradients of a global norm above
        `max_norm` are scaled down to it.
    batch_size, capacity: transitions. target_every: updates between moves of the target network, by `target_tau` (1 =
        it is copied). act_by_target: it also acts. encoder_tau: weight of the new value in the heads' key encoder,
        every update.
    n_step_schedule, discount_schedule, resets, policy: see `Schedule`, `Resets` and `Policy`.
    v_min, v_max: ends of the support, in (clipped) reward. sigma0: initial noise, see `NoisyLinear`.
    epsilon_start, epsilon_final, epsilon_steps: without noisy layers, the share of random actions in training and the
        agent steps from one to the other, counted from the first action that is not `train.init_steps`'.
    pull: of heads that name none, see `rlrep.heads.Pull`; an optimiser of their own has lr and adam_eps too.
    priority_alpha, priority_beta: exponents of priorities and importance weights; beta rises to 1 over
        `priority_beta_steps` agent steps (None = the length of the run, see `for_length`).
    """

    hidden_dim: int = 256
    batch_size: int = 32
    capacity: int = 100_000
    discount: float = 0.99
    n_step: int = 20
    double: bool = True
    dueling: bool = True
    shared_hidden: bool = False
    atoms: int = 51
    v_min: float = -10.0
    v_max: float = 10.0
    noisy: bool = True
    sigma0: float = 0.1
    epsilon_start: float = 1.0
    epsilon_final: float = 0.01
    epsilon_steps: int = 5000
    prioritised: bool = True
    priority_alpha: float = 0.5
    priority_beta: float = 0.4
    priority_beta_steps: int | None = None
    lr: float = 1e-4
    adam_eps: float = 1.5e-4
    max_norm: float = 10.0
    weight_decay: float = 0.0
    target_every: int = 2000
    target_tau: float = 1.0
    act_by_target: bool = False
    encoder_tau: float = 0.001
    n_step_schedule: Schedule = field(default_factory=Schedule)
    discount_schedule: Schedule = field(default_factory=Schedule)
    resets: Resets = field(default_factory=Resets)
    policy: Policy = field(default_factory=Policy)
    pull: Pull = "balanced"
    precision: Precision = "float32"

    per_run: ClassVar[tuple[str, ...]] = (
        *("lr", "adam_eps", "sigma0", "capacity", "discount", "n_step", "priority_alpha", "priority_beta"),
        *("priority_beta_steps", "epsilon_start", "epsilon_final", "epsilon_steps"),
        *("weight_decay", "n_step_schedule", "discount_schedule", "resets"),
    )
    gains_on_pixels: ClassVar[bool] = True  # compiled, its update on frames takes three quarters of the time on a CPU

    def __post_init__(self) -> None:
        ranges.at_least(self, 1, ("hidden_dim", "batch_size", "capacity", "n_step", "atoms", "target_every"))
        ranges.at_least(self, 1, ("epsilon_steps", "priority_beta_steps"))
        ranges.at_least(self, 0, ("lr", "sigma0", "priority_alpha", "weight_decay"))
        ranges.positive(self, ("adam_eps", "max_norm"))
        ranges.share(self, ("discount", "epsilon_start", "epsilon_final", "priority_beta"))
        ranges.part(self, ("target_tau", "encoder_tau"))
        self._check_schedules()
        if not -inf < self.v_min < self.v_max < inf:
            raise ValueError(f"v_min must be below v_max, and both finite, got {self.v_min} and {self.v_max}")

    def _check_schedules(self) -> None:
        steps, discount = self.n_step_schedule.start, self.discount_schedule.start
        if steps is not None and not (steps >= 1 and float(steps).is_integer()):
            raise ValueError(f"n_step_schedule.start must be a whole number of steps from 1, not {steps}")
        if discount is not None and not (0 <= discount < 1 and self.discount < 1):
            raise ValueError(f"discount_schedule needs discounts below 1, not {discount} and {self.discount}")

    @property
    def depends_on_length(self) -> bool:
        beta = self.prioritised and self.priority_beta_steps is None
        return beta or (self.resets.every is not None and self.resets.until is None)

    def for_length(self, agent_steps: int) -> "RainbowConfig":
        return replace(self, priority_beta_steps=self.priority_beta_steps or agent_steps)

    def for_updates(self, updates: int) -> "RainbowConfig":
        return replace(self, resets=self.resets.within(updates))

    def make(self, spec: AgentSpec) -> "Rainbow":
        """Build the agent. Raises ValueError for continuous actions, or heads on an encoder without parameters."""
        space = spec.action_space
        if not isinstance(space, spaces.Discrete) or space.start != 0:
            raise ValueError(f"agent=rainbow needs discrete actions 0..A-1, this environment has {space}")
        draw = partial(_draw, self)
        nets, heads = draw(spec)
        optimisers = Optimisers(
            spec,
            heads,
            encoder=nets.encoder,
            rl=nets.head,
            lr=self.lr,
            eps=self.adam_eps,
            weight_decay=self.weight_decay,
            precision=self.precision,
        )
        step = Update(nets, heads, optimisers, self.target_every, self.double, self.max_norm)
        priority = Priority(self.priority_alpha, self.priority_beta, beta_steps=self.priority_beta_steps)
        drawn = priority if self.prioritised else None
        stored = replace(self, n_step=max(self.n_step, int(self.n_step_schedule.start or 0)))
        prepare = partial(_prepare, self, Renewal(self.resets, step, spec, draw)) if self.changes else None
        moved = partial(divergence, nets, spec.augment, by_target=self.act_by_target)
        return Rainbow("Rainbow", spec, stored, step, partial(act, self, nets), drawn, prepare, moved)

    @property
    def changes(self) -> bool:
        """Whether anything depends on the number of updates made, besides copies of the target."""
        schedules = self.n_step_schedule.start, self.discount_schedule.start, self.policy.updates
        return any(begin is not None for begin in (self.resets.every, *schedules))

    def epsilon(self, acted: int) -> float:
        """Return the share of random actions after so many, without noisy layers."""
        return self.epsilon_start + min(1.0, acted / self.epsilon_steps) * (self.epsilon_final - self.epsilon_start)


Rainbow = OnlineAgent[Networks]


def act(config: RainbowConfig, nets: Networks, obs: Tensor, exploring: Exploring | None) -> Tensor:
    """Return the best actions `(N,)`; to explore, of the policy, or under new noise, or some of them random ones."""
    noise = None
    if exploring and config.noisy:
        noise = torch.randn(nets.head.noise_dim, generator=exploring.stream, device=obs.device)
    liked = preferences(nets, obs, noise, by_target=config.act_by_target)
    action = liked.argmax(1)
    if exploring is None:
        return action
    count, stream = len(action), exploring.stream
    if nets.head.policy is not None:
        action = torch.multinomial(liked.exp(), 1, generator=stream).squeeze(1)
    if config.noisy:
        return action
    dice = torch.rand(count, generator=stream, device=obs.device)
    random = torch.randint(nets.head.actions, (count,), generator=stream, device=obs.device)
    return torch.where(dice < config.epsilon(exploring.acted), random, action)


def preferences(nets: Networks, obs: Tensor, noise: Tensor | None, *, by_target: bool) -> Tensor:
    """Return what speaks for each action, `(N, A)`: the policy's log-probability, or its value."""
    encoder, head = nets.side(by_target=by_target)
    if head.policy is None:
        return expected(nets.logits(obs, noise, by_target=by_target), nets.support)
    log_probability: Tensor = head.policy(encoder(obs))
    return log_probability


def divergence(nets: Networks, view: View, obs: Tensor, *, by_target: bool) -> Callable[[Tensor], Tensor]:
    """Return the cross entropy `(N,)` of the greedy action at these observations with the softmax of the values at
    others `(N, ...)` (Huang et al. 2017, arXiv 1702.02284)."""

    def values(seen: Tensor) -> Tensor:
        return preferences(nets, view.fixed(seen), None, by_target=by_target)

    with torch.no_grad():
        greedy = values(obs).argmax(1)
    return lambda other: cross_entropy(values(other), greedy, reduction="none")


def _make_networks(config: RainbowConfig, spec: AgentSpec, encoder: Encoder) -> Networks:
    actions = int(spec.action_space.n)
    sigma0 = config.sigma0 if config.noisy else None
    head = QHead(
        encoder.latent_dim,
        config.hidden_dim,
        actions,
        config.atoms,
        dueling=config.dueling,
        shared=config.shared_hidden,
        sigma0=sigma0,
        policy=config.policy.make(encoder.latent_dim, config.hidden_dim, actions),
    )
    support = torch.linspace(config.v_min, config.v_max, config.atoms) if config.atoms > 1 else torch.ones(1)
    key_tau = config.encoder_tau if spec.aux else None
    return Networks(encoder, head, support, target_tau=config.target_tau, key_tau=key_tau)


def _draw(config: RainbowConfig, spec: AgentSpec) -> tuple[Networks, Heads]:
    return make_parts(spec, partial(_make_networks, config, spec), config.pull)


def _prepare(config: RainbowConfig, renewal: Renewal, updates: int, replay: Replay) -> None:
    """Reset what is due, cool the policy, and tell the replay what to sum, after so many updates."""
    if config.resets.due(updates):
        renewal(updates)
    policy = renewal.step.nets.head.policy
    if policy is not None and config.policy.updates is not None:
        policy.scale.data.fill_(config.policy.after(updates))
    since = updates - config.resets.latest(updates)
    replay.sum_rewards(
        config.n_step_schedule.horizon(config.n_step, since), config.discount_schedule.discount(config.discount, since)
    )
