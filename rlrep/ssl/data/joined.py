"""Frames of several environments as one data set, each frame with the number of its environment."""

from collections.abc import Mapping, Sequence
from math import nan

import torch
from torch import Tensor

from .image_data import ImageData, Split

ENV = "env"


def joined(splits: Mapping[str, Split]) -> Split:
    """Return the frames of all environments, by name, one after the other.

    The label `env` is an environment's number. The others are `ENVIRONMENT/LABEL`, not known of other environments'
    frames. Raises ValueError on frames of different shapes, without episodes, or with whole numbers as labels.
    """
    shapes = {name: split.train.shape for name, split in splits.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"frames of several environments need one shape, not {shapes}")
    train, test = (_join({n: getattr(s, side) for n, s in splits.items()}) for side in ("train", "test"))
    return Split(train, test, class_names={ENV: tuple(splits)})


def _join(parts: Mapping[str, ImageData]) -> ImageData:
    images = torch.cat([part.images[:] for part in parts.values()])
    sizes = [len(part) for part in parts.values()]
    labels = {ENV: torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes)).to(images.device)}
    for number, (name, part) in enumerate(parts.items()):
        start = sum(sizes[:number])
        for label, values in part.labels.items():
            if not values.is_floating_point():
                raise ValueError(f"label {name}/{label} is a whole number, which is not unknown of other environments")
            labels[f"{name}/{label}"] = torch.full((len(images),), nan, device=images.device)
            labels[f"{name}/{label}"][start : start + len(part)] = values
    return ImageData(images, labels, _episodes(list(parts.values())), _times(list(parts.values())))


def _episodes(parts: Sequence[ImageData]) -> Tensor:
    """Return episodes numbered on from one part to the next."""
    found, first = [], 0
    for part in parts:
        if part.episode is None:
            raise ValueError("frames of several environments need episodes")
        found.append(part.episode + first)
        first = int(found[-1].max()) + 1
    return torch.cat(found)


def _times(parts: Sequence[ImageData]) -> Tensor | None:
    times = [part.time for part in parts if part.time is not None]
    return torch.cat(times) if len(times) == len(parts) else None
