"""Decorrelated batch normalisation: whitening of groups of features over the batch."""

import math
from typing import Any, Literal

import torch
from torch import Generator, Tensor, nn

from .pairs import wide

Method = Literal["eigh", "cholesky", "newton_schulz"]


class GroupWhitening(nn.Module):
    """(Shuffled) decorrelated batch norm of a projector's output (Hua et al. 2021): every group has covariance I.

    Batch statistics only (covariance over N), no affine part, the same in training and evaluation.

    dim: D. groups: G, a divisor of D; None = the least divisor that makes groups at most N/2 wide, by the batch.
    shuffle: draw anew at every call which features form a group. The order of the output is that of the input.
    method: how C^(-1/2) is found. `eigh`: ZCA by eigenvectors, eigenvalues floored at eps, with an exact gradient also
        where eigenvalues meet; `cholesky`: triangular, of C + eps I; `newton_schulz`: approximate ZCA of C + eps I in
        `iterations` matrix products (IterNorm, Huang et al. 2019).
    generator: of the shuffling, on the input's device; None = torch's own.
    Raises ValueError on settings that do not fit.
    """

    def __init__(
        self,
        dim: int,
        *,
        groups: int | None = None,
        shuffle: bool = True,
        method: Method = "eigh",
        eps: float = 1e-5,
        iterations: int = 5,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        if dim < 1 or (groups is not None and (groups < 1 or dim % groups)):
            raise ValueError(f"groups must divide dim, got dim {dim} and groups {groups}.")
        if method not in ("eigh", "cholesky", "newton_schulz") or not eps > 0 or iterations < 1:
            raise ValueError(
                f"method must be eigh, cholesky or newton_schulz, eps positive and iterations at least 1, "
                f"not {method!r}, {eps} and {iterations}."
            )
        self.dim, self.groups, self.shuffle = dim, groups, shuffle
        self.method, self.eps, self.iterations = method, eps, iterations
        self._generator = generator

    def forward(self, z: Tensor) -> Tensor:
        """Whiten z `(N, D)`, in float32 at least. Raises ValueError on another shape."""
        if z.ndim != 2 or z.shape[1] != self.dim or len(z) == 0:
            raise ValueError(f"Expected z (N, {self.dim}) with N > 0, got {tuple(z.shape)}.")
        (z,) = wide(z)
        if not self.shuffle:
            return self._whiten(z)
        order = torch.randperm(self.dim, generator=self._generator, device=z.device)
        return self._whiten(z[:, order])[:, order.argsort()]

    def _whiten(self, z: Tensor) -> Tensor:
        count = len(z)
        groups = self.groups or _enough_groups(self.dim, count)
        x = (z - z.mean(0)).view(count, groups, -1).transpose(0, 1)  # (G, N, D/G)
        with torch.autocast(z.device.type, enabled=False):
            covariance = x.mT @ x / count
            if self.method == "eigh":
                x = x @ _InverseRoot.apply(covariance, self.eps)  # type: ignore[no-untyped-call]
            elif self.method == "cholesky":
                x = torch.linalg.solve_triangular(_cholesky(covariance, self.eps), x.mT, upper=False).mT
            else:
                x = x @ newton_schulz(covariance, self.eps, self.iterations)
        return x.transpose(0, 1).reshape(count, self.dim)


def newton_schulz(covariance: Tensor, eps: float, iterations: int) -> Tensor:
    """Return about (covariance + eps I)^(-1/2), `(..., d, d)`, by Newton-Schulz iterations on the trace-normalised."""
    eye = torch.eye(covariance.shape[-1], dtype=covariance.dtype, device=covariance.device)
    shifted = covariance + eps * eye
    trace = shifted.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
    forth, back = shifted / trace, eye  # go to the root and to its inverse; alone, rounding would blow the inverse up
    for _ in range(iterations):
        step = 1.5 * eye - 0.5 * back @ forth
        forth, back = forth @ step, step @ back
    return back / trace.sqrt()


def _cholesky(covariance: Tensor, eps: float) -> Tensor:
    eye = torch.eye(covariance.shape[-1], dtype=covariance.dtype, device=covariance.device)
    trace = covariance.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None].detach()
    # beyond rounding, so that a covariance without full rank has a factor in float32 too
    shifted = covariance + (eps + 8.0 * torch.finfo(covariance.dtype).eps * trace) * eye
    factor: Tensor = torch.linalg.cholesky(shifted)
    return factor


def _enough_groups(dim: int, count: int) -> int:
    least = min(math.ceil(2 * dim / count), dim)
    return next(groups for groups in range(least, dim + 1) if dim % groups == 0)


class _InverseRoot(torch.autograd.Function):
    """U diag(max(l, eps)^(-1/2)) U^T of symmetric matrices `(..., d, d)`.

    Its gradient is U (D o U^T G U) U^T, D the divided differences of l -> max(l, eps)^(-1/2): finite, where the
    gradient through the eigenvectors divides by differences of eigenvalues.
    """

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, eps: float) -> Tensor:
        values, vectors = torch.linalg.eigh(matrix)
        ctx.save_for_backward(values, vectors)
        ctx.eps = eps
        root: Tensor = (vectors * values.clamp_min(eps).rsqrt().unsqueeze(-2)) @ vectors.mT
        return root

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        values, vectors = ctx.saved_tensors
        above = values > ctx.eps
        root = values.clamp_min(ctx.eps).sqrt()
        low, high = root.unsqueeze(-1), root.unsqueeze(-2)
        # d max(l, eps) / d l: 1 above the floor, 0 below, a slope in between for one of each
        step = values.unsqueeze(-1) - values.unsqueeze(-2)
        mixed = above.unsqueeze(-1) ^ above.unsqueeze(-2)
        slope = torch.where(mixed, (low.square() - high.square()) / step.where(mixed, 1.0), 1.0 * above.unsqueeze(-1))
        gradient = 0.5 * (gradients[0] + gradients[0].mT)
        inner = vectors.mT @ gradient @ vectors
        return vectors @ (-slope * inner / (low * high * (low + high))) @ vectors.mT, None
