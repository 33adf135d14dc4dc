"""One network, all views alike: contrast in the batch, or decorrelation (SimCLR, SupCon, CACR, Barlow Twins, ...)."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from rlrep.contrast.parts import Among, Metrics, Objective, Projection, Whitening, pair_health
from rlrep.nn import Encoder
from rlrep.views import View

from .base import Method, gather_rows, gather_views, out_dim
from .batch import DataShape, ImageBatch, Needs


@dataclass(frozen=True)
class JointEmbedding:
    """views x one network without target or predictor x (negatives, where there are any, in the batch) x objective.

    whitening: of every view's projections, over the batch. forward: views go through the network `together`, sharing
    batch-norm statistics, or `apart`.
    """

    views: tuple[View, ...]
    projector: Projection
    objective: Objective
    whitening: Whitening | None = None
    forward: Literal["together", "apart"] = "apart"

    def make(self, encoder: Encoder, about: DataShape) -> Method:
        """Build the method. Raises ValueError on fewer than two views."""
        return JointEmbeddingMethod(self, encoder)


class JointEmbeddingMethod(Method):
    """The objective of all views' projections."""

    def __init__(self, config: JointEmbedding, encoder: Encoder) -> None:
        if len(config.views) < 2:
            raise ValueError(f"method.views needs two views at least, not {len(config.views)}")
        super().__init__(encoder, config.projector.make(encoder.latent_dim))
        self.config = config
        self.needs = Needs(views=len(config.views), labels=config.objective.labels)
        dim = out_dim(self.online, encoder.latent_dim)
        self.whitening = config.whitening.make(dim) if config.whitening else nn.Identity()

    def loss(self, batch: ImageBatch) -> tuple[Tensor, Metrics]:
        """Return the objective of the joint batch."""
        z = self.embed_views(batch.views)
        return self.objective(z, batch.labels), pair_health(z[0], z[1])

    def embed_views(self, views: tuple[Tensor, ...]) -> Tensor:
        """Return `(V, N, D)`."""
        if self.config.forward == "together":
            together: Tensor = self.embed(torch.cat(views)).unflatten(0, (len(views), -1))
            return together
        return torch.stack([self.embed(view) for view in views])

    def objective(self, z: Tensor, labels: Tensor | None) -> Tensor:
        """Return the loss of embeddings `(V, N, D)` of this process's images, together with all others'."""
        white = torch.stack([self.whitening(view) for view in gather_views(z)])
        return self.config.objective(white, Among(labels=gather_rows(labels)))
