"""Reconstruction, the generative arm: what the latent keeps is what the pixels need."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from rlrep.contrast.parts import Metrics, spread
from rlrep.nn import Encoder
from rlrep.views import View

from .base import Method
from .batch import DataShape, ImageBatch, Needs


@dataclass(frozen=True)
class Autoencoder:
    """one view x decoder x mean squared error of the pixels in [0, 1] + latent_penalty x mean of ||latent||^2 / 2.

    channels: of the decoder's layers. corrupt: what the encoder sees is the view after this, which is to be undone;
    None = the view itself.
    """

    views: tuple[View, ...]
    channels: int = 32
    latent_penalty: float = 1e-6
    corrupt: View | None = None

    def make(self, encoder: Encoder, about: DataShape) -> Method:
        """Build the method."""
        return AutoencoderMethod(self, encoder, about.image)


class AutoencoderMethod(Method):
    """Encode a view, decode it, compare the pixels.

    code: maps the latent to what is decoded, of the same width; None = it is the latent.
    """

    def __init__(
        self, config: Autoencoder, encoder: Encoder, image_shape: tuple[int, ...], code: nn.Module | None = None
    ) -> None:
        if len(config.views) != 1:
            raise ValueError(f"method.views needs one view to reconstruct, not {len(config.views)}")
        super().__init__(encoder, nn.Identity() if code is None else code)
        self.config, self.needs = config, Needs(views=1, parts=0)
        self.decoder = Decoder(encoder.latent_dim, image_shape, config.channels)

    def loss(self, batch: ImageBatch) -> tuple[Tensor, Metrics]:
        """Return the reconstruction error with the penalty."""
        loss, metrics, _ = self.reconstruct(batch)
        return loss, metrics

    def reconstruct(self, batch: ImageBatch) -> tuple[Tensor, Metrics, Tensor]:
        """Return the loss, the metrics, and the codes `(N, D)`."""
        (view,) = batch.views
        latent = self.embed(view if self.config.corrupt is None else self.config.corrupt(view, draws(view.device)))
        error = F.mse_loss(self.decoder(latent), view.float() / 255.0)
        penalty = 0.5 * latent.square().sum(1).mean()
        metrics = {"reconstruction": error.detach(), "spread": spread(latent.detach())}
        return error + self.config.latent_penalty * penalty, metrics, latent


def draws(device: torch.device) -> Generator:
    """Return a generator there, seeded from torch's global one, whose state a run saves."""
    return Generator(device).manual_seed(int(torch.randint(2**62, ())))


class Decoder(nn.Module):
    """Linear, three times (double by nearest neighbour, 3x3 convolution, ReLU), then a 3x3 convolution to pixels."""

    def __init__(self, latent_dim: int, image_shape: tuple[int, ...], channels: int) -> None:
        super().__init__()
        colours, self.height, self.width = image_shape
        self.grid = (channels, -(-self.height // 8), -(-self.width // 8))
        self.expand = nn.Linear(latent_dim, self.grid[0] * self.grid[1] * self.grid[2])
        self.layers = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(3))
        self.pixels = nn.Conv2d(channels, colours, 3, padding=1)

    def forward(self, latent: Tensor) -> Tensor:
        """Map latents `(N, D)` to images `(N, C, H, W)` in about [0, 1]."""
        x = F.relu(self.expand(latent)).unflatten(1, self.grid)
        for layer in self.layers:
            x = F.relu(layer(F.interpolate(x, scale_factor=2.0)))
        images: Tensor = self.pixels(x)[:, :, : self.height, : self.width]
        return images
