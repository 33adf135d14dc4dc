"""Which objective pulls a query to its keys and away from whom: shared by the heads that contrast within a batch."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from torch import Tensor, nn

from rlrep.contrast import Bilinear
from rlrep.contrast.parts import (
    OBJECTIVES,
    Among,
    HardMixing,
    KeyQueue,
    Metrics,
    Objective,
    Queue,
    in_batch_health,
    masked_share,
)
from rlrep.replay import Noise, Pairs, Request
from rlrep.settings import hint

from .branches import NormedProjector, Target, make_projector
from .negatives import NegativeMask, Origin

OPTIONS = ("temperature", "tau_plus", "beta", "t_pos", "t_neg")
"""The objectives' options that a head has under these names."""


@dataclass(frozen=True)
class ContrastConfig(NegativeMask):
    """Objective and negatives of a head.

    objective: `bilinear` (CURL; on the latents themselves, or on a `NormedProjector` where they are wider than
        `embedding_dim`), `info_nce` (cosine, one direction), `nt_xent` (SimCLR), `debiased`, `hard_negative`, `mochi`
        or `cacr`, or a `rlrep.contrast.parts.Objective` of one's own; all but the first on the output of a projector.
    negatives: the rest of the `batch`, or a `queue` of earlier keys (`info_nce`; `mochi` always).
    temperature: None = the one of the objective's paper.
    tau_plus: assumed share of false negatives (`debiased`, `hard_negative`). beta: how hard (`hard_negative`).
    t_pos, t_neg: sharpness of the transport weights (`cacr`).
    queue_size: keys. queue_decay: see `Queue`.
    hardest, mixed, query_mixed: see `mix_hard_negatives`; mixing waits for `hardest` keys (`mochi`).
    target: who encodes the other view. hidden_dim, embedding_dim: of the projector. tau: EMA rate of its copy.
    """

    objective: str | Objective = "bilinear"
    negatives: Literal["batch", "queue"] = "batch"
    temperature: float | None = None
    tau_plus: float = 0.1
    beta: float = 1.0
    t_pos: float = 1.0
    t_neg: float = 1.0
    queue_size: int = 4096
    queue_decay: float = 1.0
    hardest: int = 256
    mixed: int = 64
    query_mixed: int = 16
    target: Target = "ema"
    hidden_dim: int = 256
    embedding_dim: int = 128
    tau: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.chosen.labels or not self.chosen.rows:
            raise ValueError(f"objective={self.objective} does not contrast rows with rows, which this head does")
        if self.queued and not self.chosen.memory:
            raise ValueError(f"negatives=queue goes with objective=info_nce or mochi, not {self.objective}")
        if self.queued and self.mask_within is not None:
            raise ValueError("mask_within is for negatives in the batch: a queue does not know when its keys were seen")
        if self.queue_decay != 1.0 and not self.queued:
            raise ValueError(f"queue_decay={self.queue_decay} is of a queue: give negatives=queue")
        if min(self.queue_size, self.hardest) < 1 or min(self.mixed, self.query_mixed) < 0:
            raise ValueError(
                f"queue_size and hardest must be at least 1, mixed and query_mixed not negative, got "
                f"{self.queue_size}, {self.hardest}, {self.mixed} and {self.query_mixed}"
            )
        Queue(self.queue_size, self.mixing, self.queue_decay)  # refuses a decay out of range, or with mixtures

    @property
    def chosen(self) -> Objective:
        """The objective with its settings."""
        return chosen_objective(self, self.objective, OPTIONS)

    @property
    def queued(self) -> bool:
        """Whether negatives come from a queue."""
        return self.negatives == "queue" or self.objective == "mochi"

    @property
    def mixing(self) -> HardMixing | None:
        """How negatives are mixed, if they are."""
        return HardMixing(self.hardest, self.mixed, self.query_mixed) if self.objective == "mochi" else None

    def project(self, latent_dim: int) -> tuple[nn.Module, int]:
        """Return the projector for latents `(B, latent_dim)` and the width of its output."""
        if self.chosen.learned_form:
            if latent_dim > self.embedding_dim:
                return NormedProjector(latent_dim, self.hidden_dim, self.embedding_dim), self.embedding_dim
            return nn.Identity(), latent_dim
        return make_projector(latent_dim, self.hidden_dim, self.embedding_dim), self.embedding_dim


class Contrast(nn.Module):
    """The chosen objective on embeddings `(B, dim)`, with its state: the bilinear form, the queue.

    requests: what a head must ask for on its behalf.
    """

    def __init__(self, config: ContrastConfig, dim: int, *, init: Literal["uniform", "identity"] = "uniform") -> None:
        super().__init__()
        self.config, self.objective, mixing = config, config.chosen, config.mixing
        self.bilinear = Bilinear(dim, init=init) if self.objective.learned_form else None
        self.queue = KeyQueue(Queue(config.queue_size, mixing, config.queue_decay), dim) if config.queued else None
        self.bins, self.time = config.bin_request, config.time_request
        self.noise = Noise(mixing.numbers) if mixing is not None and mixing.numbers else None
        asked: tuple[Request[Any] | None, ...] = (self.bins, self.time, self.noise)
        self.requests = tuple(request for request in asked if request is not None)

    def forward(
        self, query: Tensor, keys: Tensor, pairs: Pairs, *, row_weight: Tensor | None = None
    ) -> tuple[Tensor, Metrics]:
        """Return the loss and its health. query: `(B, dim)`. keys: `(V, B, dim)`, V > 1 for `cacr` only."""
        form = None if self.bilinear is None else self.bilinear.weight
        origin = Origin(
            None if self.bins is None else pairs[self.bins], None if self.time is None else pairs[self.time]
        )
        negatives, masked, valid, faded = None, None, None, False
        if self.queue is None:
            masked = valid = self.config.valid(origin, origin)
        else:
            noise = None if self.noise is None else pairs[self.noise]
            negatives, valid = self.queue.negatives(query, origin.bin, noise)
            faded = self.queue.config.fades
        health = in_batch_health(query, keys[0], form, valid=masked, row_weight=row_weight)
        if self.queue is not None:
            health |= {"queue_filled": self.queue.filled.float().mean()}
            if self.training:
                self.queue.stage(keys[0], origin.bin)
        if masked is not None:
            health |= {"masked": masked_share(masked)}
        return self.objective([query, *keys], Among(None, negatives, valid, row_weight, form, faded)), health

    def after_update(self) -> None:
        """Move the queue on."""
        if self.queue is not None:
            self.queue.push()


def chosen_objective(config: object, given: str | Objective, options: Sequence[str]) -> Objective:
    """Return the objective of a head, by name with those of the head's options that are its own and not None.

    One that is built already is returned as it is. Raises ValueError, with the valid names, on another name.
    """
    if isinstance(given, Objective):
        return given
    if given not in OBJECTIVES:
        raise ValueError(f"objective={given} is not a choice{hint(given, OBJECTIVES)}")
    kind = OBJECTIVES[given]
    own = {field.name for field in fields(kind) if field.init}  # type: ignore[arg-type]  # all of them are dataclasses
    values = {name: getattr(config, name) for name in options if name in own}
    return kind(**{name: value for name, value in values.items() if value is not None})
