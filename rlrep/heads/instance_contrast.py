"""Instance contrast: views of one observation attract, other observations repel (CURL, Laskin et al. 2020, arXiv
2004.04136)."""

from dataclasses import dataclass
from typing import Any

from gymnasium import spaces
from torch import Tensor, nn

from rlrep.contrast.parts import Metrics
from rlrep.replay import Batch, Needs, Pairs, SecondView
from rlrep.views.base import View

from .base import Encoded, Encoders
from .branches import Branches
from .objective import Contrast, ContrastConfig


@dataclass(frozen=True)
class InstanceContrast(ContrastConfig):
    """Settings of `aux=curl`, beside those of `ContrastConfig`.

    views: of one observation, all in all; more than two with `objective=cacr` only.
    view: augmentation of the keys (None = the agent's own).
    """

    views: int = 2
    view: View | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.views < 2 or (self.views > 2 and not self.chosen.several):
            raise ValueError(f"views must be 2, or more with objective=cacr, not {self.views} with {self.objective}")

    def make(self, name: str, latent_dim: int, action_space: spaces.Space[Any]) -> "InstanceContrastHead":
        """Build the head; actions play no part in it."""
        return InstanceContrastHead(self, latent_dim)


class InstanceContrastHead(nn.Module):
    """Contrast of the online latent with the momentum encoder's latent of a second view.

    The key encoder is the agent's EMA target, as in CURL, so with `objective=bilinear` the head owns nothing but the
    bilinear form.
    """

    def __init__(self, config: InstanceContrast, latent_dim: int) -> None:
        super().__init__()
        self.config = config
        project, dim = config.project(latent_dim)
        self.branches = Branches(project, target=config.target, tau=config.tau)
        self.contrast = Contrast(config, dim)
        self.views = SecondView(config.views - 1)
        self.needs = Needs((self.views, *self.contrast.requests), config.view)

    def loss(self, batch: Batch, pairs: Pairs, encoded: Encoded, encoders: Encoders) -> tuple[Tensor, Metrics]:
        """Return the objective between the batch's latents and the keys of their other views."""
        query = self.branches.project(encoded.latent)
        keys = self.branches.other(pairs[self.views], encoders).unflatten(0, (-1, len(query)))
        loss, health = self.contrast(query, keys, pairs)
        return loss, health

    def after_update(self) -> None:
        """Move the keys' projector and the queue; the agent moves its own EMA encoder."""
        self.branches.update()
        self.contrast.after_update()
