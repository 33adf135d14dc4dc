"""Settings of `agent=sb3_sac` and `agent=sb3_dqn`: Stable-Baselines3's own algorithms in rlrep's training loop."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces

from rlrep.contract.agent import AgentConfig, AgentSpec
from rlrep.heads import Pull
from rlrep.settings import ranges

from ..optimisers import Precision
from .agent import SB3Agent
from .extractor import OwnExtractor
from .mixin import AuxDQN, AuxSAC


@dataclass(frozen=True)
class SB3Config(AgentConfig):
    """What both have in common, under the names that these settings have in rlrep's own agents.

    batch_size, capacity: transitions. n_step: of the TD target. pull, encoder_tau, max_norm: see `AuxMixin`.
    Raises ValueError on another precision than SB3's, and on numbers out of their range.
    """

    batch_size: int = 256
    capacity: int = 1_000_000
    discount: float = 0.99
    n_step: int = 1
    lr: float = 3e-4
    pull: Pull = "own"
    encoder_tau: float = 0.05
    max_norm: float | None = 10.0
    precision: Precision = "float32"

    compiles: ClassVar[bool] = False

    def __post_init__(self) -> None:
        ranges.at_least(self, 1, ("batch_size", "capacity", "n_step"))
        ranges.at_least(self, 0, ("lr",))
        ranges.positive(self, ("max_norm",))
        ranges.share(self, ("discount",))
        ranges.part(self, ("encoder_tau",))
        if self.precision != "float32":
            raise ValueError(f"Stable-Baselines3 computes in float32, not {self.precision}")

    def remark(self, encoder: Any, obs_shape: tuple[int, ...]) -> str | None:
        """Return that on states SB3 has no features extractor, which heads need and are given."""
        if len(obs_shape) == 3 or not isinstance(encoder, OwnExtractor):
            return None
        return "on states encoder=sb3 puts two layers in front for heads alone; encoder=mlp gives all of them the same"

    def arguments(self) -> dict[str, Any]:
        """Return the settings as SB3 calls them."""
        return {
            "learning_rate": self.lr,
            "buffer_size": self.capacity,
            "batch_size": self.batch_size,
            "gamma": self.discount,
            "n_steps": self.n_step,
            "pull": self.pull,
            "encoder_tau": self.encoder_tau,
            "aux_max_norm": self.max_norm,
        }


@dataclass(frozen=True)
class SB3SACConfig(SB3Config):
    """Settings of `agent=sb3_sac`; defaults are SB3's.

    hidden_dim: of actor and critic, two layers. tau: weight of the new value in the target network.
    initial_temperature: of the entropy, which is learnt from there.
    """

    hidden_dim: int = 256
    tau: float = 0.005
    initial_temperature: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        ranges.at_least(self, 1, ("hidden_dim",))
        ranges.positive(self, ("initial_temperature",))
        ranges.part(self, ("tau",))

    def make(self, spec: AgentSpec) -> SB3Agent:
        """Build the agent. Raises ValueError for discrete actions, and on what SB3's policy cannot read."""
        space = spec.action_space
        if not isinstance(space, spaces.Box) or not space.is_bounded():
            raise ValueError(f"agent=sb3_sac needs continuous, bounded actions, this environment has {space}")
        arguments = self.arguments() | {
            "tau": self.tau,
            "ent_coef": f"auto_{self.initial_temperature}",
            "target_entropy": -float(np.prod(space.shape)),
        }
        return SB3Agent("SAC", AuxSAC, arguments, spec, hidden=[self.hidden_dim] * 2)


@dataclass(frozen=True)
class SB3DQNConfig(SB3Config):
    """Settings of `agent=sb3_dqn`; defaults are SB3's.

    hidden_dim: of two layers of the Q network; None = SB3's own: 64 on states, on frames none but the CNN's.
    target_every: agent steps between copies of the target network. q_max_norm: SB3's clipping of its own gradients.
    epsilon_final: share of random actions, from 1 at the start, after `epsilon_fraction` of the run.
    agent_steps: length of the run, which that is a fraction of; None = told by the loop.
    """

    batch_size: int = 32
    lr: float = 1e-4
    pull: Pull = "balanced"
    encoder_tau: float = 0.001
    hidden_dim: int | None = None
    target_every: int = 10_000
    q_max_norm: float = 10.0
    epsilon_final: float = 0.05
    epsilon_fraction: float = 0.1
    agent_steps: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        ranges.at_least(self, 1, ("hidden_dim", "target_every", "agent_steps"))
        ranges.positive(self, ("q_max_norm", "epsilon_fraction"))
        ranges.share(self, ("epsilon_final", "epsilon_fraction"))

    @property
    def depends_on_length(self) -> bool:
        return True

    def for_length(self, agent_steps: int) -> "SB3DQNConfig":
        return replace(self, agent_steps=self.agent_steps or agent_steps)

    def make(self, spec: AgentSpec) -> SB3Agent:
        """Build the agent. Raises ValueError for continuous actions, and on what SB3's policy cannot read."""
        space = spec.action_space
        if not isinstance(space, spaces.Discrete) or space.start != 0:
            raise ValueError(f"agent=sb3_dqn needs discrete actions 0..A-1, this environment has {space}")
        arguments = self.arguments() | {
            "target_update_interval": self.target_every,
            "max_grad_norm": self.q_max_norm,
            "exploration_final_eps": self.epsilon_final,
            "exploration_fraction": self.epsilon_fraction,
        }
        hidden = None if self.hidden_dim is None else [self.hidden_dim] * 2
        return SB3Agent("DQN", AuxDQN, arguments, spec, hidden=hidden, agent_steps=self.agent_steps)
