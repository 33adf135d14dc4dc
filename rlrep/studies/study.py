"""What a study is: claims of a paper as inequalities, and an experiment that measures the numbers in them."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor

from rlrep.nn import Encoder
from rlrep.settings import plain

Line = tuple[Sequence[float], Sequence[float]]
"""A curve: x and y, of equal length. Every seed has the same x."""
Curves = Mapping[str, Mapping[str, Line]]
"""By title of the panel, then by name of the line."""

Numbers = dict[str, float]
"""What was measured, by name."""


@dataclass(frozen=True)
class Claim:
    """What a paper says: that a measured number lies between two bounds.

    text: the inequality in words.
    number: name of the measured number.
    low, high: the bounds, both included.
    """

    text: str
    number: str
    low: float = -math.inf
    high: float = math.inf

    @property
    def bound(self) -> str:
        """The inequality in figures."""
        if self.low == -math.inf:
            return f"≤ {self.high:g}"
        return f"≥ {self.low:g}" if self.high == math.inf else f"{self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class Panel:
    """A panel of the figure: its title, and what its axes show."""

    title: str
    x: str
    y: str


@dataclass(frozen=True)
class About:
    """What a page says of a study before its results.

    title: of the page.
    source: authors, year, arXiv number.
    claim: what the paper says.
    setup: what is measured here, and how it differs from the paper.
    """

    title: str
    source: str
    claim: str
    setup: str


@dataclass(frozen=True)
class Measured:
    """What one seed gave. numbers: by name. curves: what its panels show."""

    numbers: Mapping[str, float]
    curves: Curves = field(default_factory=dict)


class Study(ABC):
    """An experiment. Subclasses are frozen dataclasses of its settings.

    about, claims, panels: what is measured, what decides, what is drawn.
    seeds: how many the claims need, unless the command line says otherwise.
    """

    about: ClassVar[About]
    claims: ClassVar[tuple[Claim, ...]]
    panels: ClassVar[tuple[Panel, ...]]
    seeds: ClassVar[int] = 3

    @property
    def settings(self) -> Mapping[str, Any]:
        """Its settings as plain values."""
        found: Mapping[str, Any] = plain(self)
        return found

    @abstractmethod
    def measure(self) -> Measured:
        """Run it once; every random number comes from torch's global generator, which the caller has seeded."""


@dataclass(frozen=True)
class Subject:
    """A trained encoder, and images: what its agent saw while it acted, or those that a pretraining run held out.

    place: its run folder.
    encoder, make: the network, and how one of random weights is made.
    images: uint8 `(N, C, H, W)`, as it sees them.
    latents, untrained: `(N, D)` of the images, by this encoder and by one of random weights.
    bins: int64 `(N,)`, see `binned`.
    binned: what the bins are of. An agent's: the return that followed, over 20 steps discounted by 0.9.
    logged: by meter, its curve over training.
    classes: whether bins are classes that an encoder might be meant to tell apart.
    """

    place: str
    encoder: Encoder
    make: Callable[[], Encoder]
    images: Tensor
    latents: Tensor
    untrained: Tensor
    bins: Tensor
    binned: str
    logged: Mapping[str, Line]
    classes: bool = True


class Applied(Study):
    """A study that also asks its question of a trained encoder."""

    @abstractmethod
    def of(self, subject: Subject) -> Study:
        """Return the study of an encoder. Raises ConfigError if what it saw does not answer the question."""


class OfEncoder(Study):
    """A study of a trained encoder, whose numbers are there already: one seed is all there is."""

    seeds: ClassVar[int] = 1

    def __init__(self, subject: Subject) -> None:
        self.subject = subject

    @property
    def settings(self) -> Mapping[str, Any]:
        """Which encoder."""
        return {"encoder": self.subject.place, "observations": len(self.subject.latents)}
