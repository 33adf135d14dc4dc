"""What several studies train on, and the loop that trains: a generator, so that a study measures between two steps."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from rlrep.nn import Encoder, PixelEncoderConfig
from rlrep.settings import ConfigError
from rlrep.ssl.base import MethodConfig
from rlrep.ssl.data import Digits, ImageData, Split
from rlrep.ssl.data.labels import labelled_subset
from rlrep.ssl.learner import Learner, plan
from rlrep.ssl.optimiser import OptimiserConfig
from rlrep.views import Blur, ColourJitter, Flip, Grayscale, ImageView, ResizedCrop

DIGITS = 10
DIGIT_VIEW = ImageView(
    crop=ResizedCrop(scale=(0.6, 1.0), ratio=(0.9, 1 / 0.9)),
    flip=Flip(p=0.0),
    jitter=ColourJitter(p=0.8, brightness=0.3, contrast=0.3, saturation=0.0, hue=0.0),
    gray=Grayscale(p=0.0),
    blur=Blur(p=0.0),
)
"""As `augment=mild`."""


def train(
    parameters: Sequence[nn.Parameter], loss: Callable[[], Tensor], optimiser: OptimiserConfig, steps: int
) -> Iterator[int]:
    """Take up to `steps` steps down `loss()`; yields how many there were after each of them."""
    listed = list(parameters)
    stepping = optimiser.make(listed, 1)
    for step in range(steps):
        stepping.lr = optimiser.lr * optimiser.factor(step, steps)
        stepping.step(list(torch.autograd.grad(loss(), listed)))
        yield step + 1


def digits(size: int) -> Split:
    """Return the handwritten digits, `size` pixels wide, in the usual split."""
    return Digits(size=size).make(torch.device("cpu"))


def balanced_digits(per_class: int, *, size: int = 8) -> ImageData:
    """Return that many handwritten digits of every class, drawn by torch's global generator.

    Raises ConfigError if there are not so many.
    """
    data = digits(size).train
    seed = int(torch.randint(2**31, ()))
    try:
        return data.rows(labelled_subset(data.labels["digit"], seed=seed, per_class=per_class))
    except ValueError as error:
        raise ConfigError(f"per_class={per_class}: {error}") from error


def as_vectors(images: Tensor) -> Tensor:
    """Return uint8 images `(N, C, H, W)` as float rows `(N, C*H*W)` in [-1, 1]."""
    return images.flatten(1).float() / 127.5 - 1.0


def drawn(count: int, rows: int) -> Tensor:
    """Return `rows` indices below `count`, drawn with replacement."""
    return torch.randint(count, (rows,))


def moments(steps: int, curves: int = 20) -> set[int]:
    """Return up to `curves` steps at which a curve has a point: evenly spread, the last among them."""
    return {max(1, round(steps * part / curves)) for part in range(1, curves + 1)}


def digit_learner(
    method: MethodConfig, data: ImageData, *, updates: int, batch_size: int, optimiser: OptimiserConfig, seed: int
) -> Learner:
    """Return a method in training on digits, around a small network of torch's global generator. seed: of the rest."""
    encoder = PixelEncoderConfig((2, 2, 1), (32, 64, 64), latent_dim=128, trunk="relu", init="torch").make(data.shape)
    return learner_of(
        encoder, method, data, updates=updates, batch_size=batch_size, optimiser=optimiser, seed=seed, label="digit"
    )


def learner_of(
    encoder: Encoder,
    method: MethodConfig,
    data: ImageData,
    *,
    updates: int,
    batch_size: int,
    optimiser: OptimiserConfig,
    seed: int,
    label: str | None = None,
) -> Learner:
    """Return a method in training around an encoder. seed: of all but its weights. label: the classes it reads."""
    return Learner(
        method,
        encoder,
        data,
        optimiser=optimiser,
        length=plan(len(data), batch_size=batch_size, epochs=None, updates=updates),
        label=label,
        seed=seed,
    )
