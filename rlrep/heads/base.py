"""The auxiliary-task contract."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, TypeVar

from gymnasium import spaces
from torch import Tensor

from rlrep.contrast.parts import Metrics
from rlrep.nn.gaussians import Gaussians
from rlrep.replay import Batch, Needs, Pairs, Transitions
from rlrep.settings import ranges

Pull = Literal["balanced", "own", "sum"]
"""How a head's gradient meets the RL loss's in the encoder.

balanced: scaled to `weight` times the norm of the RL loss's gradient where the two meet, so that a weight means the
    same in every agent, at every time, in every unit of reward.
own: through an Adam of its own for encoder and head, at `weight` times the agent's learning rate (CURL on DM Control,
    SAC-AE, TCL).
sum: `weight` times the loss is added to the RL loss (CURL's Rainbow).
"""


@dataclass(frozen=True)
class HeadConfig:
    """What the settings of every head begin with.

    weight: of the head beside the RL loss, in the sense of its pull.
    pull: see `Pull`; None = the agent's default.
    Raises ValueError on a negative weight.
    """

    weight: float = 1.0
    pull: Pull | None = None

    def __post_init__(self) -> None:
        ranges.at_least(self, 0, ("weight",))


@dataclass(frozen=True)
class Encoded:
    """The RL batch's observations through the online encoder, once, with gradient. latent: `(B, D)`."""

    latent: Tensor


@dataclass(frozen=True)
class Encoders:
    """Encoders for what the RL batch lacks: observations (as in `Batch`) to latents `(B, D)`.

    online: with gradient. target: the EMA copy, without.
    online_context, target_context: the same for transitions, of agents that encode these: R windows to one Gaussian
    per transition (or a single one per window, from a recurrent encoder).
    """

    online: Callable[[Tensor], Tensor]
    target: Callable[[Tensor], Tensor]
    online_context: Callable[[Transitions], Gaussians] | None = None
    target_context: Callable[[Transitions], Gaussians] | None = None


class Head(Protocol):
    """A head: an `nn.Module` whose parameters the agent trains with the encoder's, as its `Pull` says."""

    needs: Needs

    def loss(self, batch: Batch, pairs: Pairs, encoded: Encoded, encoders: Encoders) -> tuple[Tensor, Metrics]:
        """Return the unweighted scalar loss and health metrics. Free of random draws and of host synchronisation.

        pairs: what `needs` asks for, `pairs[request]`.
        It may be computed without an update, in evaluation mode; it then leaves no trace in the head's buffers.
        """
        ...

    def after_update(self) -> None:
        """Move EMA targets and the like, after the optimiser's step. Never part of a compiled or recorded update."""
        ...


class AuxConfig(Protocol):
    """What an agent needs from one `aux.NAME` node, a `HeadConfig` or not.

    An agent that encodes transitions asks for `make_context(name, latent_dim, horizon)` instead of `make`: a head on
    Gaussians of width `latent_dim`, from episodes of at most `horizon` agent steps.
    """

    @property
    def weight(self) -> float:
        """How much this head counts beside the RL loss, see `HeadConfig`."""
        ...

    def make(self, name: str, latent_dim: int, action_space: spaces.Space[Any]) -> Head:
        """Build the head `aux.NAME` for latents `(B, latent_dim)` and this action space.

        Draws its weights from torch's global generator.
        """
        ...


Config = TypeVar("Config", bound=AuxConfig)


def fitted(config: Config, obs_shape: tuple[int, ...]) -> Config:
    """Return a head's config with the encoder's input shape in its field `obs_shape`, if it has one and leaves it open.

    For heads that make observations; the others need only know the latent.
    """
    if getattr(config, "obs_shape", obs_shape) is not None:
        return config
    return replace(config, obs_shape=obs_shape)  # type: ignore[type-var]  # configs are dataclasses
