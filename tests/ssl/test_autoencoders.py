"""Autoencoders that undo a corruption, and one against an adversary: against the same written out."""

from dataclasses import replace

import pytest
import torch
from torch import Generator
from torch.nn.functional import mse_loss, softplus

from rlrep.ssl import AdversarialAutoencoder, Autoencoder, ImageBatch
from rlrep.ssl.adversarial_autoencoder import AdversarialAutoencoderMethod
from rlrep.ssl.autoencoder import AutoencoderMethod, draws
from rlrep.views import Mask, PixelNoise, View

from .ssl_rig import ABOUT, SAME, conv_encoder, gradients, images

CONFIG = Autoencoder(SAME[:1], channels=4, latent_penalty=0.0)
ADVERSE = AdversarialAutoencoder(SAME[:1], channels=4, latent_penalty=0.0, adversary=0.5, hidden_dim=8)


def made(config: Autoencoder) -> AutoencoderMethod:
    torch.manual_seed(0)
    method = config.make(conv_encoder(), ABOUT)
    assert isinstance(method, AutoencoderMethod)
    return method


@pytest.mark.parametrize("corrupt", [Mask(0.3, 4), PixelNoise(0.2)])
def test_what_is_corrupted_goes_in_and_the_clean_image_is_asked_for(corrupt: View) -> None:
    method, view = made(replace(CONFIG, corrupt=corrupt)), images(8)
    torch.manual_seed(1)
    seen = corrupt(view, draws(view.device))
    torch.manual_seed(1)
    loss, _ = method.loss(ImageBatch((view,)))
    assert not torch.equal(seen, view) and torch.equal(corrupt.fixed(view), view)
    torch.testing.assert_close(loss, mse_loss(method.decoder(method.embed(seen)), view / 255.0))
    plain, _ = made(CONFIG).loss(ImageBatch((view,)))
    torch.testing.assert_close(plain, mse_loss(method.decoder(method.embed(view)), view / 255.0))


@pytest.mark.parametrize(("share", "left_out"), [(0.5, 8), (0.01, 1), (0.99, 15)])
def test_a_mask_leaves_out_so_many_whole_cells_of_every_image(share: float, left_out: int) -> None:
    white = torch.full((50, 2, 12, 12), 255, dtype=torch.uint8)
    cells = Mask(share, 4)(white, Generator().manual_seed(0)).unflatten(3, (4, 3)).unflatten(2, (4, 3))
    flat = cells.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
    assert ((flat == 0).all(2) | (flat == 255).all(2)).all()
    assert ((flat == 0).all(2).sum(1) == left_out).all() and len(flat.unique(dim=0)) > 10


def test_noise_has_the_asked_for_size() -> None:
    grey = torch.full((20, 1, 30, 30), 128, dtype=torch.uint8)
    noisy = PixelNoise(0.1)(grey, Generator().manual_seed(0)).double()
    assert noisy.std().item() == pytest.approx(25.5, rel=0.03) and noisy.mean().item() == pytest.approx(128, abs=1)


def test_the_adversary_lowers_its_loss_and_the_encoder_raises_it() -> None:
    method, batch = made(ADVERSE), ImageBatch((images(8),))
    assert isinstance(method, AdversarialAutoencoderMethod)
    torch.manual_seed(2)
    loss, metrics = method.loss(batch)
    torch.manual_seed(2)
    code = method.embed(batch.views[0])
    drawn, found = method.discriminator(torch.cat([torch.randn_like(code), code])).squeeze(1).chunk(2)
    against = (softplus(-drawn).sum() + softplus(found).sum()) / 16
    error = mse_loss(method.decoder(code), batch.views[0] / 255.0)
    torch.testing.assert_close(loss, error + 0.5 * against)
    torch.testing.assert_close(metrics["adversarial"], against.detach())
    for module, expected in ((method.discriminator, 0.5 * against), (method.encoder, error - 0.5 * against)):
        for one, other in zip(gradients(loss, module), gradients(expected, module), strict=True):
            torch.testing.assert_close(one, other)


def test_without_an_adversary_only_the_discriminator_is_left_over() -> None:
    method, batch = made(replace(ADVERSE, adversary=0.0)), ImageBatch((images(8),))
    loss, metrics = method.loss(batch)
    torch.testing.assert_close(loss.detach(), metrics["reconstruction"])


def test_settings_out_of_range_are_refused() -> None:
    for wrong in (lambda: Mask(1.0), lambda: Mask(0.5, 1), lambda: PixelNoise(0.0)):
        with pytest.raises(ValueError, match="must be"):
            wrong()
    with pytest.raises(ValueError, match="adversary"):
        replace(ADVERSE, adversary=-1.0)
