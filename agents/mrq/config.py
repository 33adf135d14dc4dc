"""Settings of MR.Q."""

from dataclasses import dataclass
from functools import partial

import numpy as np
from gymnasium import spaces
from torch import nn

from rlrep.contract.agent import AgentConfig, AgentSpec
from rlrep.heads import Pull
from rlrep.nn import Encoder
from rlrep.nn.elu import normed_mlp
from rlrep.nn.optim import FusedAdam
from rlrep.replay import Needs
from rlrep.replay.kinds.later import Unroll
from rlrep.settings import ranges

from ..meeting import trained
from ..online import make_parts
from ..optimisers import Optimisers, Precision
from ..sampling import LEAST_PRIORITY, Sampling, priority
from .agent import MRQ, act, divergence
from .networks import Model, Networks, TwinValue
from .update import UNROLL, Smoothing, Update, Weights


@dataclass(frozen=True)
class MRQConfig(AgentConfig):
    """Settings of `agent=mrq`; the YAML cites the paper's values.

    hidden_dim: of model, critic and actor. action_width: units that read the action. The encoder's sizes are its own.
    batch_size, capacity: transitions. n_step: of the TD target. unroll_steps: of the model's loss.
    target_every: updates between copies of the targets, each followed by as many steps of encoder and model.
    lr, weight_decay: of critic and actor; encoder_lr: of encoder, model and heads. max_norm: of the critic's gradient.
    exploration_noise: standard deviation of the acting policy's noise; target_noise, noise_bound: of the target's.
    latent_weight, reward_weight, terminated_weight: of the model's losses.
    bins, bound: of the distribution over rewards, see `make_bins`.
    penalty: factor of the mean square of the actor's output before tanh.
    replay: see `Sampling`. priority_alpha: exponent of priorities.
    pull: of heads that name none, see `rlrep.heads.Pull`.
    precision: `bf16` runs the losses under autocast; parameters and optimisers stay float32.
    Raises ValueError on numbers out of their range, and on priorities that are none.
    """

    hidden_dim: int = 512
    action_width: int = 256
    batch_size: int = 256
    capacity: int = 1_000_000
    discount: float = 0.99
    n_step: int = 3
    unroll_steps: int = 5
    target_every: int = 250
    lr: float = 3e-4
    encoder_lr: float = 1e-4
    weight_decay: float = 1e-4
    max_norm: float = 20.0
    exploration_noise: float = 0.2
    target_noise: float = 0.2
    noise_bound: float = 0.3
    latent_weight: float = 1.0
    reward_weight: float = 0.1
    terminated_weight: float = 0.1
    bins: int = 65
    bound: float = 10.0
    penalty: float = 1e-5
    replay: Sampling = "lap"
    priority_alpha: float = 0.4
    pull: Pull = "sum"
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        ranges.at_least(self, 1, ("hidden_dim", "action_width", "batch_size", "capacity", "n_step", "unroll_steps"))
        ranges.at_least(self, 1, ("target_every",))
        ranges.at_least(self, 2, ("bins",))
        ranges.at_least(self, 0, ("lr", "encoder_lr", "weight_decay", "exploration_noise", "target_noise", "penalty"))
        ranges.at_least(self, 0, ("noise_bound", "latent_weight", "reward_weight", "terminated_weight"))
        ranges.positive(self, ("max_norm", "bound"))
        ranges.share(self, ("discount", "priority_alpha"))
        priority(self.replay, self.priority_alpha)

    def make(self, spec: AgentSpec) -> MRQ:
        """Build the agent. Raises ValueError for discrete actions, or an encoder without parameters."""
        space = spec.action_space
        if not (isinstance(space, spaces.Box) and (space.low == -1).all() and (space.high == 1).all()):
            raise ValueError(f"agent=mrq acts in [-1, 1], this environment in {space}")
        action_dim = int(np.prod(space.shape))
        nets, heads = make_parts(spec, partial(self._networks, action_dim), self.pull, modelled=True)
        if not trained(nets.encoder):
            raise ValueError("agent=mrq learns by its encoder, this one has nothing to train: choose encoder=elu_mlp")
        adam = partial(FusedAdam, lr=self.lr, weight_decay=self.weight_decay)
        optimisers = Optimisers(
            spec,
            heads,
            encoder=nets.encoder,
            rl=nets.model,
            lr=self.encoder_lr,
            weight_decay=self.weight_decay,
            decayed="all",
            apart={"value": adam(trained(nets.value)), "actor": adam(trained(nets.actor))},
            precision=self.precision,
        )
        unroll = Unroll(self.unroll_steps)
        step = Update(
            nets,
            heads,
            optimisers,
            unroll,
            Weights(self.latent_weight, self.reward_weight, self.terminated_weight),
            Smoothing(self.target_noise, self.noise_bound),
            self.target_every,
            self.max_norm,
            self.penalty,
            LEAST_PRIORITY,
        )
        drawn = priority(self.replay, self.priority_alpha)
        policy, moved = partial(act, nets, self.exploration_noise), partial(divergence, nets, spec.augment)
        return MRQ("MR.Q", spec, self, step, policy, drawn, divergence=moved, asks={UNROLL: Needs((unroll,))})

    def _networks(self, action_dim: int, encoder: Encoder) -> Networks:
        latent, hidden = encoder.latent_dim, self.hidden_dim
        model = Model(latent, action_dim, action_width=self.action_width, hidden_dim=hidden, bins=self.bins)
        actor = normed_mlp(latent, hidden, action_dim, nn.ReLU)
        return Networks(encoder, model, TwinValue(hidden, hidden), actor, bins=self.bins, bound=self.bound)
