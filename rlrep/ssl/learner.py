"""One pretraining run without files: draws batches, makes views, steps the optimiser. Its state resumes it exactly."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Generator, Tensor, nn

from rlrep.contrast.parts import Metrics
from rlrep.nn import Encoder
from rlrep.views.compose import multi_view

from .base import Method, MethodConfig, Precision, seen_shape
from .batch import DataShape, ImageBatch
from .data import ImageData
from .data.image_data import class_count, class_label
from .data.stored import StoredImages
from .optimiser import OptimiserConfig
from .sampling import ClassBalancedSampler, EpochSampler, later, steps_left
from .windows import Windows, windows_of

_SAMPLER, _LABELLED, _SUBSET, _STEP, _VIEWS, _WINDOWS = 20, 21, 22, 23, 24, 25


@dataclass(frozen=True)
class Length:
    """Size of a run. images: seen so far at the end, every view of one counted once."""

    updates: int
    batch_size: int
    updates_per_epoch: int

    @property
    def images(self) -> int:
        """Images drawn in all."""
        return self.updates * self.batch_size


def plan(count: int, *, batch_size: int, epochs: int | None, updates: int | None) -> Length:
    """Return the length of a run over `count` images. Raises ValueError if the batch is larger than the data."""
    if batch_size > count:
        raise ValueError(
            f"train.batch_size={batch_size} is more than the {count} images there are to train on: take {count} or less"
        )
    per_epoch = count // batch_size
    return Length(updates if updates is not None else (epochs or 0) * per_epoch, batch_size, per_epoch)


class Learner:
    """A method in training.

    data: on the device of training. label: which of its labels are the classes, where the method needs them.
    micro_batches: parts of a batch whose gradients are found one after the other, to save memory; what is contrasted
    within a batch is then contrasted within a part.
    gap: 0, or how many steps later in its episode, and within its class where the method uses classes, the frame may
    be that a view after the first is of.
    image_shape: of the views, which the encoder is for. classes: how many there are, None = as many as the data has.
    Every update draws from streams of its own, by (seed, update, process), so that nothing of them needs saving.
    Raises ValueError if method, data and batch do not fit each other.
    """

    def __init__(
        self,
        config: MethodConfig,
        encoder: Encoder,
        data: ImageData,
        *,
        optimiser: OptimiserConfig,
        length: Length,
        label: str | None,
        seed: int,
        gap: int = 0,
        precision: Precision = "float32",
        micro_batches: int = 1,
        classes: int | None = None,
    ) -> None:
        self.device = data.images.device
        self.image_shape = seen_shape(config.views, data.images)
        about = DataShape(self.image_shape, class_count(data, label) if classes is None else classes, len(data))
        self.method: Method = config.make(encoder, about).to(self.device).train()
        self.method.precision = precision
        self._rank, self._world = world()
        _check_batch(length.batch_size, self.method.needs.parts, self._world)
        _check_micro(length.batch_size // self._world, micro_batches, self.method.needs.parts)
        if self._world > 1:
            _check_share(length.batch_size, self._world)
            if self.device.type == "cuda" and self.method.sync_batch_norm:
                self.method = nn.SyncBatchNorm.convert_sync_batchnorm(self.method)
        self.data, self.views, self.length, self._seed, self._parts = data, config.views, length, seed, micro_batches
        self._windows = windows_of(data.images, self.views, self.image_shape[-1])
        self.updates = 0
        self._sampler = EpochSampler(len(data), length.batch_size, seed=self._draw(_SAMPLER), device=self.device)
        self._find_labels(label)
        self.method.prepare(data, self.labels, self.views[0])
        apart = self.labels if self.method.needs.labels else None
        self._reach = steps_left(data, apart).clamp(max=gap) if gap else None
        self._parameters = [parameter for parameter in self.method.parameters() if parameter.requires_grad]
        self._optimiser_config = optimiser
        self._optimiser = optimiser.make(self._parameters, length.batch_size)
        self._generator = Generator(self.device)
        self._metrics: dict[str, Tensor] = {}

    @property
    def epoch(self) -> float:
        """Passes over the data so far."""
        return self.updates / self.length.updates_per_epoch

    def update(self) -> None:
        """Make one step."""
        torch.manual_seed(self._draw(_STEP, self.updates))  # whitening shuffles, mixing: the same in all processes
        batch = self.next_batch()
        gradients, metrics = self._gradients(batch)
        average(gradients)
        full = self._optimiser_config.rate(self.length.batch_size)
        self._optimiser.lr = full * self._optimiser_config.factor(self.updates, self.length.updates)
        self._optimiser.step(gradients)
        self.updates += 1
        self.method.after_step(self.updates / self.length.updates)
        self._metrics = metrics

    def _gradients(self, batch: ImageBatch) -> tuple[list[Tensor], Metrics]:
        """Return gradients and metrics of a batch: the mean over its micro-batches, one after the other."""
        if self._parts == 1:
            return self.method.gradients(batch, self._parameters)
        found = [self.method.gradients(part, self._parameters) for part in batch.split(self._parts)]
        gradients = [torch.stack(each).mean(0) for each in zip(*(part for part, _ in found), strict=True)]
        return gradients, {name: torch.stack([part[name] for _, part in found]).mean() for name in found[0][1]}

    def next_batch(self) -> ImageBatch:
        """Draw the next batch, this process's share of it, and its views."""
        self._generator.manual_seed(self._draw(_VIEWS, self.updates, self._rank))
        rows = self._share(self._sampler.next())
        views = self._make_views(rows)
        labels = None if self.labels is None else self.labels[rows]
        labelled = classes = None
        if self._balanced is not None:
            known = self._share(self._known[self._balanced.next()])
            assert self.labels is not None
            labelled, classes = self.views[0](self.data.images[known], self._generator), self.labels[known]
        return ImageBatch(tuple(views.unbind()), labels, labelled, classes, rows if self.method.needs.index else None)

    def _make_views(self, rows: Tensor) -> Tensor:
        """Return views `(V, B, C, H, W)`: of the same images or, with a gap, each after the first of later frames."""
        images = self.data.images
        if self._windows is not None:
            return self._cut(self._windows, rows)
        if self._reach is None:
            return multi_view(self._read(rows), self.views, self._generator)
        moved = [rows, *(later(rows, self._reach, self._generator) for _ in self.views[1:])]
        pairs = zip(self.views, moved, strict=True)
        return torch.stack([view(images.index_select(0, frames), self._generator) for view, frames in pairs])

    def _cut(self, windows: Windows, rows: Tensor) -> Tensor:
        """Return views of whole images, and have those of the next batch cut out meanwhile."""
        seed, following = (self._draw(_WINDOWS, update, self._rank) for update in (self.updates, self.updates + 1))
        views = windows.make(rows, seed, self._generator)
        if (ahead := self._sampler.peek()) is not None:
            windows.fetch(self._share(ahead), following)
        return views

    def _read(self, rows: Tensor) -> Tensor:
        """Return a batch's images; those of the next one are read from the disk while this one is learnt from."""
        images = self.data.images
        found = images.index_select(0, rows)  # images[rows]: six times slower
        if isinstance(images, StoredImages) and (ahead := self._sampler.peek()) is not None:
            images.fetch(self._share(ahead))
        return found

    def metrics(self) -> dict[str, float]:
        """Return the last update's metrics (of this process)."""
        return {f"train/{name}": float(value) for name, value in self._metrics.items()} | {
            "train/lr": self._optimiser.lr
        }

    def nonfinite(self) -> list[str]:
        """Name the last update's terms that are not finite."""
        return [name for name, value in self._metrics.items() if not bool(torch.isfinite(value))]

    def state(self) -> dict[str, Any]:
        """Return everything `load_state` needs."""
        return {
            "updates": self.updates,
            "method": dict(self.method.state_dict()),
            "optimiser": self._optimiser.state(),
            "sampler": self._sampler.state(),
            "balanced": None if self._balanced is None else self._balanced.state(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue a saved run. Raises ValueError if it was another one."""
        self.updates = state["updates"]
        self.method.progress = self.updates / self.length.updates
        self.method.load_state_dict(state["method"])
        self._optimiser.load_state(state["optimiser"])
        self._sampler.load_state(state["sampler"])
        if self._balanced is not None:
            self._balanced.load_state(state["balanced"])

    def _find_labels(self, label: str | None) -> None:
        needs = self.method.needs
        self.labels = self._balanced = self.label = None
        if not (needs.labels or needs.labelled):
            return
        name = self.label = class_label(self.data, label)
        self.labels = self.data.labels[name]
        rows = self.data.known(name).nonzero()[:, 0]
        if needs.labels and len(rows) < len(self.labels):
            raise ValueError(
                f"this method needs the class of every image, {len(self.labels) - len(rows)} have no {name}: leave "
                f"them out, or choose a method that needs none, or few (method=suncet)"
            )
        if needs.labelled is not None:
            wanted = needs.labelled
            _check_share(wanted.classes * wanted.per_class, self._world)
            _check_micro(wanted.classes * wanted.per_class // self._world, self._parts, 0)
            self._known = rows[wanted.rows(self.labels[rows], self._draw(_SUBSET))]
            self._balanced = ClassBalancedSampler(
                self.labels[self._known],
                classes=wanted.classes,
                per_class=wanted.per_class,
                seed=self._draw(_LABELLED),
            )

    def _share(self, rows: Tensor) -> Tensor:
        return rows.chunk(self._world)[self._rank]

    def _draw(self, *key: int) -> int:
        return int(np.random.SeedSequence(self._seed, spawn_key=key).generate_state(1, np.uint32)[0])


def world() -> tuple[int, int]:
    """Return rank and number of processes; (0, 1) without a process group."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def average(gradients: list[Tensor]) -> None:
    """Put the mean over processes in the gradients' place, in one message."""
    processes = world()[1]
    if processes == 1:
        return
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    for gradient, mean in zip(gradients, (flat / processes).split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def _check_batch(batch_size: int, parts: int, processes: int) -> None:
    """Every process needs two images in every part of its batch; 0 parts: any number will do."""
    if not parts:
        return
    least = 2 * parts * processes
    split = "" if parts == 1 else f" in each of {parts} parts (method.splits)"
    share = "" if processes == 1 else f" in each of {processes} processes"
    if batch_size < least:
        raise ValueError(
            f"train.batch_size={batch_size} is too small for this method, which compares images{split}{share}: "
            f"give {least} at least"
        )
    if batch_size % (parts * processes):
        raise ValueError(
            f"train.batch_size={batch_size} does not share out{split}{share}: give a multiple of {parts * processes}"
        )


def _check_micro(images: int, micro_batches: int, parts: int) -> None:
    """Every micro-batch needs as many images as the others, and two in every part."""
    if images % (micro_batches * max(parts, 1)) or images < 2 * parts * micro_batches:
        raise ValueError(
            f"train.micro_batches={micro_batches} does not share out a batch of {images} images: lower it, or raise "
            f"train.batch_size to a multiple of it"
        )


def _check_share(count: int, processes: int) -> None:
    if count % processes:
        raise ValueError(f"a batch of {count} does not share out among {processes} processes")
