"""Images with labels on one device, split into what is trained on and what probes are tested on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor

from .labels import known


@dataclass(frozen=True)
class ImageData:
    """N images and what is known about them.

    images: uint8 `(N, C, H, W)`. labels: by name, `(N,)`: int64 = classes from 0, float32 = physical quantities; -1 and
    NaN where it is not known.
    episode, time: int64 `(N,)` for frames of episodes, else None.
    """

    images: Tensor
    labels: Mapping[str, Tensor]
    episode: Tensor | None = None
    time: Tensor | None = None

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8 or self.images.ndim != 4:
            raise ValueError(f"images must be uint8 (N, C, H, W), got {self.images.dtype} {tuple(self.images.shape)}")
        for name, values in self.labels.items():
            if values.shape != (len(self),) or values.dtype not in (torch.int64, torch.float32):
                raise ValueError(
                    f"label {name} must be int64 or float32 ({len(self)},), got {values.dtype} {tuple(values.shape)}"
                )
        for name, times in (("episode", self.episode), ("time", self.time)):
            if times is not None and (times.shape != (len(self),) or times.dtype != torch.int64):
                raise ValueError(f"{name} must be int64 ({len(self)},), got {times.dtype} {tuple(times.shape)}")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape (C, H, W) of one image."""
        return tuple(self.images.shape[1:])

    def known(self, name: str) -> Tensor:
        """Return bool `(N,)`: of which images this label is known. A simulator's whole numbers may be below 0."""
        values = self.labels[name]
        all_known = self.episode is not None and not values.is_floating_point()
        return torch.ones_like(values, dtype=torch.bool) if all_known else known(values)

    def rows(self, index: Tensor) -> "ImageData":
        """Return the images that `index` names, with their labels."""
        episode = None if self.episode is None else self.episode[index]
        time = None if self.time is None else self.time[index]
        return ImageData(self.images[index], {k: v[index] for k, v in self.labels.items()}, episode, time)

    def to(self, device: torch.device) -> "ImageData":
        """Return the data on another device."""
        episode = None if self.episode is None else self.episode.to(device)
        time = None if self.time is None else self.time.to(device)
        return ImageData(self.images.to(device), {k: v.to(device) for k, v in self.labels.items()}, episode, time)


@dataclass(frozen=True)
class Split:
    """train: for pretraining and for fitting probes. test: for scoring probes.

    notes: what was changed or left out when the data was read. class_names: by label, where its classes have names.
    """

    train: ImageData
    test: ImageData
    notes: Sequence[str] = field(default=(), kw_only=True)
    class_names: Mapping[str, Sequence[str]] = field(default_factory=dict, kw_only=True)


class DataConfig:
    """A `data=` choice: a dataclass of settings with `make`.

    A dataclass that does not inherit from this one is completed by it where it is read (`rlrep.settings.complete`).

    augment: name of the view that suits these images better than a method's own.
    gap: agent steps that the frames of a positive pair may be apart, see `FrameSettings`.
    """

    augment: ClassVar[str | None] = None
    gap: int = 0

    def make(self, device: torch.device) -> Split:
        """Read the data. Raises ValueError, in one line, if something is missing or damaged."""
        raise ValueError(f"data: {type(self).__name__} has no make(device)")


@dataclass(frozen=True, kw_only=True)
class SplitSettings(DataConfig):
    """test_fraction: share of the images, or of the episodes, that is held out. split_seed: which ones; kept apart from
    the run's seed, so that all seeds of an experiment share their test set."""

    test_fraction: float = 0.2
    split_seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.test_fraction < 1:
            raise ValueError(f"test_fraction must be between 0 and 1, not {self.test_fraction}")

    def split(
        self,
        data: ImageData,
        device: torch.device,
        *,
        notes: Sequence[str] = (),
        class_names: Mapping[str, Sequence[str]] | None = None,
    ) -> Split:
        """Hold out random images, or whole episodes where there are any (neighbouring frames are nearly the same).

        Raises ValueError if there are too few for either side.
        """
        units = torch.arange(len(data)) if data.episode is None else data.episode.unique(return_inverse=True)[1]
        count = int(units.max()) + 1 if len(units) else 0
        held_out = round(count * self.test_fraction)
        if not 0 < held_out < count:
            what = "images" if data.episode is None else "episodes"
            raise ValueError(f"test_fraction={self.test_fraction} of {count} {what} leaves none on one side")
        order = torch.randperm(count, generator=torch.Generator().manual_seed(self.split_seed))
        tested = torch.isin(units, order[:held_out])
        train, test = data.rows((~tested).nonzero()[:, 0]), data.rows(tested.nonzero()[:, 0])
        return Split(train.to(device), test.to(device), notes=notes, class_names=class_names or {})


def existing(option: str, path: str, wanted: str, *, kind: Literal["file", "folder", "any"] = "any") -> Path:
    """Return `path` if it is there and of that kind, else raise ValueError saying what to put there."""
    if not path:
        raise ValueError(f"{option} is empty: give the path of {wanted.rstrip(',')}")
    found = Path(path).expanduser()
    if not found.exists():
        raise ValueError(f"{option}={path} is not there: put {wanted} there (nothing is downloaded)")
    if (kind == "file" and not found.is_file()) or (kind == "folder" and not found.is_dir()):
        raise ValueError(f"{option}={path} is no {kind}: give the path of {wanted.rstrip(',')}")
    return found
