"""A party's round: a pure function of what all parties know, of its rows, the weights received and what it keeps."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

import torch
from torch import Tensor

from rlrep.contrast import MemoryQueue
from rlrep.nn import EncoderConfig
from rlrep.process.seeds import Seeds
from rlrep.settings import one_line
from rlrep.ssl import Learner, Method, MethodConfig, OptimiserConfig
from rlrep.ssl.base import seen_shape
from rlrep.ssl.data import DataConfig, ImageData
from rlrep.ssl.learner import plan

from .average import Weights
from .local import LocalMethod
from .partitions import Partition

_PRIVATE, _PREVIOUS = "private", "previous"
_STREAMS = ("sampler", "balanced")


@dataclass(frozen=True)
class Setup:
    """What all parties know. epochs: over its own images, of a party in one round. seed: the run's.

    classes: how many all images have, of which a party may see a few.
    """

    method: MethodConfig
    data: DataConfig
    encoder: EncoderConfig
    optimiser: OptimiserConfig
    partition: Partition
    parties: int
    rounds: int
    epochs: int
    batch_size: int
    label: str | None
    seed: int
    precision: Literal["float32", "bf16"]
    micro_batches: int
    classes: int

    def deal(self, data: ImageData) -> list[Tensor]:
        """Return each party's rows. Raises ValueError if the data cannot be dealt so."""
        return self.partition.deal(data, self.parties, label=self.label, seed=self.seed)

    def learner(self, data: ImageData, party: int) -> Learner:
        """Return what trains on a party's images, with a fresh optimiser; a batch is never larger than the party.

        Raises ValueError if the parts do not fit each other.
        """
        batch = min(self.batch_size, len(data))
        learner = Learner(
            self.method,
            self.encoder.make(seen_shape(self.method.views, data.images)),
            data,
            optimiser=self.optimiser,
            length=plan(len(data), batch_size=batch, epochs=self.rounds * self.epochs, updates=None),
            label=self.label,
            seed=Seeds(self.seed).agent + party,
            gap=self.data.gap,
            precision=self.precision,
            micro_batches=self.micro_batches,
            classes=self.classes,
        )
        if learner.method.needs.index:
            raise ValueError("this method keeps something of every image, which parties do not share: choose another")
        return learner


@dataclass(frozen=True)
class Reply:
    """What a party sends back. kept: what it needs again in its next round. images: it has. metrics: means over its
    last epoch."""

    party: int
    weights: Weights
    kept: Weights
    images: int
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Lost:
    """A party that did not finish its round, and why."""

    party: int
    reason: str


def try_party(setup: Setup, data: ImageData, party: int, number: int, received: Weights, kept: Weights) -> Reply | Lost:
    """Do a party's round; whatever ends it costs this round of this party only."""
    try:
        return train_party(setup, data, party, number, received, kept)
    except Exception as error:
        return Lost(party, one_line(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}")


def train_party(setup: Setup, data: ImageData, party: int, number: int, received: Weights, kept: Weights) -> Reply:
    """Do a party's round: take the weights, train on its own images, give back weights and what it keeps.

    data: the party's. number: of the round, from 0. Raises ValueError if its loss is not finite.
    """
    learner = setup.learner(data, party)
    _load(setup, learner, number, received, kept)
    previous = _previous(kept)
    if isinstance(learner.method, LocalMethod):
        learner.method.begin(previous)
    rows = [_update(learner) for _ in range(setup.epochs * learner.length.updates_per_epoch)]
    if terms := learner.nonfinite():
        raise ValueError(f"{', '.join(terms)} not finite: try a lower optimiser.lr")
    last = rows[-learner.length.updates_per_epoch :]
    metrics = {name: fmean(row[name] for row in last) for name in last[-1]}
    return Reply(party, shared(learner.method), _kept(learner, previous), len(data), metrics)


def _update(learner: Learner) -> dict[str, float]:
    learner.update()
    return learner.metrics()


def shared(method: Method) -> dict[str, Tensor]:
    """Return what parties share of a method, detached copies: all but the queues of keys of their own images."""
    queues = _queues(method)
    return {name: value for name, value in _state(method) if not name.startswith(queues)}


def load_shared(method: Method, weights: Weights) -> None:
    """Put weights that were shared into a method."""
    body = _body(method)
    body.load_state_dict({**body.state_dict(), **weights})


def _body(method: Method) -> Method:
    return method.base if isinstance(method, LocalMethod) else method


def _state(method: Method) -> Iterator[tuple[str, Tensor]]:
    return ((name, value.detach().clone()) for name, value in _body(method).state_dict().items())


def _queues(method: Method) -> tuple[str, ...]:
    return tuple(f"{n}." for n, module in _body(method).named_modules() if isinstance(module, MemoryQueue))


def _load(setup: Setup, learner: Learner, number: int, received: Weights, kept: Weights) -> None:
    """Put the learner at the beginning of its round."""
    load_shared(learner.method, {**_inside(kept, _PRIVATE), **received})
    state = learner.state()
    streams = {name: _stream(_inside(kept, name), state[name]) for name in _STREAMS}
    learner.load_state({**state, **streams, "updates": number * setup.epochs * learner.length.updates_per_epoch})


def _stream(kept: Weights, fresh: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return a sampler's state: the one that was kept, or else a fresh one's."""
    if fresh is None or not kept:
        return fresh
    return {name: int(kept[name]) if isinstance(value, int) else kept[name] for name, value in fresh.items()}


def _previous(kept: Weights) -> list[Weights]:
    """Return the party's earlier networks, oldest first."""
    inside = _inside(kept, _PREVIOUS)
    numbers = sorted({int(name.partition(".")[0]) for name in inside})
    return [_inside(inside, str(number)) for number in numbers]


def _kept(learner: Learner, previous: Sequence[Weights]) -> dict[str, Tensor]:
    """Return what the party's next round needs: its samplers, its queues, and its networks so far."""
    state, method = learner.state(), learner.method
    memory = method.memory if isinstance(method, LocalMethod) else 0
    own = {name: value.detach().clone() for name, value in method.online.state_dict().items()}
    models = [*previous, own][-memory:] if memory else []
    groups: dict[str, Mapping[str, Any]] = {name: state[name] or {} for name in _STREAMS}
    queues = _queues(method)
    groups[_PRIVATE] = {name: value for name, value in _state(method) if name.startswith(queues)}
    groups |= {f"{_PREVIOUS}.{number}": model for number, model in enumerate(models)}
    return {f"{group}.{name}": torch.as_tensor(value) for group, held in groups.items() for name, value in held.items()}


def _inside(kept: Weights, group: str) -> dict[str, Tensor]:
    return {name[len(group) + 1 :]: value for name, value in kept.items() if name.startswith(f"{group}.")}
