"""Instance contrast: views of one observation attract, other observations repel (CURL, Laskin et al. 2020, arXiv
2004.04136)."""

from dataclasses import dataclass
from typing import Any

from gymnasium import spaces
from torch import Tensor, nn

from rlrep.replay.batch import Batch, Needs
from rlrep.views.base import View

from .base import Encoded, Encoders, Metrics
from .branches import Branches
from .negatives import Origin
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
        if self.views < 2 or (self.views > 2 and self.objective != "cacr"):
            raise ValueError(f"views must be 2, or more with objective=cacr, not {self.views} with {self.objective}")

    def make(self, name: str, latent_dim: int, action_space: spaces.Space[Any]) -> "InstanceContrastHead":
        """Build the head; actions play no part in it."""
        return InstanceContrastHead(self, name, latent_dim)


class InstanceContrastHead(nn.Module):
    """Contrast of the online latent with the momentum encoder's latent of a second view.

    The key encoder is the agent's EMA target, as in CURL, so with `objective=bilinear` the head owns nothing but the
    bilinear form.
    """

    def __init__(self, config: InstanceContrast, name: str, latent_dim: int) -> None:
        super().__init__()
        self.config, self.name = config, name
        self.needs = Needs(
            second_view=True,
            views=config.views - 1,
            view=config.view,
            bins=config.needed_bins,
            time=config.needs_time,
            noise=config.noise,
        )
        project, dim = config.project(latent_dim)
        self.branches = Branches(project, target=config.target, tau=config.tau)
        self.contrast = Contrast(config, dim)

    def loss(self, batch: Batch, encoded: Encoded, encoders: Encoders) -> tuple[Tensor, Metrics]:
        """Return the objective between the batch's latents and the keys of their other views."""
        extra = batch.extra[self.name]
        assert extra.second_view is not None
        query = self.branches.project(encoded.latent)
        keys = self.branches.other(extra.second_view, encoders).unflatten(0, (-1, len(query)))
        loss, health = self.contrast(query, keys, origin=Origin.of(extra), noise=extra.noise)
        return loss, health

    def after_update(self) -> None:
        """Move the keys' projector and the queue; the agent moves its own EMA encoder."""
        self.branches.update()
        self.contrast.after_update()
