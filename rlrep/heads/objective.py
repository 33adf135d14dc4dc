"""Which objective pulls a query to its keys and away from whom: shared by the heads that contrast within a batch."""

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
from rlrep.replay import Needs, Noise, Pairs, Request
from rlrep.settings import hint

from .base import Head, HeadConfig
from .branches import Branches, EmbeddingConfig, NormedProjector, make_projector
from .negatives import NegativeMask


@dataclass(frozen=True)
class ContrastConfig(NegativeMask, EmbeddingConfig):
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

    def __post_init__(self) -> None:
        super().__post_init__()
        chosen = self.chosen
        if self.queued and not chosen.memory:
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
        return chosen_objective(self, self.objective, rows=True)

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
        origin = self.config.origin(pairs)
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


class ContrastHead(Head):
    """A head that contrasts within a batch; its subclasses say what with.

    asked: its pairs. predictor_dim: hidden width of a residual predictor on the query, None = no predictor.
    """

    stacks = True

    def __init__(
        self,
        config: ContrastConfig,
        latent_dim: int,
        asked: Request[Any],
        *,
        predictor_dim: int | None = None,
        init: Literal["uniform", "identity"] = "uniform",
    ) -> None:
        super().__init__()
        project, dim = config.project(latent_dim)
        self.branches = Branches(config, project)
        self.predictor = None if predictor_dim is None else make_projector(dim, predictor_dim, dim)
        self.contrast = Contrast(config, dim, init=init)
        self.needs = Needs((asked, *self.contrast.requests), config.view)

    def query(self, latent: Tensor) -> Tensor:
        """Embed the batch's latents `(B, D)`."""
        query: Tensor = self.branches.project(latent)
        return query if self.predictor is None else query + self.predictor(query)

    def after_update(self) -> None:
        self.branches.update()
        self.contrast.after_update()


def chosen_objective(config: HeadConfig, given: str | Objective, *, rows: bool) -> Objective:
    """Return the objective of a head, by name with those of the head's options that are its own and not None.

    rows: whether the head contrasts rows with rows. One that is built already is returned as it is.
    Raises ValueError if it is not of that kind; for a name, with those that are.
    """
    if isinstance(given, Objective):
        if given.labels or given.rows != rows:
            kind = "contrasts rows with rows" if rows else "takes the batch as a whole"
            raise ValueError(f"objective={type(given).__name__} does not fit: this head {kind}")
        return given
    choices = {name: kind for name, kind in OBJECTIVES.items() if kind.rows == rows}
    if given not in choices:
        raise ValueError(f"objective={given} is not a choice{hint(given, choices)}")
    options = {f.name: getattr(config, f.name) for f in fields(config)}
    own = {f.name for f in fields(choices[given]) if f.init} - {f.name for f in fields(HeadConfig)}  # type: ignore[arg-type]
    return choices[given](**{name: options[name] for name in own & options.keys() if options[name] is not None})
