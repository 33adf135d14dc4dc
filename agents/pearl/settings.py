"""Settings of `agent=pearl`."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from rlrep.contract.agent import AgentConfig
from rlrep.heads import Pull
from rlrep.replay.tasks import Draw
from rlrep.settings import ranges

from ..optimisers import Precision
from ..sac.update import TemperatureLoss
from .update import Reduction

Context = Literal["set", "recurrent", "oracle", "none"]


@dataclass(frozen=True)
class PEARLSettings(AgentConfig):
    """What `PEARLConfig` holds; the YAML cites the papers' values.

    context: who knows the task: a `set` encoder (product of Gaussians), a `recurrent` one (GRU), an `oracle` that is
        given the task's own numbers, or `none` (SAC on all tasks at once).
    latent_dim: of the task latent. context_hidden_dim, context_layers: of its encoder.
    context_size: transitions of an update's context per task, `context_draw`n one by one, or in a row: a window of one
        episode, going on in others where that is shorter, and at most what `prior_steps` are in whole episodes (all
        that a test shows before the belief counts).
    context_next_obs: whether a context shows next observations.
    meta_batch: tasks per update, at most as many as there are. batch_size: transitions of each. capacity: transitions
        of all tasks together.
    kl_weight: of the KL to the prior, its `kl_reduction` over the meta-batch. critic_to_context: whether the critic's
        loss trains the context encoder. context_tau: EMA rate of the encoder that heads take their keys from.
    pull: of heads that name none, see `rlrep.heads.Pull`; the RL loss is critic's and KL.
    value: `q` (SAC, no value function) or `v` (the original's). alpha_lr: 0 keeps the temperature.
    penalty: factor of the mean squares of the policy's mean and log standard deviation. reward_scale: of the critic.
    tasks_per_iteration: tasks that collect, each prior_steps by latents of the prior, then posterior_steps by latents
        of its belief, both of which become its context, then extra_steps which do not; all in whole episodes.
    """

    latent_dim: int = 5
    hidden_dim: int = 300
    hidden_layers: int = 3
    context: Context = "set"
    context_hidden_dim: int = 200
    context_layers: int = 3
    context_size: int = 64
    context_draw: Draw = "transitions"
    context_next_obs: bool = False
    meta_batch: int = 16
    batch_size: int = 256
    capacity: int = 1_000_000
    discount: float = 0.99
    kl_weight: float = 0.1
    kl_reduction: Reduction = "sum"
    critic_to_context: bool = True
    context_tau: float = 0.005
    value: Literal["q", "v"] = "q"
    lr: float = 3e-4
    alpha_lr: float = 3e-4
    initial_temperature: float = 1.0
    temperature_loss: TemperatureLoss = "log_alpha"
    target_entropy: float | None = None
    critic_tau: float = 0.005
    log_std_range: tuple[float, float] = (-20.0, 2.0)
    penalty: float = 1e-3
    reward_scale: float = 5.0
    tasks_per_iteration: int = 5
    prior_steps: int = 400
    posterior_steps: int = 0
    extra_steps: int = 600
    pull: Pull = "own"
    precision: Precision = "float32"

    per_run: ClassVar[tuple[str, ...]] = (
        *("lr", "alpha_lr", "capacity", "discount", "reward_scale", "initial_temperature"),
        *("tasks_per_iteration", "prior_steps", "posterior_steps", "extra_steps"),
    )

    def __post_init__(self) -> None:
        ranges.at_least(self, 1, ("latent_dim", "hidden_dim", "hidden_layers", "context_hidden_dim", "context_layers"))
        ranges.at_least(
            self, 1, ("context_size", "meta_batch", "batch_size", "capacity", "tasks_per_iteration", "prior_steps")
        )
        ranges.at_least(self, 0, ("posterior_steps", "extra_steps", "kl_weight", "penalty", "lr", "alpha_lr"))
        ranges.positive(self, ("initial_temperature", "reward_scale"))
        ranges.share(self, ("discount",))
        ranges.part(self, ("context_tau", "critic_tau"))
        ranges.ascending(self, ("log_std_range",))

    @property
    def infers(self) -> bool:
        """Whether the latent is inferred from transitions."""
        return self.context in ("set", "recurrent")
