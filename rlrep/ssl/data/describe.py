"""What was read, in lines for the user: what was changed, and every label with its classes or its range."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from .image_data import Split

_SHOWN = 12


def describe(split: Split) -> list[str]:
    """Return the lines: notes of the reader, then a line per label of single images (a simulator's state is known)."""
    lines = [f"data: {note}" for note in split.notes]
    if not split.train.labels:
        return [*lines, "data: no labels, so that probes are left out"]
    return lines + ([] if split.train.episode is not None else list(_labels(split)))


def _labels(split: Split) -> Iterator[str]:
    for name in split.train.labels:
        sides = (split.train, split.test)
        there = torch.cat([side.labels[name][side.known(name)].cpu() for side in sides])
        missing = sum(len(side) for side in sides) - len(there)
        told = _range(there) if there.is_floating_point() else _classes(there, split.class_names.get(name))
        yield f"label {name}: {told}" + (f"; {missing} images without" if missing else "")


def _range(values: Tensor) -> str:
    return f"a quantity from {float(values.min()):g} to {float(values.max()):g} (floats; whole numbers are classes)"


def _classes(values: Tensor, names: Sequence[str] | None) -> str:
    numbers, counts = values.unique(return_counts=True)
    shown = [names[k] if names else str(k) for k in numbers.tolist()]
    each = [f"{name} {count}" for name, count in zip(shown, counts.tolist(), strict=True)]
    more = f", ... ({int(counts.min())} to {int(counts.max())} images each)" if len(each) > _SHOWN else ""
    return f"{len(each)} classes: {', '.join(each[:_SHOWN])}{more}"
