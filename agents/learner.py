"""What every agent here does alike: heads on one encoding, replay, views, metrics, state."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean
from time import perf_counter
from typing import Any, Generic, Literal, Protocol, TypeVar

import torch
from torch import Tensor, nn

from rlrep.contract.agent import AgentSpec
from rlrep.heads import Head, Metrics, Pull
from rlrep.nn import Encoder
from rlrep.nn.graph import GraphedStep
from rlrep.nn.optim import FusedAdam
from rlrep.replay import Batch, Needs, Ring
from rlrep.replay.generators import restore

from .heads import Heads, Scalars
from .meeting import Gradients, Owned

Inputs = tuple[Batch, Tensor]
"""What an update computes on: a batch under its views, and standard normal noise."""
Due = tuple[bool, ...]
"""Which parts of an update take place this time; at most a few combinations, each a CUDA graph of its own."""
Precision = Literal["float32", "bf16"]


class Networks(nn.Module):
    """Everything an agent learns or tracks, apart from its heads."""

    encoder: Encoder


N = TypeVar("N", bound=Networks)


@dataclass(frozen=True)
class Outcome:
    """What a step returns. priorities `(B,)`: of the batch's rows, for a replay that samples by them."""

    metrics: list[Scalars]
    priorities: Tensor | None = None


class Stored(Protocol):
    """What a learner asks of its replay, beside samples."""

    rings: dict[str, Ring]

    def describe(self) -> str: ...
    def state(self) -> dict[str, Any]: ...
    def load_state(self, tree: Mapping[str, Any]) -> None: ...


R = TypeVar("R", bound=Stored)


