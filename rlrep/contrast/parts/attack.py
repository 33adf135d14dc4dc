"""Adversarial images with their settings."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Generator, Tensor

from ..attack import pgd

PIXELS = (0.0, 255.0)


@dataclass(frozen=True)
class Attack:
    """Projected gradient ascent on pixels (`pgd`), from a uniformly random start.

    epsilon: largest change of a pixel, as a share of the pixels' range. steps: of the ascent, each of length `step`, as
    epsilon; None = a quarter of it. Raises ValueError on an epsilon outside (0, 1] and on steps or a step below theirs.
    """

    epsilon: float = 8 / 255
    steps: int = 10
    step: float | None = None

    def __post_init__(self) -> None:
        if not 0.0 < self.epsilon <= 1.0 or self.steps < 1 or (self.step is not None and not self.step > 0.0):
            raise ValueError(
                f"epsilon must be in (0, 1], steps at least 1 and step above 0, not {self.epsilon}, {self.steps} and "
                f"{self.step}"
            )

    def __call__(self, loss: Callable[[Tensor], Tensor], images: Tensor, generator: Generator | None = None) -> Tensor:
        """Return images `(N, C, H, W)`, uint8 or float in [0, 255], moved to where the loss is larger: float, detached.

        generator: of the random start; None = the global one.
        """
        step = self.epsilon / 4 if self.step is None else self.step
        reach, length = 255.0 * self.epsilon, 255.0 * step
        return pgd(
            loss, images.float(), epsilon=reach, step=length, steps=self.steps, bounds=PIXELS, generator=generator
        )
