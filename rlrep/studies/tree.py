"""The hierarchical latent tree model and the network shaped like it (Tian, Yu, Chen, Ganguli 2020)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class LatentTree:
    """A binary tree of latents in {-1, 1}. polarity: by level from the root down, `(2^k,)` for the k-th level's nodes.

    A child has its parent's value with probability (1 + polarity)/2, else the opposite; what is seen are the leaves.
    """

    polarity: tuple[Tensor, ...]

    @classmethod
    def draw(cls, depth: int, low: float) -> "LatentTree":
        """Return a tree with polarities of random sign and sizes from `low` to 1, of torch's global generator."""
        sizes = [2**level for level in range(1, depth + 1)]
        signs = (torch.randint(2, (size,)) * 2.0 - 1.0 for size in sizes)
        return cls(tuple(sign * (low + (1.0 - low) * torch.rand(len(sign))) for sign in signs))

    def sample(self, root: Tensor) -> list[Tensor]:
        """Return the values of all levels, root `(N, 1)` first and leaves `(N, 2^L)` last, given the root's."""
        levels = [root]
        for polarity in self.polarity:
            parents = levels[-1].repeat_interleave(2, dim=1)
            kept = torch.rand(len(root), len(polarity)) < (1.0 + polarity) / 2.0
            levels.append(torch.where(kept, parents, -parents))
        return levels

    def beliefs(self, leaves: Tensor) -> list[Tensor]:
        """Return E[latent | leaves below it] of every level, root first: belief propagation, the best there is."""
        levels = [leaves]
        for polarity in reversed(self.polarity):
            told = torch.atanh((polarity * levels[0]).clamp(-1 + 1e-6, 1 - 1e-6))
            levels.insert(0, torch.tanh(told.unflatten(1, (-1, 2)).sum(2)))
        return levels


class TreeNetwork(nn.Module):
    """A ReLU network of the tree's shape: every inner node reads its two children by `hidden` units of its own."""

    def __init__(self, depth: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            NodeLinear(2 ** (depth - level), 2 * (1 if level == 1 else hidden), hidden) for level in range(1, depth + 1)
        )

    def activations(self, leaves: Tensor) -> list[Tensor]:
        """Return what every level's units are before their ReLU, `(N, nodes, hidden)`, root first."""
        levels, below = list[Tensor](), (leaves + 1.0)[..., None] / 2.0  # symbols 0 and 1, as the authors' code has
        for layer in self.layers:
            levels.insert(0, layer(F.relu(below).unflatten(1, (-1, 2)).flatten(2)))
            below = levels[0]
        return levels

    def forward(self, leaves: Tensor) -> Tensor:
        """Map leaves `(N, 2^L)` to the root's units `(N, hidden)` at unit length."""
        root = self.activations(leaves)[0][:, 0]
        embedding: Tensor = root / (root.norm(dim=1, keepdim=True) + 1e-4)
        return embedding


class NodeLinear(nn.Module):
    """A linear map for each of a level's nodes, `(N, nodes, in)` to `(N, nodes, out)`, initialised as `nn.Linear`."""

    def __init__(self, nodes: int, in_dim: int, out_dim: int) -> None:
        super().__init__()
        bound = in_dim**-0.5
        self.weight = nn.Parameter((torch.rand(nodes, in_dim, out_dim) * 2.0 - 1.0) * bound)
        self.bias = nn.Parameter((torch.rand(nodes, 1, out_dim) * 2.0 - 1.0) * bound)

    def forward(self, x: Tensor) -> Tensor:
        """Apply every node's map to its own part of x."""
        return torch.baddbmm(self.bias, x.transpose(0, 1), self.weight).transpose(0, 1)


def best_correlation(units: Tensor, latents: Tensor) -> float:
    """Return the mean over nodes of the largest |correlation| of a node's units `(N, nodes, hidden)` with its latent.

    latents: `(N, nodes)`. A unit that does not vary correlates with nothing.
    """
    u, z = units - units.mean(0), (latents - latents.mean(0))[..., None]
    scale = u.norm(dim=0) * z.norm(dim=0)
    correlation = ((u * z).sum(0) / scale.clamp_min(1e-12)).abs().where(u.std(0) > 1e-6, 0.0)
    return float(correlation.max(1).values.mean())


def covariance_operator(network: TreeNetwork, leaves: Tensor, root: Tensor) -> Tensor:
    """Return the covariance over the root's two values of E[input (x) Jacobian | root] at the root's first child.

    A matrix `(in * hidden, in * hidden)`, which multiplies that node's weights in the flow of a contrastive loss
    (theorem 3). leaves: `(N, 2^L)`, L at least 3. root: `(N,)`.
    """
    levels = network.activations(leaves)
    inner = F.relu(levels[2][:, :2]).flatten(1)  # what the child reads
    gate = (levels[1][:, 0] > 0).float()
    top = network.layers[-1]
    assert isinstance(top, NodeLinear)
    first = top.weight[0, : gate.shape[1]]  # of the root, from this child
    kernel = torch.einsum("ni,nh,ho->niho", inner, gate, first).flatten(1, 2)
    means = torch.stack([kernel[root == value].mean(0) for value in (-1.0, 1.0)])
    share = torch.stack([(root == value).float().mean() for value in (-1.0, 1.0)])
    apart = means - (share[:, None, None] * means).sum(0)
    return torch.einsum("k,kac,kbc->ab", share, apart, apart)
