"""What every agent here is made of, and how its parts make an update: replay, views, the agent's own step, metrics."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean
from time import perf_counter
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Generator, Tensor, nn

from rlrep.contract.agent import AgentSpec
from rlrep.heads import Metrics
from rlrep.nn.graph import GraphedStep
from rlrep.replay import Batch, Needs, Ring
from rlrep.replay.generators import restore
from rlrep.replay.shared import Shared

from .heads import Heads, Losses
from .meeting import trained
from .meters import Means, Scalars
from .optimisers import Optimisers

N = TypeVar("N", bound=nn.Module)
N_co = TypeVar("N_co", bound=nn.Module, covariant=True)
Inputs = tuple[Batch, Tensor]
"""What an update computes on: a batch under its views, and standard normal noise."""
Sample = Callable[[], Batch]
Due = tuple[Sample, Any]
"""What an update does: how it samples, and which parts of it take place."""


@dataclass(frozen=True)
class Outcome:
    """What an update returns. priorities `(B,)`: of the batch's rows, for a replay that samples by them."""

    metrics: list[Scalars]
    priorities: Tensor | None = None


class Update(Protocol[N_co]):
    """What an agent's `update.py` gives: its networks, heads and optimisers, and what one update computes.

    draw: the update's random numbers, standard normal, in one tensor.
    due: which parts take place in update `number`; at most a few combinations, each a CUDA graph of its own.
    __call__: the whole update as one function of tensors, without host synchronisation.
    losses: those that train the encoder. Draws nothing, changes nothing.
    """

    heads: Heads
    optimisers: Optimisers

    @property
    def nets(self) -> N_co: ...
    def draw(self, batch: Batch, generator: Generator) -> Tensor: ...
    def due(self, number: int) -> Any: ...
    def __call__(self, batch: Batch, noise: Tensor, due: Any) -> Outcome: ...
    def losses(self, batch: Batch, noise: Tensor) -> Losses[Any]: ...


class Stored(Protocol):
    """What a learner asks of its replay, beside samples.

    needs: what it draws beside a batch, and for whom. stream: of every random number that it draws.
    shared: what a captured draw reads. outside: what keeps its draws out of a CUDA graph, in words.
    """

    rings: dict[str, Ring]
    needs: dict[str, Needs]
    stream: Generator
    shared: Shared

    @property
    def outside(self) -> list[str]: ...
    def describe(self) -> str: ...
    def state(self) -> dict[str, Any]: ...
    def load_state(self, tree: Mapping[str, Any]) -> None: ...


R = TypeVar("R", bound=Stored)


