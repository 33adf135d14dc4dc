"""Deep ReLU networks recover the latents of a hierarchical tree without seeing them (Tian, Yu, Chen, Ganguli 2020)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from rlrep.contrast import info_nce
from rlrep.settings.ranges import at_least, positive, share
from rlrep.ssl.optimiser import OptimiserConfig

from .study import About, Claim, Line, Measured, Panel, Study
from .training import moments, train
from .tree import LatentTree, TreeNetwork, best_correlation, covariance_operator

_ROOT, _LEVELS = "the root's latent", "every level"
INFO_NCE = "info_nce"
Loss = Callable[[Tensor, Tensor, Tensor, float], Tensor]
"""Of embeddings `(N, D)` of a sample, of one with its root, of one with a root of its own; and a temperature."""


def _gap(f: Tensor, same: Tensor, other: Tensor) -> Tensor:
    """Return the difference of the mean squared distances of a pair and of one that is none (the authors' code)."""
    return F.mse_loss(f, same) - F.mse_loss(f, other)


LOSSES: dict[str, Loss] = {
    INFO_NCE: lambda f, same, other, t: info_nce(
        f, same, temperature=2.0 * t, negatives=other[:, None], similarity="neg_sq_dist"
    ),
    "difference": lambda f, same, other, t: _gap(f, same, other),
    "logistic": lambda f, same, other, t: F.softplus(_gap(f, same, other) / t),
    "no logarithm": lambda f, same, other, t: -torch.sigmoid(-_gap(f, same, other) / t),
}


@dataclass(frozen=True)
class HLTM(Study):
    """Settings.

    depth: of the binary tree, which has 2^depth leaves. low: least size of an edge's polarity.
    hidden: units of a node. temperature: of the losses that have one.
    steps, batch_size, lr: of SGD without momentum, fresh samples every step. samples: that latents are read from.
    """

    depth: int = 5
    low: float = 0.8
    hidden: int = 10
    temperature: float = 0.1
    steps: int = 1000
    batch_size: int = 128
    lr: float = 0.1
    samples: int = 10_000

    about = About(
        title="Deep networks find the latents of a tree",
        source="Tian, Yu, Chen, Ganguli 2020, Understanding SSL with dual deep networks, arXiv 2010.00578",
        claim=(
            "Data are the leaves of a hierarchical latent tree; the views of a pair share its root alone. Contrastive "
            "learning recovers the latents of every level in hidden units that never see them, near what belief "
            "propagation can know, whichever of the contrastive losses is used; weights grow by a covariance operator, "
            "which is positive semi-definite and is amplified by training (theorems 3 to 5)."
        ),
        setup=(
            "A binary tree of depth 5, polarities of 0.8 to 1, a ReLU network of the tree's shape with ten units a "
            "node, SGD on four losses: `info_nce` with one negative, and the authors' batch-level losses (difference, "
            "logistic, and their code's, which lacks the logarithm). A latent's recovery is the largest |correlation| "
            "of its units with it, averaged over a level; the ceiling is that of the exact posterior. The authors "
            "train 25 times longer."
        ),
    )
    claims = (
        Claim("root recovered by info_nce", f"{INFO_NCE}/root", low=0.87),
        Claim("root: rise over the untrained network by info_nce", f"{INFO_NCE}/rise", low=0.12),
        Claim("root: distance of the worst of four losses from the best", "spread of the losses", high=0.03),
        Claim("largest excess of a level over its ceiling, all losses", "excess over the ceiling", high=0.01),
        Claim("largest gap of a level to its ceiling by info_nce", f"{INFO_NCE}/gap", high=0.04),
        Claim("covariance operator: least over largest eigenvalue", f"{INFO_NCE}/least eigenvalue", low=-1e-5),
        Claim("covariance operator: norm over the start", f"{INFO_NCE}/amplification", low=1.0),
    )
    panels = (
        Panel(_ROOT, "steps", "|correlation| with the root"),
        Panel(_LEVELS, "level (0: the root)", "mean best |correlation|"),
    )

    def __post_init__(self) -> None:
        at_least(self, 3, ("depth",))
        at_least(self, 2, ("batch_size", "samples"))
        at_least(self, 1, ("hidden", "steps"))
        positive(self, ("temperature", "lr"))
        share(self, ("low",))

    def measure(self) -> Measured:
        """Train a network by each loss on one tree, from the same weights."""
        tree = LatentTree.draw(self.depth, self.low)
        latents = tree.sample(_roots(self.samples))
        inner = range(self.depth)  # levels that have latents
        beliefs = tree.beliefs(latents[-1])
        ceiling = [best_correlation(beliefs[level][..., None], latents[level]) for level in inner]
        seed = int(torch.randint(2**31, ()))
        numbers: dict[str, float] = {"ceiling of the root": ceiling[0]}
        roots, levels = dict[str, Line](), {"ceiling": (list(inner), ceiling)}
        for name in LOSSES:
            torch.manual_seed(seed)
            steps, history, operators = self._train(tree, latents, LOSSES[name])
            roots[name], levels[name] = (steps, [at[0] for at in history]), (list(inner), history[-1])
            levels["untrained"] = list(inner), history[0]
            values = torch.linalg.eigvalsh(operators[-1])
            numbers |= {
                f"{name}/root": history[-1][0],
                f"{name}/rise": history[-1][0] - history[0][0],
                f"{name}/excess": max(at - best for at, best in zip(history[-1], ceiling, strict=True)),
                f"{name}/gap": max(best - at for at, best in zip(history[-1], ceiling, strict=True)),
                f"{name}/least eigenvalue": float(values[0] / values[-1]),
                f"{name}/amplification": float(operators[-1].norm() / operators[0].norm()),
            }
        reached = [numbers[f"{name}/root"] for name in LOSSES]
        numbers["spread of the losses"] = max(reached) - min(reached)
        numbers["excess over the ceiling"] = max(numbers[f"{name}/excess"] for name in LOSSES)
        return Measured(numbers, {_ROOT: roots, _LEVELS: levels})

    def _train(
        self, tree: LatentTree, latents: list[Tensor], loss_of: Loss
    ) -> tuple[list[int], list[list[float]], list[Tensor]]:
        """Return steps, every level's recovery after them, and the covariance operator after the first and the last."""
        network = TreeNetwork(self.depth, self.hidden)

        def loss() -> Tensor:
            root = _roots(self.batch_size)
            leaves = [tree.sample(each)[-1] for each in (root, root, _roots(self.batch_size))]
            f, same, other = network(torch.cat(leaves)).chunk(3)
            return loss_of(f, same, other, self.temperature)

        @torch.no_grad()
        def look() -> tuple[list[float], Tensor]:
            units = network.activations(latents[-1])
            found = [best_correlation(unit, latent) for unit, latent in zip(units, latents, strict=False)]
            return found, covariance_operator(network, latents[-1], latents[0][:, 0])

        steps, looks = [0, *sorted(moments(self.steps, 10))], [look()]
        sgd = OptimiserConfig("sgd", self.lr, lr_scale="none", momentum=0.0, weight_decay=0.0, schedule="constant")
        for step in train(list(network.parameters()), loss, sgd, self.steps):
            if step in steps:
                looks.append(look())
        return steps, [levels for levels, _ in looks], [looks[0][1], looks[-1][1]]


def _roots(count: int) -> Tensor:
    """Return values of the root `(count, 1)`, -1 or 1."""
    return torch.randint(2, (count, 1)) * 2.0 - 1.0
