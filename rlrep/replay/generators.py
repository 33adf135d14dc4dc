"""Random streams that move between devices."""

from torch import Generator, Tensor


def restore(generator: Generator, state: Tensor) -> None:
    """Put a saved state back; one of another kind of device is left alone, and the stream goes on from its own seed.

    A run that continues on another kind of device is not the same bit for bit anyway.
    """
    if generator.get_state().shape == state.shape:
        generator.set_state(state)
