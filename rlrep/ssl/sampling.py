"""Which images make a batch: shuffled epochs, class-balanced batches of a labelled subset, later frames of an episode.
Indices on device."""

from typing import Any

import torch
from torch import Generator, Tensor

from .data import ImageData


class EpochSampler:
    """Batches of a shuffled pass over `count` images, pass after pass; a last, incomplete batch is left out.

    seed: of the shuffles. device: of the indices. Raises ValueError if there are fewer images than a batch has.
    """

    def __init__(self, count: int, batch_size: int, *, seed: int, device: torch.device) -> None:
        if not 1 <= batch_size <= count:
            raise ValueError(f"batch_size={batch_size} does not fit {count} images")
        self.count, self.batch_size, self.epoch = count, batch_size, 0
        self._generator = Generator(device).manual_seed(seed)
        self._order, self._position = self._shuffle(), 0

    @property
    def batches_per_epoch(self) -> int:
        """Batches in one pass."""
        return self.count // self.batch_size

    def peek(self) -> Tensor | None:
        """Return what `next` will return; None = it will shuffle first."""
        start = self._position * self.batch_size
        return None if self._position == self.batches_per_epoch else self._order[start : start + self.batch_size]

    def next(self) -> Tensor:
        """Return the next batch's rows `(batch_size,)`."""
        if self._position == self.batches_per_epoch:
            self._order, self._position, self.epoch = self._shuffle(), 0, self.epoch + 1
        start = self._position * self.batch_size
        self._position += 1
        return self._order[start : start + self.batch_size]

    def state(self) -> dict[str, Any]:
        """Return everything `load_state` needs."""
        place = {"epoch": self.epoch, "position": self._position, "order": self._order}
        return {**place, "generator": self._generator.get_state()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue a saved pass. Raises ValueError if it was over another number of images."""
        if len(state["order"]) != self.count:
            raise ValueError(f"the checkpoint's sampler had {len(state['order'])} images, there are {self.count}")
        self.epoch, self._position = state["epoch"], state["position"]
        self._order = state["order"].to(self._order.device)
        self._generator.set_state(state["generator"])

    def _shuffle(self) -> Tensor:
        return torch.randperm(self.count, generator=self._generator, device=self._generator.device)


class ClassBalancedSampler:
    """Batches of `per_class` different images of each of `classes` random classes (SuNCEt, Assran et al. 2020, arXiv
    2006.10803, section 4), independent of each other.

    labels: classes `(M,)` of the labelled images, on the device wanted. Rows of a batch are grouped by class.
    Raises ValueError if there are fewer classes, or a class has fewer images.
    """

    def __init__(self, labels: Tensor, *, classes: int, per_class: int, seed: int) -> None:
        names, self._class, counts = labels.unique(return_inverse=True, return_counts=True)
        if not 1 <= classes <= len(names):
            raise ValueError(f"classes={classes} does not fit {len(names)} labelled classes")
        if not 1 <= per_class <= int(counts.min()):
            raise ValueError(f"per_class={per_class} does not fit a class of {int(counts.min())} labelled images")
        self.classes, self.per_class = classes, per_class
        self._starts = counts.cumsum(0) - counts
        self._generator = Generator(labels.device).manual_seed(seed)

    def next(self) -> Tensor:
        """Return the next batch's rows `(classes * per_class,)` of `labels`."""
        # Sorting by class plus a random fraction shuffles every class within its own stretch.
        shuffled = (self._class + self._uniform(len(self._class))).argsort()
        chosen = self._uniform(len(self._starts)).argsort()[: self.classes]
        within = torch.arange(self.per_class, device=chosen.device)
        rows: Tensor = shuffled[(self._starts[chosen][:, None] + within).flatten()]
        return rows

    def state(self) -> dict[str, Any]:
        """Return everything `load_state` needs."""
        return {"generator": self._generator.get_state()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue a saved sequence."""
        self._generator.set_state(state["generator"])

    def _uniform(self, count: int) -> Tensor:
        return torch.rand(count, generator=self._generator, device=self._generator.device, dtype=torch.float64)


def steps_left(data: ImageData, labels: Tensor | None = None) -> Tensor:
    """Return for each frame how many of the rows after it `(N,)` are the next steps of its episode.

    labels: classes `(N,)` that must stay the frame's own on the way. Raises ValueError on images that have no time.
    """
    episode, time = data.episode, data.time
    if episode is None or time is None:
        raise ValueError(
            "data.gap needs frames of episodes with their time, which these images are not: give data.gap=0"
        )
    goes_on = (episode[1:] == episode[:-1]) & (time[1:] == time[:-1] + 1)
    if labels is not None:
        goes_on &= labels[1:] == labels[:-1]
    rows = torch.arange(len(episode), device=episode.device)
    ends = rows.masked_fill(torch.cat([goes_on, goes_on.new_zeros(1)]), len(rows))
    last: Tensor = ends.flip(0).cummin(0).values.flip(0)
    return last - rows


def later(rows: Tensor, reach: Tensor, generator: Generator) -> Tensor:
    """Return `rows` `(B,)` moved on by k steps, each k uniform over 0 .. its `reach` `(N,)`.

    Positives in time: one fixed k in ATC (Stooke et al. 2021, arXiv 2009.08319), 1 in ST-DIM (Anand et al. 2019, arXiv
    1906.08226), each of 1 .. K in CPC (van den Oord et al. 2018, arXiv 1807.03748). From 0 on, the last frame of an
    episode still has a partner: itself.
    """
    uniform = torch.rand(len(rows), generator=generator, device=rows.device, dtype=torch.float64)
    return rows + (uniform * (reach[rows] + 1)).long()
