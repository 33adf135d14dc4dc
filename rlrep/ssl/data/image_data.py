"""Images with labels on one device, split into what is trained on and what probes are tested on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor

from .labels import Noise, corrupt, known, labelled_subset
from .stored import Images, StoredImages


@dataclass(frozen=True)
class ImageData:
    """N images and what is known about them.

    images: uint8 `(N, C, H, W)`, in memory, or stored: `images[:]` is a tensor of them all.
    labels: by name, `(N,)`: int64 = classes from 0, float32 = physical quantities; -1 and NaN where it is not known.
    truth: by name, what labels were before noise was put on them: measured against, never trained on.
    episode, time: int64 `(N,)` for frames of episodes, else None.
    """

    images: Images
    labels: Mapping[str, Tensor]
    episode: Tensor | None = None
    time: Tensor | None = None
    truth: Mapping[str, Tensor] = field(default_factory=dict, kw_only=True)

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
        labels, truth = ({k: v[index] for k, v in of.items()} for of in (self.labels, self.truth))
        images = self.images.rows(index) if isinstance(self.images, StoredImages) else self.images[index]
        return ImageData(images, labels, episode, time, truth=truth)

    def true(self) -> "ImageData":
        """Return the data with the true labels in the place of noisy ones."""
        return replace(self, labels={**self.labels, **self.truth}, truth={})

    def to(self, device: torch.device) -> "ImageData":
        """Return the data on another device."""
        episode = None if self.episode is None else self.episode.to(device)
        time = None if self.time is None else self.time.to(device)
        labels, truth = ({k: v.to(device) for k, v in of.items()} for of in (self.labels, self.truth))
        return ImageData(self.images.to(device), labels, episode, time, truth=truth)


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
class LabelSettings(DataConfig):
    """What is done to the labels of training images; those of test images stay.

    labels_per_class, label_fraction: train on so many images of each class only, or on this share of each; null = on
    all. label_noise: share of the labels that is made wrong, in the way of `noise` (`rlrep.ssl.data.labels.corrupt`).
    label_seed, noise_seed: which images those are; kept apart from the run's seed.
    """

    labels_per_class: int | None = None
    label_fraction: float | None = None
    label_seed: int = 0
    label_noise: float = 0.0
    noise: Noise = "symmetric"
    noise_seed: int = 0

    def __post_init__(self) -> None:
        if self.labels_per_class is not None and self.label_fraction is not None:
            raise ValueError("labels_per_class and label_fraction say the same thing twice: give one of them")
        if not 0 <= self.label_noise <= 1:
            raise ValueError(f"label_noise must be a share in [0, 1], not {self.label_noise}")

    def relabel(self, split: Split) -> Split:
        """Leave out training images and make labels wrong. Raises ValueError if it is not clear which are classes."""
        fewer = self.labels_per_class is not None or self.label_fraction is not None
        if not fewer and not self.label_noise:
            return split
        train, name = split.train, class_label(split.train, None)
        if fewer:
            rows, few = train.known(name).nonzero()[:, 0], (self.label_fraction, self.labels_per_class)
            chosen = labelled_subset(train.labels[name][rows], seed=self.label_seed, fraction=few[0], per_class=few[1])
            train = train.rows(rows[chosen])
        if self.label_noise:
            true = train.labels[name]
            wrong = corrupt(true, share=self.label_noise, noise=self.noise, seed=self.noise_seed)
            train = replace(train, labels={**train.labels, name: wrong}, truth={name: true})
        return replace(split, train=train)


@dataclass(frozen=True, kw_only=True)
class SplitSettings(LabelSettings):
    """test_fraction: share of the images, or of the episodes, that is held out. split_seed: which ones; kept apart from
    the run's seed, so that all seeds of an experiment share their test set."""

    test_fraction: float = 0.2
    split_seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
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
        return self.relabel(Split(train.to(device), test.to(device), notes=notes, class_names=class_names or {}))


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


def class_label(data: ImageData, asked: str | None) -> str:
    """Return the name of the labels that are classes: the one asked for, or the only one there is."""
    classes = [name for name, values in data.labels.items() if not values.is_floating_point()]
    if asked in classes:
        return str(asked)
    if asked is None and len(classes) == 1:
        return classes[0]
    if not data.labels:
        raise ValueError("this method needs classes, and these images have no labels: choose another method=")
    raise ValueError(f"train.label={asked or 'null'} does not name the classes: valid: {', '.join(classes) or 'none'}")


def class_count(data: ImageData, asked: str | None) -> int:
    """Return how many classes there are from 0 to the largest known one; 0 where no labels are clearly classes."""
    classes = [name for name, values in data.labels.items() if not values.is_floating_point()]
    name = asked if asked is not None else classes[0] if len(classes) == 1 else None
    if name not in classes or not len(values := data.labels[str(name)][data.known(str(name))]):
        return 0
    return int(values.max()) + 1 if int(values.min()) >= 0 else 0
