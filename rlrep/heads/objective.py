"""Which objective pulls a query to its keys and away from whom: shared by the heads that contrast within a batch."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from rlrep.contrast import (
    Bilinear,
    bilinear_info_nce,
    cacr,
    debiased_nt_xent,
    hard_nt_xent,
    info_nce,
    nt_xent,
)
from rlrep.replay import Noise, Pairs, Request

from .base import Metrics
from .branches import NormedProjector, Target, make_projector
from .health import in_batch_health, masked_share
from .key_queue import KeyQueue, mix_with_noise
from .negatives import NegativeMask, Origin

Objective = Literal["bilinear", "info_nce", "nt_xent", "debiased", "hard_negative", "mochi", "cacr"]
TEMPERATURES = {
    "bilinear": 1.0,  # CURL has none
    "info_nce": 0.2,  # MoCo v2
    "nt_xent": 0.5,  # SimCLR on CIFAR
    "debiased": 0.5,
    "hard_negative": 0.5,
    "mochi": 0.2,
    "cacr": 1.0,  # not used
}


@dataclass(frozen=True)
class ContrastConfig(NegativeMask):
    """Objective and negatives of a head.

    objective: `bilinear` (CURL; on the latents themselves, or on a `NormedProjector` where they are wider than
        `embedding_dim`), `info_nce` (cosine, one direction), `nt_xent` (SimCLR), `debiased`, `hard_negative`, `mochi`
        or `cacr`; all but the first on the output of a projector.
    negatives: the rest of the `batch`, or a `queue` of earlier keys (`info_nce`; `mochi` always).
    temperature: None = the one of the objective's paper.
    tau_plus: assumed share of false negatives (`debiased`, `hard_negative`). beta: how hard (`hard_negative`).
    t_pos, t_neg: sharpness of the transport weights (`cacr`).
    queue_size: keys. hardest, mixed, query_mixed: see `mix_hard_negatives`; mixing waits for `hardest` keys (`mochi`).
    target: who encodes the other view. hidden_dim, embedding_dim: of the projector. tau: EMA rate of its copy.
    """

    objective: Objective = "bilinear"
    negatives: Literal["batch", "queue"] = "batch"
    temperature: float | None = None
    tau_plus: float = 0.1
    beta: float = 1.0
    t_pos: float = 1.0
    t_neg: float = 1.0
    queue_size: int = 4096
    hardest: int = 256
    mixed: int = 64
    query_mixed: int = 16
    target: Target = "ema"
    hidden_dim: int = 256
    embedding_dim: int = 128
    tau: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.negatives == "queue" and self.objective not in ("info_nce", "mochi"):
            raise ValueError(f"negatives=queue goes with objective=info_nce or mochi, not {self.objective}")
        if self.queued and self.mask_within is not None:
            raise ValueError("mask_within is for negatives in the batch: a queue does not know when its keys were seen")
        if min(self.queue_size, self.hardest) < 1 or min(self.mixed, self.query_mixed) < 0:
            raise ValueError(
                f"queue_size and hardest must be at least 1, mixed and query_mixed not negative, got "
                f"{self.queue_size}, {self.hardest}, {self.mixed} and {self.query_mixed}"
            )

    @property
    def queued(self) -> bool:
        """Whether negatives come from a queue."""
        return self.negatives == "queue" or self.objective == "mochi"

    @property
    def noise_request(self) -> Noise | None:
        """What asks for the random numbers that the objective takes, if it does."""
        count = 3 * self.mixed + 2 * self.query_mixed if self.objective == "mochi" else 0
        return Noise(count) if count else None

    def project(self, latent_dim: int) -> tuple[nn.Module, int]:
        """Return the projector for latents `(B, latent_dim)` and the width of its output."""
        if self.objective == "bilinear":
            if latent_dim > self.embedding_dim:
                return NormedProjector(latent_dim, self.hidden_dim, self.embedding_dim), self.embedding_dim
            return nn.Identity(), latent_dim
        return make_projector(latent_dim, self.hidden_dim, self.embedding_dim), self.embedding_dim


class Contrast(nn.Module):
    """The chosen objective on embeddings `(B, dim)`, with its state: the bilinear form, the queue."""

    def __init__(self, config: ContrastConfig, dim: int, *, init: Literal["uniform", "identity"] = "uniform") -> None:
        super().__init__()
        self.config = config
        self.temperature = TEMPERATURES[config.objective] if config.temperature is None else config.temperature
        self.bilinear = Bilinear(dim, init=init) if config.objective == "bilinear" else None
        self.queue = KeyQueue(config.queue_size, dim) if config.queued else None
        self.bins, self.time, self.noise = config.bin_request, config.time_request, config.noise_request

    @property
    def requests(self) -> tuple[Request[Any], ...]:
        """What a head must ask for on its behalf."""
        return tuple(request for request in (self.bins, self.time, self.noise) if request is not None)

    def forward(
        self, query: Tensor, keys: Tensor, pairs: Pairs, *, row_weight: Tensor | None = None
    ) -> tuple[Tensor, Metrics]:
        """Return the loss and its health. query: `(B, dim)`. keys: `(V, B, dim)`, V > 1 for `cacr` only."""
        bins = None if self.bins is None else pairs[self.bins]
        noise = None if self.noise is None else pairs[self.noise]
        origin = Origin(bins, None if self.time is None else pairs[self.time])
        form = None if self.bilinear is None else self.bilinear.weight
        if self.queue is not None:
            health = in_batch_health(query, keys[0], form, row_weight=row_weight)
            health |= {"queue_filled": self.queue.filled.float().mean()}
            return self._against_queue(self.queue, query, keys[0], origin, row_weight, noise), health
        valid = self.config.valid(origin, origin)
        health = in_batch_health(query, keys[0], form, valid=valid, row_weight=row_weight)
        if valid is not None:
            health |= {"masked": masked_share(valid)}
        return self._within_batch(query, keys, valid, row_weight), health

    def after_update(self) -> None:
        """Move the queue on."""
        if self.queue is not None:
            self.queue.push()

    def _within_batch(self, query: Tensor, keys: Tensor, valid: Tensor | None, row_weight: Tensor | None) -> Tensor:
        config, t, key = self.config, self.temperature, keys[0]
        if self.bilinear is not None:
            weight = self.bilinear.weight
            return bilinear_info_nce(query, key, weight, temperature=t, valid=valid, row_weight=row_weight)
        if config.objective == "info_nce":
            return info_nce(query, key, temperature=t, valid=valid, row_weight=row_weight)
        if config.objective == "nt_xent":
            return nt_xent(query, key, temperature=t, valid=valid, row_weight=row_weight)
        if config.objective == "debiased":
            tau = config.tau_plus
            return debiased_nt_xent(query, key, temperature=t, tau_plus=tau, valid=valid, row_weight=row_weight)
        if config.objective == "hard_negative":
            tau, beta = config.tau_plus, config.beta
            return hard_nt_xent(query, key, temperature=t, tau_plus=tau, beta=beta, valid=valid, row_weight=row_weight)
        views = torch.cat([query[None], keys])
        return cacr(views, t_pos=config.t_pos, t_neg=config.t_neg, valid=valid, row_weight=row_weight)

    def _against_queue(
        self,
        queue: KeyQueue,
        query: Tensor,
        key: Tensor,
        origin: Origin,
        row_weight: Tensor | None,
        noise: Tensor | None,
    ) -> Tensor:
        config, t = self.config, self.temperature
        negatives, valid = [queue.keys], queue.valid(origin.bin, len(query))
        if noise is not None:
            mixed, counts = mix_with_noise(
                query,
                queue.keys,
                valid,
                noise,
                hardest=config.hardest,
                mixed=config.mixed,
                query_mixed=config.query_mixed,
            )
            negatives, valid = [*negatives, mixed], torch.cat([valid, counts], 1)
        if self.training:
            queue.stage(key, origin.bin)
        return info_nce(query, key, temperature=t, negatives=negatives, valid=valid, row_weight=row_weight)
