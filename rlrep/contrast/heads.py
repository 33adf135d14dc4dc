"""Small modules between an encoder and an objective."""

from typing import Literal

import torch
from torch import Generator, Tensor, nn

from .objectives import bilinear_logits


class Bilinear(nn.Module):
    """Learned bilinear similarity query^T W key; pass `weight` `(dim, dim)` to `bilinear_info_nce`.

    init: `uniform` draws from U[0, 1) as CURL's code does, `identity` starts at the dot product.
    generator: of the initial draw; None = torch's own. Raises ValueError on a dim below 1.
    """

    def __init__(
        self, dim: int, *, init: Literal["uniform", "identity"] = "uniform", generator: Generator | None = None
    ) -> None:
        super().__init__()
        if dim < 1:
            raise ValueError(f"dim must be at least 1, not {dim}.")
        weight = torch.rand((dim, dim), generator=generator) if init == "uniform" else torch.eye(dim)
        self.weight = nn.Parameter(weight)

    def forward(self, query: Tensor, key: Tensor) -> Tensor:
        """Return the similarities `(N, N)` of query and key, each `(N, dim)`."""
        return bilinear_logits(query, key, self.weight)