class Learner(ABC, Generic[N, R]):
    """An agent's parts, and what the loops ask of any agent (`rlrep.contract.agent.Trainee`) answered by them.

    The random numbers of acting and those of updates are two streams, so that neither depends on the other's number.
    """

    def __init__(self, title: str, spec: AgentSpec, step: Update[N], replay: R) -> None:
        self.title, self.spec, self.device, self.augment, self.updates = title, spec, spec.device, spec.augment, 0
        self.step, self.nets, self.heads, self.optimisers = step, step.nets, step.heads, step.optimisers
        self.replay, self.rings = replay, replay.rings
        self.views = {name: needs.view or spec.augment for name, needs in replay.needs.items()}
        self.act_stream, self.update_stream = (Generator(spec.device).manual_seed(spec.seed + k) for k in (2, 3))
        self.means = Means(spec.device)
        self.moved()
        self._last: Inputs | None = None
        self._meters_before: dict[str, float] = {}
        self._sample_seconds: list[float] = []

    # Learning

    def moved(self) -> None:
        """Record updates anew: parameters or moments lie elsewhere than a CUDA graph remembers."""
        self._launch: Callable[[Inputs, Any], Outcome] = self._run
        self._whole: GraphedStep[tuple[()], Due, tuple[Inputs, Outcome]] | None = None
        if self.spec.compile == "cudagraph":
            self.record(GraphedStep)

    def update(self) -> None:
        """Make one update."""
        self.updates += 1
        self._advance(self._sample, self.step.due(self.updates))

    def _advance(self, sample: Sample, due: Any) -> None:
        """Sample, view, take the agent's step, and what the heads (whose pairs were drawn) and the replay keep of
        it."""
        if self._whole is None:
            self._last, outcome = self._one((), (sample, due))
        else:
            if self.replay.shared.refresh(self.replay.stream.device):
                self._whole.forget()
            self._last, outcome = self._whole((), (sample, due))
        self.heads.after_update(self._last[0], stateless=False)
        self.means.count(outcome.metrics)

    def _one(self, _: tuple[()], key: Due) -> tuple[Inputs, Outcome]:
        """All of an update that is computed where the parameters are."""
        sample, due = key
        inputs = self._drawn(sample)
        outcome = self._launch(inputs, due)
        self.heads.after_update(inputs[0], stateless=True)
        self._learnt(inputs[0], outcome)
        self.means.sum(outcome.metrics)
        return inputs, outcome

    def record(self, graphs: type[GraphedStep[Any, Any, Any]]) -> None:
        """Replay updates as CUDA graphs from now on, where a draw must stay outside without it."""
        if self.outside:
            self._launch = graphs(self._run)
        else:
            self._whole = graphs(self._reading, (self.replay.stream, self.update_stream))

    def _reading(self, _: tuple[()], key: Due) -> tuple[Inputs, Outcome]:
        with self.replay.shared.reading():
            return self._one((), key)

    @property
    def outside(self) -> list[str]:
        """What keeps the draw out of a CUDA graph of the update, in words."""
        used = (self.augment, *self.views.values())
        views = {type(view).__name__: getattr(view, "capturable", False) for view in used}
        return self.replay.outside + [name for name, capturable in views.items() if not capturable]

    def drawn(self) -> tuple[Inputs, Any]:
        """Begin an update: return what it computes on, and what is due in it."""
        self.updates += 1
        self._last = self._drawn(self._sample)
        return self._last, self.step.due(self.updates)

    def take(self, outcome: Outcome) -> None:
        """End the update: keep what it found."""
        assert self._last is not None
        self._learnt(self._last[0], outcome)
        self.means.add(outcome.metrics)

    def _drawn(self, sample: Sample) -> Inputs:
        started = perf_counter()
        batch = self._view(sample())
        self._sample_seconds.append(perf_counter() - started)
        return batch, self.step.draw(batch, self.update_stream)

    @abstractmethod
    def _sample(self) -> Batch:
        """Draw the update's batch."""

    def _run(self, inputs: Inputs, due: Any) -> Outcome:
        return self.step(*inputs, due)

    def _learnt(self, batch: Batch, outcome: Outcome) -> None:
        """Take back to the replay what the update found."""

    def _view(self, batch: Batch) -> Batch:
        """Augment the RL batch, and every head's extra observations with the head's own view."""
        draw = self.update_stream
        pairs = {name: found.viewed(partial(self.views[name], generator=draw)) for name, found in batch.pairs.items()}
        return replace(
            batch, obs=self.augment(batch.obs, draw), next_obs=self.augment(batch.next_obs, draw), pairs=pairs
        )

    # What is known of it

    def metrics(self) -> dict[str, float]:
        """Return means since the last call, and meters of the last batch's encoding."""
        means = self.means.read()
        if self._sample_seconds:
            means["perf/sample_ms"] = 1000 * fmean(self._sample_seconds)
        self._sample_seconds = []
        return means | self._diagnose()

    def _diagnose(self) -> dict[str, float]:
        """Recompute the last batch's losses for its meters; before the first update of a session they are as saved."""
        if self._last is None:
            return self._meters_before
        self.heads.modules.eval()
        meters = self._meters(*self._last)
        self.heads.modules.train()
        return Scalars.stack(meters).read() if meters else {}

    def _meters(self, batch: Batch, noise: Tensor) -> Metrics:
        """Return what is worth knowing of a batch's encoding. Draws nothing, changes nothing."""
        return self.optimisers.meters(self.step.losses(batch, noise))

    def nonfinite(self) -> list[str]:
        """Name the terms of the last update that are NaN or infinite (reads from the device)."""
        return self.means.nonfinite()

    def last_batch(self) -> dict[str, Tensor]:
        """Return the tensors of the last update's batch, to be saved with a crash report."""
        if self._last is None:
            return {}
        batch, noise = self._last
        plain = {name: getattr(batch, name) for name in ("obs", "action", "reward", "discount", "next_obs")}
        shown = {} if batch.context is None else {f"context_{name}": part for name, part in vars(batch.context).items()}
        return plain | shown | {"noise": noise}

    def describe(self) -> list[str]:
        """Return start-up lines: parameter counts, and where the replay lives."""
        count, extra = (sum(p.numel() for p in trained(module)) for module in (self.nets, self.heads.modules))
        lines = [f"agent: {self.title}, {count:,} trained parameters and {extra:,} in heads", self.replay.describe()]
        if self.spec.compile == "cudagraph":
            kept = f"; before it the draw, which stays outside: {', '.join(self.outside)}" if self.outside else ""
            lines.append(f"update: one CUDA graph{kept}")
        return lines

    def state(self) -> dict[str, Any]:
        """Return everything but the replay's rings."""
        return {
            "updates": self.updates,
            "nets": self.nets.state_dict(),
            "heads": self.heads.modules.state_dict(),
            "balance": self.heads.balance.state_dict(),
            "optimisers": self.optimisers.state(),
            "act_generator": self.act_stream.get_state(),
            "update_generator": self.update_stream.get_state(),
            "replay": self.replay.state(),
            "sums": self.means.state(),
            "meters": self._diagnose(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore `state()`; the rings are restored before. Raises RuntimeError on parameters of other names or
        shapes."""
        self.updates = state["updates"]
        self.nets.load_state_dict(state["nets"])
        self.heads.modules.load_state_dict(state["heads"])
        self.heads.balance.load_state_dict(state["balance"])
        self.optimisers.load_state(state["optimisers"])
        restore(self.act_stream, state["act_generator"])
        restore(self.update_stream, state["update_generator"])
        self.replay.load_state(state["replay"])
        self.means.load_state(state["sums"])
        self._meters_before = state.get("meters", {})


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw weights in this block by the seed alone, and leave the global stream as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
