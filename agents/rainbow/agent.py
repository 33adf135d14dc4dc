"""Rainbow with auxiliary heads on its encoder; every part of it can be switched off."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from rlrep.contract.agent import AgentConfig, AgentSpec
from rlrep.contract.env import Array, Step
from rlrep.heads import Pull
from rlrep.nn import Encoder
from rlrep.replay import Batch, Priority
from rlrep.settings import ranges

from ..online import OnlineAgent, make_parts
from ..optimisers import Optimisers, Precision
from .networks import Networks, QHead
from .update import Update, expected


@dataclass(frozen=True)
class RainbowConfig(AgentConfig):
    """Settings of `agent=rainbow`, `agent=dqn` and `agent=drq_eps`; the YAML cites each paper's values.

    The parts of Rainbow: double, dueling, noisy, prioritised (switches), atoms (1 = values instead of distributions),
    n_step (1 = none).
    lr, adam_eps: of encoder, Q head and heads; gradients of a global norm above `max_norm` are scaled down to it.
    batch_size, capacity: transitions. target_every: updates between copies of the target network. encoder_tau: weight
        of the new value in the heads' key encoder, every update.
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
    target_every: int = 2000
    encoder_tau: float = 0.001
    pull: Pull = "balanced"
    precision: Precision = "float32"

    gains_on_pixels: ClassVar[bool] = True  # compiled, its update on frames takes three quarters of the time on a CPU

    def __post_init__(self) -> None:
        ranges.at_least(self, 1, ("hidden_dim", "batch_size", "capacity", "n_step", "atoms", "target_every"))
        ranges.at_least(self, 1, ("epsilon_steps", "priority_beta_steps"))
        ranges.at_least(self, 0, ("lr", "sigma0", "priority_alpha"))
        ranges.positive(self, ("adam_eps", "max_norm"))
        ranges.share(self, ("discount", "epsilon_start", "epsilon_final", "priority_beta"))
        if not self.v_min < self.v_max:
            raise ValueError(f"v_min must be below v_max, got {self.v_min} and {self.v_max}")

    @property
    def depends_on_length(self) -> bool:
        """Whether a longer run would have been another run from its first update."""
        return self.prioritised and self.priority_beta_steps is None

    def for_length(self, agent_steps: int) -> "RainbowConfig":
        """Return the settings of a run of so many agent steps."""
        return replace(self, priority_beta_steps=self.priority_beta_steps or agent_steps)

    def make(self, spec: AgentSpec) -> "Rainbow":
        """Build the agent. Raises ValueError for continuous actions, or heads on an encoder without parameters."""
        space = spec.action_space
        if not isinstance(space, spaces.Discrete) or space.start != 0:
            raise ValueError(f"agent=rainbow needs discrete actions 0..A-1, this environment has {space}")
        return Rainbow(self, spec)


class Rainbow(OnlineAgent[Networks]):
    """Values of discrete actions: everything in one loss and one optimiser."""

    title = "Rainbow"
    step: Update

    def __init__(self, config: RainbowConfig, spec: AgentSpec) -> None:
        self.config = config
        self._acted = self._observed = 0
        self._priority = Priority(config.priority_alpha, config.priority_beta)
        nets, heads = make_parts(spec, partial(_make_networks, config, spec), config.pull)
        optimisers = Optimisers(
            spec,
            heads,
            encoder=nets.encoder,
            rl=nets.head,
            lr=config.lr,
            eps=config.adam_eps,
            precision=config.precision,
        )
        step = Update(nets, heads, optimisers, config.target_every, config.double, config.max_norm)
        super().__init__(spec, config, step, heads, self._priority if config.prioritised else None)

    def act(self, obs: Array, *, explore: bool) -> NDArray[np.int64]:
        """Return greedy actions `(N,)` for stacked observations `(N, ...)`; to explore, under new noise or epsilon."""
        noise = None
        if explore and self.config.noisy:
            noise = torch.randn(self.nets.head.noise_dim, generator=self.act_stream, device=self.device)
        with torch.no_grad():
            latent = self.nets.encoder(self.seen(obs))
            logits = self.nets.head(latent, self.nets.head.perturbed(noise))
            action = expected(logits, self.nets.support).argmax(1).cpu().numpy()
        return self._some_random(action) if explore and not self.config.noisy else action

    def divergence(self, obs: Tensor) -> Callable[[Tensor], Tensor]:
        """Return the cross entropy `(N,)` of the greedy action at these observations with the softmax of the values at
        others `(N, ...)` (Huang et al. 2017, arXiv 1702.02284)."""
        with torch.no_grad():
            greedy = self._values(obs).argmax(1)
        return lambda other: cross_entropy(self._values(other), greedy, reduction="none")

    def _values(self, obs: Tensor) -> Tensor:
        head = self.nets.head
        return expected(head(self.nets.encoder(self.augment.fixed(obs)), head.perturbed(None)), self.nets.support)

    @property
    def epsilon(self) -> float:
        """Share of random actions at this point of training, without noisy layers."""
        config = self.config
        done = min(1.0, self._acted / config.epsilon_steps)
        return config.epsilon_start + done * (config.epsilon_final - config.epsilon_start)

    @property
    def beta(self) -> float:
        """Exponent of the importance weights at this point of training."""
        steps = self.config.priority_beta_steps
        return self._priority.beta_at(0.0 if steps is None else self._observed / steps)

    def observe(self, action: Array, step: Step) -> None:
        """Store one vector step."""
        super().observe(action, step)
        self._observed += len(action)

    def state(self) -> dict[str, Any]:
        """Return everything but the replay's rings."""
        return super().state() | {"acted": self._acted, "observed": self._observed}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore `state()`; the rings are restored before. Raises RuntimeError on parameters of other names or
        shapes."""
        super().load_state(state)
        self._acted, self._observed = state["acted"], state["observed"]

    def _some_random(self, action: NDArray[np.int64]) -> NDArray[np.int64]:
        """Replace each action by a uniform one with probability epsilon."""
        count = len(action)
        dice = torch.rand(count, generator=self.act_stream, device=self.device).cpu().numpy()
        replaced = np.where(dice < self.epsilon, self.random_actions(count), action)
        self._acted += count
        return replaced

    def _sample(self) -> Batch:
        return self.replay.sample(self.config.batch_size, beta=self.beta)


def _make_networks(config: RainbowConfig, spec: AgentSpec, encoder: Encoder) -> Networks:
    actions = int(spec.action_space.n)
    sigma0 = config.sigma0 if config.noisy else None
    head = QHead(encoder.latent_dim, config.hidden_dim, actions, config.atoms, dueling=config.dueling, sigma0=sigma0)
    support = torch.linspace(config.v_min, config.v_max, config.atoms) if config.atoms > 1 else torch.ones(1)
    return Networks(encoder, head, support, key_tau=config.encoder_tau if spec.aux else None)
