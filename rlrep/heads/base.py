"""What a head is, and what its settings say of it."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from gymnasium import spaces
from torch import Tensor, nn

from rlrep.contrast.parts import Metrics
from rlrep.nn.gaussians import Gaussians
from rlrep.replay import Batch, Needs, Pairs, Transitions
from rlrep.settings import ranges
from rlrep.views.base import View

Pull = Literal["balanced", "own", "sum"]
"""How a head's gradient meets the RL loss's in the encoder.

balanced: scaled to `weight` times the norm of the RL loss's gradient where the two meet, so that a weight means the
    same in every agent, at every time, in every unit of reward.
own: through an Adam of its own for encoder and head, at `weight` times the agent's learning rate (CURL on DM Control,
    SAC-AE, TCL).
sum: `weight` times the loss is added to the RL loss (CURL's Rainbow).
"""


@dataclass(frozen=True)
class Rollout:
    """What a model of the environment predicts of the T steps from the RL batch's rows on, and what was seen.

    predicted, target: latents `(T, B, D)`, with gradient and without. valid `(T, B)` bool: the step took place.
    """

    predicted: Tensor
    target: Tensor
    valid: Tensor


@dataclass(frozen=True)
class Encoded:
    """The RL batch's observations through the online encoder, once, with gradient.

    latent: `(B, D)`. rollout: from it on, of agents that have a model of their own.
    """

    latent: Tensor
    rollout: Rollout | None = None


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


class Head(nn.Module, ABC):
    """A head, whose parameters the agent trains with the encoder's, as its `Pull` says.

    needs: what is drawn for it beside the batch.
    like_encoder: names of its modules that an agent's resets treat as they do the encoder (models of latents).
    stacks: whether the heads of several runs may be computed as one (`launcher=fleet`): `loss` reads tensors and
        settings alone, and `after_update` moves `MomentumTarget`s at most.
    """

    needs: Needs = Needs()
    like_encoder: ClassVar[tuple[str, ...]] = ()
    stacks: ClassVar[bool] = False

    @abstractmethod
    def loss(self, batch: Batch, pairs: Pairs, encoded: Encoded, encoders: Encoders) -> tuple[Tensor, Metrics]:
        """Return the unweighted scalar loss and health metrics. Free of random draws and of host synchronisation.

        pairs: what `needs` asks for, `pairs[request]`.
        It may be computed without an update, in evaluation mode; it then leaves no trace in the head's buffers.
        """

    def after_update(self) -> None:  # nothing moves in many heads
        """Move EMA targets and the like, after the optimiser's step. Never part of a compiled update, and part of a
        CUDA graph only in a head that `stacks`."""


@dataclass(frozen=True)
class HeadConfig:
    """An `aux.NAME` node: settings of a head, with `make`, with `make_context`, or with both.

    A dataclass that does not inherit from this one is completed by it where it is read (`rlrep.settings.complete`).

    weight: of the head beside the RL loss, in the sense of its pull.
    pull: see `Pull`; None = the agent's default.
    per_run: settings that may differ among runs that are computed as one.
    Raises ValueError on a negative weight.
    """

    per_run: ClassVar[tuple[str, ...]] = ("weight",)

    weight: float = 1.0
    pull: Pull | None = None

    def __post_init__(self) -> None:
        ranges.at_least(self, 0, ("weight",))

    @property
    def view(self) -> View | None:
        """Augmentation of what is drawn for the head; None = the agent's own."""
        return None

    @property
    def per_transition(self) -> bool:
        """Whether a head on contexts reads the Gaussian of every transition, rather than of whole windows."""
        return False

    def fitted(self, obs_shape: tuple[int, ...], frame_stack: int = 1) -> "HeadConfig":
        """Return the settings for an encoder of such observations, for heads that make some or take them apart."""
        return self

    def make(self, name: str, latent_dim: int, action_space: spaces.Space[Any]) -> Head:
        """Build the head `aux.NAME` for latents `(B, latent_dim)` and this action space.

        Draws its weights from torch's global generator. Raises ValueError in one line if it does not fit.
        """
        raise ValueError(f"aux={name} tells tasks apart: it needs a meta-RL agent and a family of tasks")

    def make_on_model(self, name: str, latent_dim: int, action_space: spaces.Space[Any]) -> Head:
        """Build the head for an agent that gives a `Rollout` of its own model; most heads do not read it."""
        return self.make(name, latent_dim, action_space)

    def make_context(self, name: str, latent_dim: int, horizon: int) -> Head:
        """Build the head for an agent that encodes transitions as Gaussians of width `latent_dim`.

        horizon: agent steps of an episode, at most. Raises ValueError in one line if it does not fit.
        """
        raise ValueError(f"aux={name} is for observations; this agent takes heads on contexts, as trajectory_contrast")
