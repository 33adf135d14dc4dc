"""A predictor that is set from the statistics of its input, not trained."""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from .pairs import wide


class DirectPredictor(nn.Module):
    """Linear predictor with the eigenvectors of the correlation of its input (DirectPred, Tian et al. 2021).

    F = rho F + (1 - rho) E[z z^T]; the first batch sets it. With the eigenvalues of F over the largest, l:
    W = U diag(max(l^power + eps, 1e-4)) U^T, the authors' scale-free form.

    rho: weight of the old value, in [0, 1). eps: added to the spectrum; negative values cut off its small end.
    every: `refresh` sets W at each such call; with more than 1, W is trained in between, else it has no gradient.
    power: of the spectrum. 1/2 is DirectPred; 1 is DirectCopy (Wang et al. 2021), whose eps is 0.25 or so; it needs no
        eigenvectors.
    W starts as the identity. Raises ValueError on settings out of range.
    """

    correlation: Tensor
    observed: Tensor
    refreshed: Tensor

    def __init__(
        self,
        dim: int,
        *,
        rho: float = 0.3,
        eps: float = 0.1,
        every: int = 1,
        power: float = 0.5,
    ) -> None:
        super().__init__()
        if dim < 1 or every < 1 or not 0.0 <= rho < 1.0 or not power > 0.0:
            got = f"dim {dim}, every {every}, rho {rho}, power {power}"
            raise ValueError(f"dim and every must be at least 1, rho in [0, 1) and power positive, got {got}.")
        self.rho, self.eps, self.every, self.power = rho, eps, every, power
        self.weight = nn.Parameter(torch.eye(dim), requires_grad=every > 1)
        self.register_buffer("correlation", torch.zeros(dim, dim))
        self.register_buffer("observed", torch.zeros((), dtype=torch.int64))
        self.register_buffer("refreshed", torch.zeros((), dtype=torch.int64))

    def forward(self, z: Tensor) -> Tensor:
        """Return z W^T, `(..., dim)`."""
        return F.linear(z, self.weight)

    @torch.no_grad()
    def observe(self, z: Tensor) -> None:
        """Take the rows of z `(N, dim)` into F as they are: not centred, not normalised; pass both views as one batch.

        Over all processes of the process group, if there is one. Raises ValueError on another shape.
        """
        if z.ndim != 2 or z.shape[1] != len(self.correlation) or len(z) == 0:
            raise ValueError(f"Expected z (N, {len(self.correlation)}) with N > 0, got {tuple(z.shape)}.")
        z = z.to(self.correlation.dtype) / len(z) ** 0.5
        with torch.autocast(z.device.type, enabled=False):
            batch = z.T @ z
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(batch)
            batch /= dist.get_world_size()
        rate = torch.full_like(batch[0, 0], 1.0 - self.rho).masked_fill(self.observed == 0, 1.0)
        self.correlation.lerp_(batch, rate)
        self.observed += 1

    @torch.no_grad()
    def refresh(self) -> None:
        """Set W from F, once in `every` calls; call it after the optimiser's step."""
        self.refreshed += 1
        if self.every == 1 or int(self.refreshed) % self.every == 0:
            self.weight.copy_(self._target())

    def _target(self) -> Tensor:
        (correlation,) = wide(self.correlation)
        tiny = torch.finfo(correlation.dtype).tiny
        if self.power == 1.0 and self.eps >= 1e-4:
            largest = torch.linalg.eigvalsh(correlation)[-1].clamp_min(tiny)
            copied: Tensor = correlation / largest + self.eps * torch.eye(len(correlation)).to(correlation)
            return copied
        values, vectors = torch.linalg.eigh(correlation)
        share = values.clamp_min(0.0) / values[-1].clamp_min(tiny)
        weight: Tensor = (vectors * (share.pow(self.power) + self.eps).clamp_min(1e-4)) @ vectors.mT
        return weight
