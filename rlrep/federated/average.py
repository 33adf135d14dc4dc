"""The server's model: the mean of the parties', weighted by how many images each has (FedAvg)."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

Weights = Mapping[str, Tensor]
"""Parameters and buffers by name, as in a `state_dict`."""


def weighted_mean(states: Sequence[Weights], weights: Sequence[float]) -> dict[str, Tensor]:
    """Return the weighted mean of state dicts of one network (FedAvg, McMahan et al. 2017, arXiv 1602.05629).

    Batch norm's statistics are averaged like parameters; whole numbers, which count, are the largest of all.
    Sums are in float64, so that the mean of equal states is that state bit for bit.
    weights: one per state, not negative, not all 0. Raises ValueError otherwise, and on states of different names.
    """
    if len(states) != len(weights) or not states or min(weights) < 0 or not sum(weights) > 0:
        raise ValueError(f"a mean of {len(states)} states needs as many weights, one of them above 0, got {weights}")
    if any(state.keys() != states[0].keys() for state in states):
        raise ValueError("a mean needs states of one network: their names differ")
    shares = [weight / sum(weights) for weight in weights]
    return {name: _mean([state[name] for state in states], shares) for name in states[0]}


def _mean(tensors: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    together = torch.stack([tensor.detach() for tensor in tensors])
    if not together.is_floating_point():
        return together.amax(0)
    share = torch.tensor(shares, dtype=torch.float64, device=together.device)
    mean: Tensor = torch.tensordot(share, together.double(), 1)
    return mean.to(together.dtype)
