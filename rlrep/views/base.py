"""What a view is: a random map of an observation batch that keeps its meaning."""

from typing import Protocol

from torch import Generator, Tensor


class View(Protocol):
    """Batched augmentation on the observation's own device.

    Image input is uint8 `(B, S*C, H, W)`; the result is uint8 `(B, S*C, size, size)`, or as large as it was.
    State input is float32 `(B, ...)`; the result keeps shape and type.
    One with an attribute `capturable`, true, can be captured in a CUDA graph: it draws from its generator alone, never
    waits for the device, and no shape in it changes. Where others are used, draws are made before the graph.
    """

    def __call__(self, obs: Tensor, generator: Generator) -> Tensor:
        """Return one independent random view of each row; the stacked frames of a row share their randomness."""
        ...

    def fixed(self, obs: Tensor) -> Tensor:
        """Return the deterministic counterpart (centre crop) used for acting and evaluation."""
        ...
