"""Plain multilayer perceptrons."""

from collections.abc import Sequence
from itertools import pairwise

from torch import nn


def mlp(in_dim: int, hidden: Sequence[int], out_dim: int) -> nn.Sequential:
    """Build linear layers with ReLU between them, `(..., in_dim)` to `(..., out_dim)`."""
    layers: list[nn.Module] = []
    for a, b in pairwise([in_dim, *hidden, out_dim]):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
