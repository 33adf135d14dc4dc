"""A prediction of one view from another, whose network gets no gradient (MoCo, BYOL, SimSiam, DirectPred, ...)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from rlrep.contrast import DirectPredictor, MemoryQueue, MomentumTarget, SplitBatchNorm
from rlrep.contrast.parts import Among, Metrics, Momentum, Objective, PredictorConfig, Projection, Queue, pair_health
from rlrep.nn import Encoder
from rlrep.views import View

from .base import Method, gather_rows, out_dim
from .batch import DataShape, ImageBatch, Needs


@dataclass(frozen=True)
class TargetEmbedding:
    """two views x target network x predictor x negatives x objective.

    target: None = the online network itself, its gradient stopped (SimSiam). predictor: None = the identity.
    queue: negatives from earlier keys; None = those of the batch, where the objective uses any.
    directions: `both` = the sum of predicting each view from the other; `one` = the second from the first.
    splits: parts of a batch whose batch-norm statistics are kept apart, the targets' shuffled (MoCo on one device).
    """

    views: tuple[View, ...]
    projector: Projection
    objective: Objective
    target: Momentum | None = None
    predictor: PredictorConfig | None = None
    queue: Queue | None = None
    directions: Literal["both", "one"] = "both"
    splits: int = 1

    def make(self, encoder: Encoder, about: DataShape) -> Method:
        """Build the method. Raises ValueError on a queue that the objective does not use, and unless views are two."""
        return TargetEmbeddingMethod(self, encoder)


class TargetEmbeddingMethod(Method):
    """Predict the target's embedding of the other view."""

    def __init__(self, config: TargetEmbedding, encoder: Encoder) -> None:
        if config.queue is not None and not config.objective.memory:
            raise ValueError(f"method.queue has no use in {type(config.objective).__name__}: give method.queue=null")
        if len(config.views) != 2:
            raise ValueError(f"method.views needs two views, not {len(config.views)}")
        super().__init__(encoder, config.projector.make(encoder.latent_dim, config.splits))
        if config.splits > 1:
            SplitBatchNorm.convert(encoder, config.splits)
        self._split = any(isinstance(module, SplitBatchNorm) for module in self.online.modules())
        self.config, self.sync_batch_norm = config, config.splits == 1
        self.needs = Needs(parts=config.splits if self._split else 1)
        dim = out_dim(self.online, encoder.latent_dim)
        self.predictor = config.predictor.make(dim) if config.predictor else nn.Identity()
        self.target = MomentumTarget(self.online, config.target.tau) if config.target else None
        self.queue: MemoryQueue | None = config.queue.make(dim) if config.queue else None
        self._embedded: list[Tensor] = []
        self._keys: list[Tensor] = []

    def loss(self, batch: ImageBatch) -> tuple[Tensor, Metrics]:
        """Return the sum over directions."""
        views, directions = batch.views, [(0, 1), (1, 0)] if self.config.directions == "both" else [(0, 1)]
        seen = {0, 1} if self.target is None else {first for first, _ in directions}
        online = {view: self._online(views[view], view) for view in sorted(seen)}
        keys = {other: self._key(views[other], online.get(other)) for _, other in directions}
        terms = [self._direction(self.predictor(online[first]), keys[other]) for first, other in directions]
        self._embedded += [z.detach() for z in online.values()]
        self._keys += [keys[other] for _, other in directions]
        return torch.stack(terms).sum(), pair_health(online[0], keys[1])

    def _online(self, view: Tensor, number: int) -> Tensor:
        """Return the online network's embedding; without a target network the second view's is the first one's key."""
        return self._shuffled(self.embed, view) if number and self.target is None else self.embed(view)

    def _shuffled(self, network: Callable[[Tensor], Tensor], view: Tensor) -> Tensor:
        """Embed a view, in an order of its own where batch norm is split, and put the rows back.

        In the queries' order a key would be normalised with the keys of its query's part, and the statistics that both
        share would tell them apart from the rest (He et al. 2020, section 3.3).
        """
        if not self._split:
            return network(view)
        order = torch.randperm(len(view), device=view.device)
        return network(view[order])[order.argsort()]

    @torch.no_grad()
    def _key(self, view: Tensor, online: Tensor | None) -> Tensor:
        """Return what a view's target is, without gradient; `online` is the online network's embedding of it."""
        if self.target is None:
            assert online is not None
            return online.detach()
        return self._shuffled(self.target, view)

    def _direction(self, prediction: Tensor, key: Tensor) -> Tensor:
        prediction, key = gather_rows(prediction), gather_rows(key)
        if self.queue is None or self.config.queue is None:
            return self.config.objective([prediction, key], Among())
        negatives = self.config.queue.negatives(self.queue, prediction, self.progress)
        return self.config.objective([prediction, key], Among(negatives=negatives, faded=self.config.queue.fades))

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """Set the predictor, move the target, push the keys: only now, so that no batch is its own negative."""
        super().after_step(progress)
        if isinstance(self.predictor, DirectPredictor):
            self.predictor.observe(torch.cat(self._embedded))
            self.predictor.refresh()
        if self.target is not None and self.config.target is not None:
            self.target.tau = self.config.target.at(progress)
            self.target.update()
        if self.queue is not None:
            for key in self._keys:
                self.queue.push(gather_rows(key))
        self._embedded, self._keys = [], []
