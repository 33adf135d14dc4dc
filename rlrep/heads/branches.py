"""What stands between the agent's encoders and an objective: a projector, and its copy on the other view's side."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from rlrep.contrast import MomentumTarget, Projector
from rlrep.settings import ranges
from rlrep.views.base import View

from .base import Encoders, HeadConfig

Target = Literal["ema", "online"]
"""Who encodes the other side: the agent's EMA encoder and an EMA projector, without gradient, or the online ones."""


@dataclass(frozen=True)
class EmbeddingConfig(HeadConfig):
    """What the settings of heads have in common that embed both sides of their pairs.

    target: who encodes the other side. tau: EMA rate of the projector's copy, per update.
    hidden_dim, embedding_dim: of the projector and, where there is one, the predictor.
    view: augmentation of the other side (None = the agent's own).
    """

    target: Target = "ema"
    tau: float = 0.05
    hidden_dim: int = 256
    embedding_dim: int = 128
    view: View | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        ranges.part(self, ("tau",))
        ranges.at_least(self, 1, ("hidden_dim", "embedding_dim"))


class Branches(nn.Module):
    """A joint embedding on the agent's two encoders: a projector, and its copy on the other side."""

    def __init__(self, config: EmbeddingConfig, project: nn.Module) -> None:
        super().__init__()
        self.project = project
        self.follow = MomentumTarget(project, config.tau) if config.target == "ema" else None

    def other(self, obs: Tensor, encoders: Encoders) -> Tensor:
        """Embed observations of the other side. Returns `(B, E)`."""
        if self.follow is None:
            embedded: Tensor = self.project(encoders.online(obs))
            return embedded
        with torch.no_grad():
            followed: Tensor = self.follow(encoders.target(obs))
            return followed

    def update(self) -> None:
        """Move the projector's copy; the agent moves its own EMA encoder."""
        if self.follow is not None:
            self.follow.update()


class NormedProjector(nn.Module):
    """What CURL's Rainbow puts between its wide, unnormalised features and the bilinear form (Laskin et al. 2020, arXiv
    2004.04136, its code): two linear layers with LayerNorm. Both sides of the form carry the square root of the factor
    0.1 of its logits."""

    def __init__(self, in_dim: int, hidden_dim: int, out_dim: int) -> None:
        super().__init__()
        norms = [nn.LayerNorm(width, elementwise_affine=False) for width in (hidden_dim, out_dim)]
        first, second = nn.Linear(in_dim, hidden_dim), nn.Linear(hidden_dim, out_dim)
        self.layers = nn.Sequential(first, norms[0], nn.ReLU(), second, norms[1])

    def forward(self, latent: Tensor) -> Tensor:
        """Map `(B, in_dim)` to `(B, out_dim)`, of length sqrt(0.1 * out_dim)."""
        embedded: Tensor = self.layers(latent) * 0.1**0.5
        return embedded


def make_projector(
    in_dim: int, hidden_dim: int, out_dim: int, *, layers: int = 2, batch_norm: bool = False
) -> Projector:
    """Build an MLP whose batch norm, if any, keeps no running statistics.

    Nothing ever reads them, and computing a loss once more must leave no trace.
    """
    projector = Projector(in_dim, hidden_dim, out_dim, layers=layers, norm="affine" if batch_norm else "none")
    for layer in projector.modules():
        if isinstance(layer, nn.BatchNorm1d):
            layer.track_running_stats = False
            layer.running_mean = layer.running_var = layer.num_batches_tracked = None
    return projector
