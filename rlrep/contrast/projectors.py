"""Small modules between an encoder and an objective."""

from itertools import pairwise
from typing import Literal

import torch
from torch import Generator, Tensor, nn

from .batchnorm import SplitBatchNorm
from .objectives import bilinear_logits

Norm = Literal["none", "plain", "affine"]


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


class Projector(nn.Sequential):
    """MLP from an encoder's output to the space of an objective: Linear-BN-ReLU per hidden layer, then Linear(-BN).

    norm, last_norm: batch norm after the hidden layers and after the last: `none`, `plain` (no affine part) or
        `affine`. A linear layer has a bias where no batch norm follows.
    splits: parts of the batch for batch norm, see `SplitBatchNorm`; 1 = ordinary.

    SimCLR (512, 2048, 128), last_norm `affine`; MoCo v2: norm `none`; SimSiam, MoCo v3: last_norm `plain`; Barlow
    Twins, VICReg: layers 3, which standardise in the objective. layers 1 is a linear map without hidden layer.
    Raises ValueError on widths and counts below 1 and on an unknown norm.
    """

    def __init__(
        self,
        in_dim: int,
        hidden_dim: int,
        out_dim: int,
        *,
        layers: int = 2,
        norm: Norm = "affine",
        last_norm: Norm = "none",
        splits: int = 1,
    ) -> None:
        if min(in_dim, hidden_dim, out_dim, layers, splits) < 1 or {norm, last_norm} - {"none", "plain", "affine"}:
            raise ValueError(
                f"Widths {in_dim, hidden_dim, out_dim}, layers {layers} and splits {splits} must be at least 1, "
                f"norm {norm!r} and last_norm {last_norm!r} one of none, plain, affine."
            )
        widths = [in_dim, *[hidden_dim] * (layers - 1), out_dim]
        parts: list[nn.Module] = []
        for i, (before, after) in enumerate(pairwise(widths)):
            kind = last_norm if i == layers - 1 else norm
            parts.append(nn.Linear(before, after, bias=kind == "none"))
            if kind != "none":
                parts.append(_batch_norm(after, kind, splits))
            if i < layers - 1:
                parts.append(nn.ReLU())
        super().__init__(*parts)


class Predictor(Projector):
    """MLP from an objective's space to itself, on the online side only (BYOL, SimSiam, MoCo v3); arguments as above.

    SimSiam: a bottleneck (2048, 512), norm on the hidden layer only. BYOL: (256, 4096).
    """

    def __init__(
        self,
        dim: int,
        hidden_dim: int,
        *,
        layers: int = 2,
        norm: Norm = "affine",
        last_norm: Norm = "none",
        splits: int = 1,
    ) -> None:
        super().__init__(dim, hidden_dim, dim, layers=layers, norm=norm, last_norm=last_norm, splits=splits)


def _batch_norm(width: int, kind: Norm, splits: int) -> nn.Module:
    affine = kind == "affine"
    return nn.BatchNorm1d(width, affine=affine) if splits == 1 else SplitBatchNorm(width, splits, affine=affine)
