"""Soft actor-critic with auxiliary heads on the critic's encoder."""

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from rlrep.contract.agent import AgentConfig, AgentSpec
from rlrep.heads import Metrics, Pull
from rlrep.nn import EncoderConfig, init_orthogonal
from rlrep.nn.distributions import sample_squashed
from rlrep.nn.graph import compiled
from rlrep.nn.optim import FusedAdam
from rlrep.replay import Batch
from rlrep.settings import ranges

from ..learner import Due, Inputs, Outcome, Precision, trained
from ..meeting import Owned
from ..online import OnlineLearner, replay_layout
from .networks import Actor, TwinQ
from .update import Networks, TemperatureLoss, actor_gradients, critic_gradients, diagnose


@dataclass(frozen=True)
class SACConfig(AgentConfig):
    """Settings of `agent=sac`; the YAML cites each paper's values.

    lr: of actor, critic, encoder and heads. batch_size, capacity: transitions. n_step: of the TD target.
    critic_tau, encoder_tau: weight of the new value in the target networks, every `target_every` updates.
    actor_every: updates.
    target_entropy: nats; None = minus the action dimension. temperature_loss: see `TemperatureLoss`.
    log_std_bound: tanh-`squash` (SAC-AE) or `clamp` into log_std_range.
    pull: of heads that name none, see `rlrep.heads.Pull`.
    init: `orthogonal` (SAC-AE, CURL) or `torch` (the layers' own default, as Stable-Baselines3).
    precision: `bf16` runs the losses under autocast; parameters and optimisers stay float32.
    Raises ValueError on numbers out of their range.
    """

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
    pull: Pull = "own"
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        ranges.at_least(self, 1, ("hidden_dim", "batch_size", "capacity", "n_step", "target_every", "actor_every"))
        ranges.at_least(self, 0, ("lr", "alpha_lr"))
        ranges.positive(self, ("initial_temperature",))
        ranges.share(self, ("discount", "alpha_beta1"))
        ranges.ascending(self, ("log_std_range",))

    def make(self, spec: AgentSpec) -> "SAC":
        """Build the agent. Raises ValueError for discrete actions, or heads on an encoder without parameters."""
        space = spec.action_space
        if not isinstance(space, spaces.Box):
            raise ValueError(f"agent=sac needs continuous actions, this environment has {space}")
        if not ((space.low == -1).all() and (space.high == 1).all()):
            raise ValueError(
                f"agent=sac acts in [-1, 1], this environment in {space}: wrap it in gymnasium's RescaleAction"
            )
        return SAC(self, spec)


class SAC(OnlineLearner[Networks]):
    """Soft actor-critic: the actor's and the temperature's losses run on the critic's stored encoding."""

    title = "SAC"

    def __init__(self, config: SACConfig, spec: AgentSpec) -> None:
        self.config = config
        self.action_dim = int(np.prod(spec.action_space.shape))
        self.target_entropy = -float(self.action_dim) if config.target_entropy is None else config.target_entropy
        layout = replay_layout(
            spec,
            (self.action_dim,),
            torch.float32,
            capacity=config.capacity,
            n_step=config.n_step,
            discount=config.discount,
        )
        networks = partial(_make_networks, config, spec.encoder, self.action_dim)
        super().__init__(
            spec, networks, layout, batch_size=config.batch_size, pull=config.pull, precision=config.precision
        )
        self._make_optimisers()
        self._critic_gradients = compiled(critic_gradients, spec.compile)
        self._actor_gradients = compiled(actor_gradients, spec.compile)

    def act(self, obs: NDArray[Any], *, explore: bool) -> NDArray[np.float32]:
        """Return actions `(N, A)` for stacked observations `(N, ...)`: a sample of the policy, or its mean."""
        with torch.no_grad():
            view = self.augment.fixed(torch.as_tensor(obs, device=self.device))
            mean, log_std = self.nets.actor(self.nets.encoder.body(view))
            if not explore:
                return self._to_env(mean.tanh())
            noise = torch.randn(mean.shape, generator=self._act_generator, device=self.device)
            return self._to_env(sample_squashed(mean, log_std, noise)[0])

    def random_actions(self, count: int) -> NDArray[np.float32]:
        """Return uniform actions `(count, A)`."""
        uniform = torch.rand((count, self.action_dim), generator=self._act_generator, device=self.device)
        return self._to_env(2 * uniform - 1)

    def _draw_noise(self, batch: Batch) -> Tensor:
        """Standard normal `(2, B, A)`: of the next action, and of the actor's."""
        return torch.randn((2, *batch.action.shape), generator=self._update_generator, device=self.device)

    def _due(self) -> Due:
        """Whether the actor and the targets move."""
        return self.updates % self.config.actor_every == 0, self.updates % self.config.target_every == 0

    def _run_step(self, inputs: Inputs, due: Due) -> Outcome:
        """Critic and heads in one step, then actor and temperature, then the targets."""
        batch, noise = inputs
        train_actor, move_targets = due
        critic, actor, alpha = self._optimisers
        with self._autocast():
            found = self._critic_gradients(self.nets, self._heads, self._owned, batch, noise[0])
        critic.step(found.gradients)
        self._step_own(found.own)
        metrics = [found.metrics]
        if train_actor:
            acting = actor.parameters + alpha.parameters
            with self._autocast():
                gradients, more = self._actor_gradients(
                    self.nets,
                    acting,
                    found.features,
                    found.latent,
                    noise[1],
                    self.target_entropy,
                    self.config.temperature_loss,
                )
            actor.step(gradients[:-1])
            alpha.step(gradients[-1:])
            metrics.append(more)
        if move_targets:
            self.nets.target_q.update()
            self.nets.target_encoder.update()
        return Outcome(metrics)

    def _encoder_meters(self, batch: Batch, noise: Tensor) -> Metrics:
        return diagnose(self.nets, self._heads, self._owned, batch, noise[0])

    def _make_optimisers(self) -> None:
        """One owner per parameter: critic, encoder and heads; the actor; the temperature. `pull=own` adds a second one
        of the encoder."""
        config, nets = self.config, self.nets
        heads = {name: trained(head) for name, head in self.heads.items()}
        self._owned = Owned(trained(nets.encoder), trained(nets.q), heads)
        self._own = self._own_optimisers(config.lr)
        self._optimisers = (
            FusedAdam(self._heads.joint(self._owned), config.lr),
            FusedAdam(list(nets.actor.parameters()), config.lr),
            FusedAdam([nets.log_alpha], config.alpha_lr, beta1=config.alpha_beta1),
        )

    def _to_env(self, action: Tensor) -> NDArray[np.float32]:
        return action.cpu().numpy()


def _make_networks(
    config: SACConfig, encoder_config: EncoderConfig, action_dim: int, obs_shape: tuple[int, ...]
) -> Networks:
    encoder = encoder_config.make(obs_shape)
    trunk = encoder_config.make_trunk(encoder.feature_dim)
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
