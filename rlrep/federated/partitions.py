"""How the images are dealt to parties: every image to just one of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rlrep.settings import ranges
from rlrep.ssl.data import ImageData
from rlrep.ssl.data.image_data import class_label

Rows = NDArray[Any]
_TRIES = 1000


class Partition(Protocol):
    """A `partition=` choice: the dataclass behind its `_target_`."""

    def deal(self, data: ImageData, parties: int, *, label: str | None, seed: int) -> list[Tensor]:
        """Return each party's rows, int64, ascending. label: which of the labels are classes, None = the only ones.

        Raises ValueError if the data cannot be dealt so.
        """
        ...


@dataclass(frozen=True)
class Iid:
    """Parties of equal size, drawn from all images alike."""

    def deal(self, data: ImageData, parties: int, *, label: str | None, seed: int) -> list[Tensor]:
        """Deal shuffled rows."""
        _check_enough(len(data), parties, "images")
        return _tensors(np.array_split(np.random.default_rng(seed).permutation(len(data)), parties), data)


@dataclass(frozen=True)
class Dirichlet:
    """Each class is shared out in proportions drawn from a symmetric Dirichlet distribution (MOON, Li et al. 2021,
    arXiv 2103.16257, section 4.1, and the authors' code).

    A party that has its even share of all images gets none of further classes.
    beta: the distribution's concentration; the smaller, the fewer classes a party has. least: images of each party at
    least: the whole draw is repeated until they have them.
    """

    beta: float = 0.5
    least: int = 10

    def __post_init__(self) -> None:
        ranges.positive(self, ("beta",))
        ranges.at_least(self, 1, ("least",))

    def deal(self, data: ImageData, parties: int, *, label: str | None, seed: int) -> list[Tensor]:
        """Draw until every party has enough."""
        _check_enough(len(data), parties * self.least, "images", f"partition.least={self.least} for each party")
        random, classes = np.random.default_rng(seed), _classes(data, label)
        for _ in range(_TRIES):
            dealt = self._draw(classes, parties, random)
            if min(map(len, dealt)) >= self.least:
                return _tensors(dealt, data)
        raise ValueError(
            f"{_TRIES} draws left a party without {self.least} images: give a larger partition.beta, a smaller "
            f"partition.least, or fewer parties"
        )

    def _draw(self, classes: Sequence[Rows], parties: int, random: np.random.Generator) -> list[Rows]:
        dealt: list[Rows] = [np.empty(0, np.int64) for _ in range(parties)]
        even = sum(map(len, classes)) / parties
        for rows in classes:
            share = random.dirichlet(np.full(parties, self.beta)) * [len(each) < even for each in dealt]
            if not share.sum() > 0:  # a draw that gives all to parties that are full
                return [np.empty(0, np.int64) for _ in range(parties)]
            cuts = (np.cumsum(share / share.sum()) * len(rows)).astype(int)[:-1]
            parts = np.split(random.permutation(rows), cuts)
            dealt = [np.concatenate(both) for both in zip(dealt, parts, strict=True)]
        return dealt


@dataclass(frozen=True)
class ByLabel:
    """Every party has images of a few classes only, and those who have a class share it evenly (McMahan et al. 2017).

    classes: of each party.
    """

    classes: int = 2

    def __post_init__(self) -> None:
        ranges.at_least(self, 1, ("classes",))

    def deal(self, data: ImageData, parties: int, *, label: str | None, seed: int) -> list[Tensor]:
        """Go round the classes, in a random order."""
        random, classes = np.random.default_rng(seed), _classes(data, label)
        if not len(classes) <= parties * self.classes or self.classes > len(classes):
            raise ValueError(
                f"{parties} parties of partition.classes={self.classes} do not fit {len(classes)} classes: each class "
                f"needs a party, and no party has more than there are"
            )
        order = random.permutation(len(classes))
        owners: list[list[int]] = [[] for _ in classes]
        for place in range(parties * self.classes):
            owners[order[place % len(classes)]].append(place // self.classes)
        dealt: list[list[Rows]] = [[] for _ in range(parties)]
        for rows, having in zip(classes, owners, strict=True):
            for party, part in zip(having, np.array_split(random.permutation(rows), len(having)), strict=True):
                dealt[party].append(part)
        return _tensors([np.concatenate(parts) for parts in dealt], data)


@dataclass(frozen=True)
class ByEpisode:
    """Whole episodes of frames, as many to each party."""

    def deal(self, data: ImageData, parties: int, *, label: str | None, seed: int) -> list[Tensor]:
        """Deal shuffled episodes."""
        if data.episode is None:
            raise ValueError("partition=by_episode needs frames of episodes, which these images are not")
        names, episode = np.unique(data.episode.cpu().numpy(), return_inverse=True)
        _check_enough(len(names), parties, "episodes")
        order = np.random.default_rng(seed).permutation(len(names))
        return _tensors([np.flatnonzero(np.isin(episode, part)) for part in np.array_split(order, parties)], data)


@dataclass(frozen=True)
class ByEnv:
    """A party per environment. label: which label says of which environment a frame is."""

    label: str = "env"

    def deal(self, data: ImageData, parties: int, *, label: str | None, seed: int) -> list[Tensor]:
        """Deal by that label, in its order."""
        if self.label not in data.labels:
            raise ValueError(
                f"partition=by_env needs the label {self.label}, which says of which environment a frame is: choose "
                f"data of several environments"
            )
        groups = _classes(data, self.label)
        if len(groups) != parties:
            raise ValueError(f"the data is of {len(groups)} environments: give parties={len(groups)}, not {parties}")
        return _tensors(groups, data)


def _classes(data: ImageData, label: str | None) -> list[Rows]:
    """Return the rows of each class; images without one are a class of their own."""
    values = data.labels[class_label(data, label)].cpu().numpy()
    return [np.flatnonzero(values == name) for name in np.unique(values)]


def _check_enough(count: int, wanted: int, what: str, why: str = "one for each party") -> None:
    if count < wanted:
        raise ValueError(f"{count} {what} are fewer than {wanted}, {why}: give fewer parties=")


def _tensors(dealt: Sequence[Rows], data: ImageData) -> list[Tensor]:
    return [torch.from_numpy(np.sort(rows)).to(data.images.device) for rows in dealt]
