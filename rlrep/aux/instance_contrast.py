"""CURL: two views of one observation attract, the batch's other observations repel (Laskin et al. 2020, arXiv
2004.04136)."""

from dataclasses import dataclass
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor, nn

from rlrep.contrast import bilinear_info_nce
from rlrep.replay.batch import Batch, Needs
from rlrep.views.base import View

from .base import Encoded, Encoders, Metrics
from .health import in_batch_health


@dataclass(frozen=True)
class InstanceContrast:
    """Settings of `aux=curl`. temperature divides the logits; view is the key's augmentation (None = the agent's
    own)."""

    weight: float = 1.0
    temperature: float = 1.0
    view: View | None = None

    def make(self, name: str, latent_dim: int, action_space: spaces.Space[Any]) -> "InstanceContrastTask":
        """Build the head; actions play no part in it."""
        return InstanceContrastTask(self, name, latent_dim)


class InstanceContrastTask(nn.Module):
    """Bilinear InfoNCE between the online latent and the momentum encoder's latent of a second view.

    The key encoder is the agent's EMA target, as in CURL, so the head owns nothing but the bilinear form.
    """

    def __init__(self, config: InstanceContrast, name: str, latent_dim: int) -> None:
        super().__init__()
        self.config = config
        self.name = name
        self.needs = Needs(second_view=True, view=config.view)
        self.bilinear = nn.Parameter(torch.rand(latent_dim, latent_dim))  # U[0, 1), as in CURL's code

    def loss(self, batch: Batch, encoded: Encoded, encoders: Encoders) -> tuple[Tensor, Metrics]:
        """Cross entropy of `query @ W @ key.T / temperature` with the diagonal (CURL, eq. 4)."""
        view = batch.extra[self.name].second_view
        assert view is not None
        key = encoders.target(view)
        loss = bilinear_info_nce(encoded.latent, key, self.bilinear, temperature=self.config.temperature)
        return loss, in_batch_health(encoded.latent, key, self.bilinear)

    def after_update(self) -> None:
        """Nothing: the agent moves its own EMA encoder."""
