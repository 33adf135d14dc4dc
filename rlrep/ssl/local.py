"""Contrast by parts of the encoder, each with a loss of its own and no gradient to the part below (LoCo, Greedy
InfoMax)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from rlrep.contrast.parts import Metrics, Objective, Projection, pair_health
from rlrep.nn import Encoder
from rlrep.nn.encoders import PixelEncoder, Section
from rlrep.settings.ranges import at_least
from rlrep.views import View

from .base import Method
from .batch import DataShape, ImageBatch
from .joint import JointEmbedding, JointEmbeddingMethod


@dataclass(frozen=True)
class LocalContrast:
    """views x units of the encoder's parts, each with a projector of its own x in-batch negatives x objective.

    group: sections of the encoder's body that make a part: a ResNet's blocks, the layers of a CNN, Impala's sections.
    overlap: 1 = a unit is two parts, the second of which is the next unit's first (LoCo); 0 = a unit is one part
    (Greedy InfoMax); None = all parts are one unit, end to end.
    """

    views: tuple[View, ...]
    projector: Projection
    objective: Objective
    overlap: Literal[0, 1] | None = 1
    group: int = 1

    def __post_init__(self) -> None:
        at_least(self, 1, ("group",))

    def make(self, encoder: Encoder, about: DataShape) -> Method:
        """Build the method. Raises ValueError on fewer than two views, and on an encoder without sections."""
        return LocalContrastMethod(self, encoder, about)


class LocalContrastMethod(JointEmbeddingMethod):
    """A unit's gradient is found, and its graph dropped, before the next unit begins.

    The last unit's projector is the method's, behind the encoder's trunk; those below read averaged maps. A part that
    two units share is run twice, on the same values; only the run as the lower part moves batch-norm statistics.
    """

    def __init__(self, config: LocalContrast, encoder: Encoder, about: DataShape) -> None:
        super().__init__(JointEmbedding(config.views, config.projector, config.objective), encoder)
        if not isinstance(encoder, PixelEncoder):
            raise ValueError(
                f"method=loco trains sections of convolutions, which {type(encoder.body).__name__} has not"
            )
        self._parts = parts(encoder.body.sections(), config.group)
        self.units = units(len(self._parts), config.overlap)
        widths = _widths(self._parts, about.image)
        self.projectors = nn.ModuleList(config.projector.make(widths[unit[-1]]) for unit in self.units[:-1])

    def loss(self, batch: ImageBatch) -> tuple[Tensor, Metrics]:
        """Return the sum over units; its gradient is `gradients`."""
        losses, embedded = zip(*self._unit_losses(batch), strict=True)
        return torch.stack(losses).sum(), self._metrics(losses, embedded[-1])

    def gradients(self, batch: ImageBatch, parameters: Sequence[Tensor]) -> tuple[list[Tensor], Metrics]:
        """Return the sum of the units' gradients, found one after the other."""
        gradients, losses = [torch.zeros_like(parameter) for parameter in parameters], list[Tensor]()
        z = gradients[0]
        for loss, embedded in self._unit_losses(batch):
            z = embedded
            for total, part in zip(gradients, torch.autograd.grad(loss, parameters, allow_unused=True), strict=True):
                if part is not None:
                    total += part
            losses.append(loss.detach())
            del loss
        return gradients, {"loss": torch.stack(losses).sum(), **self._metrics(losses, z)}

    def _metrics(self, losses: Sequence[Tensor], z: Tensor) -> Metrics:
        by_unit = {f"unit_{number}": loss.detach() for number, loss in enumerate(losses, 1)}
        return {**pair_health(z[0], z[1]), **by_unit}

    def _unit_losses(self, batch: ImageBatch) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield each unit's loss and its detached embeddings `(V, N, D)`."""
        x = torch.cat(batch.views)
        for number, unit in enumerate(self.units):
            last = number == len(self.units) - 1
            with self.autocast(batch):
                maps = below = self._run(self._parts[unit[0]], x, moves=True)
                for upper in unit[1:]:
                    maps = self._run(self._parts[upper], maps, moves=last)
                x = below.detach()
                z = self._embedded(number, maps).unflatten(0, (len(batch.views), -1))
                del maps, below
                loss = self.objective(z, batch.labels)
            z = z.detach()
            yield loss, z
            del loss

    def _embedded(self, number: int, maps: Tensor) -> Tensor:
        if number < len(self.projectors):
            lower: Tensor = self.projectors[number](maps.mean((2, 3)))
            return lower
        encoder = self.encoder
        assert isinstance(encoder, PixelEncoder)
        top: Tensor = self.online.get_submodule("projector")(encoder.trunk(encoder.body.features(maps)))
        return top

    def _run(self, section: Section, x: Tensor, *, moves: bool) -> Tensor:
        if moves:
            return section.run(x)
        with _still(section):
            return section.run(x)


def parts(sections: Sequence[Section], group: int) -> list[Section]:
    """Return the sections put together by `group`, the last part perhaps of fewer."""
    return [_joined(sections[first : first + group]) for first in range(0, len(sections), group)]


def _joined(sections: Sequence[Section]) -> Section:
    def run(x: Tensor) -> Tensor:
        for section in sections:
            x = section.run(x)
        return x

    return Section(tuple(module for section in sections for module in section.modules), run)


def units(count: int, overlap: int | None) -> list[range]:
    """Return which of so many parts each unit is made of."""
    if overlap is None or count <= overlap:
        return [range(count)]
    return [range(first, first + 1 + overlap) for first in range(count - overlap)]


@contextmanager
def _still(section: Section) -> Iterator[None]:
    """Have a section's batch norms use the batch's statistics and leave the running ones alone."""
    norms = [m for part in section.modules for m in part.modules() if isinstance(m, _BatchNorm)]
    tracked = [norm.track_running_stats for norm in norms]
    try:
        for norm in norms:
            norm.track_running_stats = False
        yield
    finally:
        for norm, before in zip(norms, tracked, strict=True):
            norm.track_running_stats = before


@torch.no_grad()
def _widths(sections: Sequence[Section], image: tuple[int, ...]) -> list[int]:
    """Return the channels of every section's output."""
    x, found = torch.zeros(2, *image, dtype=torch.uint8), list[int]()
    for section in sections:
        with _still(section):
            x = section.run(x)
        found.append(x.shape[1])
    return found
