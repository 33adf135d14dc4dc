"""An autoencoder whose codes an adversary cannot tell from a prior's: the generative-contrastive arm."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from rlrep.contrast import Projector
from rlrep.contrast.parts import Metrics
from rlrep.nn import Encoder
from rlrep.settings import ranges

from .autoencoder import Autoencoder, AutoencoderMethod
from .base import Method
from .batch import DataShape, ImageBatch


@dataclass(frozen=True)
class AdversarialAutoencoder(Autoencoder):
    """`Autoencoder` on a linear map of the latent, the code, and a discriminator of codes from standard normal draws.

    adversary: weight of the discriminator's loss, which it lowers and the encoder raises. hidden_dim: of its
    two layers.
    """

    adversary: float = 0.1
    hidden_dim: int = 256

    def __post_init__(self) -> None:
        ranges.at_least(self, 0, ["adversary"])

    def make(self, encoder: Encoder, about: DataShape) -> Method:
        """Build the method."""
        return AdversarialAutoencoderMethod(self, encoder, about.image)


class AdversarialAutoencoderMethod(AutoencoderMethod):
    """One loss and one optimiser for all: the gradient is turned round between the code and the discriminator."""

    def __init__(self, config: AdversarialAutoencoder, encoder: Encoder, image_shape: tuple[int, ...]) -> None:
        width = encoder.latent_dim
        super().__init__(config, encoder, image_shape, nn.Linear(width, width))
        self.settings = config
        self.discriminator = Projector(width, config.hidden_dim, 1, layers=3, norm="none")

    def loss(self, batch: ImageBatch) -> tuple[Tensor, Metrics]:
        """Return the reconstruction with the penalty, and the discriminator's cross entropy."""
        loss, metrics, code = self.reconstruct(batch)
        logits = self.discriminator(torch.cat([torch.randn_like(code), turned(code)])).squeeze(1)
        drawn = (torch.arange(len(logits), device=logits.device) < len(code)).to(logits.dtype)
        against = binary_cross_entropy_with_logits(logits, drawn)
        told = ((logits > 0) == (drawn > 0)).float().mean()
        metrics |= {"adversarial": against.detach(), "told_apart": told, "code_std": code.detach().std(0).mean()}
        return loss + self.settings.adversary * against, metrics


def turned(code: Tensor) -> Tensor:
    """Return the same, its gradient times -1 (gradient reversal, Ganin & Lempitsky 2015, arXiv 1409.7495)."""
    return 2.0 * code.detach() - code
