"""Batch norm over parts of a batch: on one device, the devices of MoCo's batch norm. Who uses it shuffles the keys."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class SplitBatchNorm(_BatchNorm):
    """Batch norm whose training statistics are those of `splits` parts of the batch; sample n is in part n mod splits.

    It stands in for BatchNorm1d, 2d and 3d: inputs `(N, C, ...)`, N a multiple of splits. The running statistics, which
    evaluation uses, are means over the parts. MoCo (He et al. 2020, section 3.3): a query and its key must not share a
    part's statistics, so the keys go through it in another order than the queries.

    Raises ValueError on a batch that does not split and on fewer than one part.
    """

    def __init__(
        self, num_features: int, splits: int = 8, *, eps: float = 1e-5, momentum: float = 0.1, affine: bool = True
    ) -> None:
        if splits < 1:
            raise ValueError(f"splits must be at least 1, not {splits}.")
        super().__init__(num_features, eps, momentum, affine)
        self.splits = splits

    @classmethod
    def convert(cls, module: nn.Module, splits: int) -> nn.Module:
        """Return the module with every batch norm in it replaced, parameters and statistics kept."""
        if isinstance(module, _BatchNorm) and not isinstance(module, cls):
            new = cls(module.num_features, splits, eps=module.eps, affine=module.affine)
            new.momentum = module.momentum if module.momentum is not None else new.momentum
            new.load_state_dict(module.state_dict(), assign=True)
            return new.train(module.training)
        for name, child in module.named_children():
            setattr(module, name, cls.convert(child, splits))
        return module

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x `(N, C, ...)`."""
        if x.ndim < 2 or x.shape[1] != self.num_features:
            raise ValueError(f"Expected (N, {self.num_features}, ...), got {tuple(x.shape)}.")
        if not self.training:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        if x.shape[0] % self.splits:
            raise ValueError(f"A batch of {tuple(x.shape)} does not split into {self.splits} equal parts.")
        return self._train(x)

    def _train(self, x: Tensor) -> Tensor:
        assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
        mean, var = self.running_mean.repeat(self.splits), self.running_var.repeat(self.splits)
        weight = None if self.weight is None else self.weight.repeat(self.splits)
        bias = None if self.bias is None else self.bias.repeat(self.splits)
        parts = x.reshape(-1, self.splits * self.num_features, *x.shape[2:])
        normal = F.batch_norm(parts, mean, var, weight, bias, True, self.momentum, self.eps)
        with torch.no_grad():
            self.running_mean.copy_(mean.view(self.splits, -1).mean(0))
            self.running_var.copy_(var.view(self.splits, -1).mean(0))
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
        return normal.view_as(x)
