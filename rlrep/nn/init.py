"""Weight initialisation of the cited agents."""

import torch
from torch import Tensor, nn


def delta_orthogonal_(weight: Tensor, gain: float) -> None:
    """Fill a square-kernel convolution weight `(out, in, k, k)` in place: orthogonal at the centre tap, zero elsewhere.

    Xiao et al. 2018, arXiv 1806.05393; used by SAC-AE and CURL. Raises ValueError on an even or non-square kernel.
    """
    _, _, height, width = weight.shape
    if height != width or height % 2 == 0:
        raise ValueError(f"delta-orthogonal initialisation needs an odd square kernel, got {tuple(weight.shape)}")
    with torch.no_grad():
        weight.zero_()
        nn.init.orthogonal_(weight[:, :, height // 2, width // 2], gain)


def init_orthogonal(module: nn.Module) -> None:
    """Initialise one layer as SAC-AE and CURL do: orthogonal linear, delta-orthogonal convolution, zero bias.

    For `nn.Module.apply`; layers of other kinds are left as they are.
    """
    if isinstance(module, nn.Linear):
        nn.init.orthogonal_(module.weight)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d):
        delta_orthogonal_(module.weight, nn.init.calculate_gain("relu"))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, EnsembleLinear):
        for member in module.weight:
            # The member is stored (in, out): its transpose is what nn.Linear would hold.
            nn.init.orthogonal_(member.detach().T)
        nn.init.zeros_(module.bias)


@torch.no_grad()
def init_xavier(module: nn.Module) -> None:
    """Initialise one layer as MR.Q does: Xavier's uniform weights (Glorot & Bengio 2010) with ReLU's gain, zero bias.

    For `nn.Module.apply`; layers of other kinds are left as they are.
    """
    gain = nn.init.calculate_gain("relu")
    if isinstance(module, (nn.Linear, nn.Conv2d)):
        nn.init.xavier_uniform_(module.weight, gain)
    elif isinstance(module, EnsembleLinear):
        for member in module.weight:
            nn.init.xavier_uniform_(member, gain)
    if isinstance(module, (nn.Linear, nn.Conv2d, EnsembleLinear)) and module.bias is not None:
        nn.init.zeros_(module.bias)


class EnsembleLinear(nn.Module):
    """`count` independent linear layers as one batched product. Input `(B, in)` or `(count, B, in)`, output `(count,
    B, out)`."""

    def __init__(self, count: int, in_dim: int, out_dim: int) -> None:
        super().__init__()
        bound = in_dim**-0.5  # nn.Linear's own default
        self.weight = nn.Parameter(torch.empty(count, in_dim, out_dim).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(count, 1, out_dim).uniform_(-bound, bound))

    def forward(self, x: Tensor, *, frozen: bool = False) -> Tensor:
        """Apply every member. `frozen` lets gradient through to `x` but computes none for the weights."""
        weight, bias = (self.weight.detach(), self.bias.detach()) if frozen else (self.weight, self.bias)
        # Not baddbmm: it copies the bias into its output first, where a compiler adds it while it applies the ReLU.
        products = torch.bmm(x.expand(weight.shape[0], *x.shape[-2:]), weight)
        return products + bias.type_as(products)