class Learner(ABC, Generic[N, R]):
    """Networks, heads, optimisers, replay and random streams of one run. See `rlrep.contract.agent`.

    A subclass acts, samples, draws its noise, and says what one update computes; it sets `_owned` and `_optimisers`.
    """

    title: str
    _owned: Owned
    _optimisers: tuple[FusedAdam, ...]
    _own: dict[str, FusedAdam]

    def __init__(
        self,
        spec: AgentSpec,
        make_networks: Callable[[tuple[int, ...]], N],
        make_heads: Callable[[N], dict[str, Head]],
        make_replay: Callable[[Mapping[str, Needs]], R],
        *,
        pull: Pull,
        precision: Precision,
    ) -> None:
        self.device, self.augment, self.updates = spec.device, spec.augment, 0
        self._precision = precision
        with torch.random.fork_rng():
            torch.manual_seed(spec.seed)
            self.nets = make_networks(spec.view_shape)
            tasks = make_heads(self.nets)
        self.heads = nn.ModuleDict(tasks).to(self.device)  # type: ignore[arg-type]  # heads are modules
        self.nets.to(self.device)
        self._heads = Heads(tasks, spec.aux, pull)
        self._heads.balance.to(self.device)
        needs = {name: task.needs for name, task in tasks.items()}
        self.views = {name: need.view or self.augment for name, need in needs.items()}
        self.replay = make_replay(needs)
        self.rings = self.replay.rings
        self._act_generator, self._update_generator = (
            torch.Generator(self.device).manual_seed(spec.seed + k) for k in (2, 3)
        )
        self._step: Callable[[Inputs, Due], Outcome] = self._run_step
        if spec.compile == "cudagraph":
            self._step = GraphedStep(self._run_step)
        self._sums: dict[tuple[str, ...], tuple[Tensor, int]] = {}
        self._last: Inputs | None = None
        self._meters_before: dict[str, float] = {}
        self._last_metrics: list[Scalars] = []
        self._sample_seconds: list[float] = []

    # What a subclass gives

    @abstractmethod
    def _sample(self) -> Batch:
        """Draw the update's batch."""

    @abstractmethod
    def _draw_noise(self, batch: Batch) -> Tensor:
        """Draw the update's noise from `_update_generator`."""

    @abstractmethod
    def _due(self) -> Due:
        """Say what this update (number `updates`) does."""

    @abstractmethod
    def _run_step(self, inputs: Inputs, due: Due) -> Outcome:
        """Compute the whole update as one function of tensors, without host synchronisation."""

    @abstractmethod
    def _meters(self, batch: Batch, noise: Tensor) -> Metrics:
        """Return what is worth knowing of a batch's encoding. Draws nothing, changes nothing."""

    def _own_optimisers(self, lr: float, *, eps: float = 1e-8) -> dict[str, FusedAdam]:
        """Return an Adam for each head with `pull=own`, at its weight times `lr`."""
        return {
            name: FusedAdam(parameters, lr * self._heads.weights[name], eps=eps)
            for name, parameters in self._heads.own(self._owned).items()
        }

    def _step_own(self, gradients: Mapping[str, Gradients]) -> None:
        for name, gradient in gradients.items():
            self._own[name].step(gradient)

    # Learning

    def update(self) -> None:
        """Make one update: sample, view, the agent's step, and what the heads and the replay keep of it."""
        started = perf_counter()
        batch = self._view(self._sample())
        self._sample_seconds.append(perf_counter() - started)
        self._last = (batch, self._draw_noise(batch))
        self.updates += 1
        outcome = self._step(self._last, self._due())
        for task in self._heads.tasks.values():
            task.after_update()
        self._learnt(batch, outcome)
        self._keep(outcome.metrics)

    def _learnt(self, batch: Batch, outcome: Outcome) -> None:
        """Take back to the replay what the update found."""

    def _view(self, batch: Batch) -> Batch:
        """Augment the RL batch, and every head's extra observations with the head's own view."""
        draw = self._update_generator
        extra = {name: fields.viewed(partial(self.views[name], generator=draw)) for name, fields in batch.extra.items()}
        return replace(
            batch, obs=self.augment(batch.obs, draw), next_obs=self.augment(batch.next_obs, draw), extra=extra
        )

    def _autocast(self) -> Any:
        if self._precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    # What is known of it

    def _keep(self, metrics: list[Scalars]) -> None:
        self._last_metrics = metrics
        for scalars in metrics:
            total, count = self._sums.get(scalars.names, (0, 0))
            self._sums[scalars.names] = (total + scalars.values, count + 1)

    def metrics(self) -> dict[str, float]:
        """Return means since the last call, and meters of the last batch's encoding."""
        sums = [Scalars(names, total / count) for names, (total, count) in self._sums.items()]
        means = {name: value for scalars in sums for name, value in scalars.read().items()}
        if self._sample_seconds:
            means["perf/sample_ms"] = 1000 * fmean(self._sample_seconds)
        self._sums, self._sample_seconds = {}, []
        return means | self._diagnose()

    def _diagnose(self) -> dict[str, float]:
        """Recompute the last batch's losses for its meters; before the first update of a session they are as saved."""
        if self._last is None:
            return self._meters_before
        self.heads.eval()
        meters = self._meters(*self._last)
        self.heads.train()
        return Scalars.stack(meters).read() if meters else {}

    def nonfinite(self) -> list[str]:
        """Name the terms of the last update that are NaN or infinite (reads from the device)."""
        bad = [scalars for scalars in self._last_metrics if not scalars.values.isfinite().all()]
        return [name for scalars in bad for name, value in scalars.read().items() if not math.isfinite(value)]

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
        count = sum(p.numel() for p in self.nets.parameters() if p.requires_grad)
        extra = sum(p.numel() for p in self.heads.parameters() if p.requires_grad)
        return [f"agent: {self.title}, {count:,} trained parameters and {extra:,} in heads", self.replay.describe()]

    def state(self) -> dict[str, Any]:
        """Return everything but the replay's rings."""
        return {
            "updates": self.updates,
            "nets": self.nets.state_dict(),
            "heads": self.heads.state_dict(),
            "balance": self._heads.balance.state_dict(),
            "optimisers": [optimiser.state() for optimiser in self._all_optimisers()],
            "act_generator": self._act_generator.get_state(),
            "update_generator": self._update_generator.get_state(),
            "replay": self.replay.state(),
            "sums": [[list(names), total, count] for names, (total, count) in self._sums.items()],
            "meters": self._diagnose(),
        }

    def _all_optimisers(self) -> list[FusedAdam]:
        return [*self._optimisers, *self._own.values()]

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore `state()`; the rings are restored before. Raises RuntimeError on parameters of other names or
        shapes."""
        self.updates = state["updates"]
        self.nets.load_state_dict(state["nets"])
        self.heads.load_state_dict(state["heads"])
        self._heads.balance.load_state_dict(state["balance"])
        for optimiser, saved in zip(self._all_optimisers(), state["optimisers"], strict=True):
            optimiser.load_state(saved)
        restore(self._act_generator, state["act_generator"])
        restore(self._update_generator, state["update_generator"])
        self.replay.load_state(state["replay"])
        self._sums = {tuple(names): (total.to(self.device), count) for names, total, count in state["sums"]}
        self._meters_before = state.get("meters", {})


def trained(*modules: nn.Module) -> list[Tensor]:
    """Return the parameters that an optimiser owns: a frozen body's have none."""
    return [p for module in modules for p in module.parameters() if p.requires_grad]
