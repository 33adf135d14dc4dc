"""Updates of several runs as one computation: parameters are stacked, losses vmapped over the runs, and one gradient of
their sum holds every run's own. Draws, moments, step sizes and replay stay each run's.

Each run's modules hold views of the stacked parameters, so that acting, evaluation, checkpoints and updates alone go on
as they are.

Runs of fewer actions than the widest of them are padded: their parameters are views of a part of the stacked ones, the
rest of which is zero and stays so. What there is to know of padding, networks say (`rlrep.nn.actions`).
"""

import copy
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from itertools import groupby
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from rlrep.nn.actions import Choosing, action_axes
from rlrep.nn.graph import GraphedStep, refilled, tensors_of
from rlrep.nn.optim import FusedAdam

from .heads import Heads, Losses
from .learner import Inputs, Learner, Outcome, Update
from .meeting import Gradients, Owned, each_norm, scaled
from .meters import Scalars
from .optimisers import Optimisers

Found = TypeVar("Found")


class Joint:
    """Makes an update of each of several learners that are `alike`: as one, where the same parts of it are due."""

    def __init__(self) -> None:
        self._fleets: dict[tuple[int, ...], Fleet] = {}

    def update(self, learners: Sequence[Learner[Any, Any]]) -> None:
        """Make one update of each."""

        def due(learner: Learner[Any, Any]) -> str:
            return repr(learner.step.due(learner.updates + 1))

        for _, group in groupby(sorted(learners, key=due), key=due):
            together = list(group)
            if len(together) == 1:
                together[0].update()
            else:
                self._fleet(together).update()

    def _fleet(self, learners: list[Learner[Any, Any]]) -> "Fleet":
        """Return the fleet of these learners; a new one leaves no other that any of them was in."""
        key = tuple(id(learner) for learner in learners)
        if key not in self._fleets:
            self._fleets = {ids: fleet for ids, fleet in self._fleets.items() if not set(ids) & set(key)}
            self._fleets[key] = Fleet(learners)
        return self._fleets[key]


class Fleet:
    """Learners whose updates are one computation, as long as their parameters stay where it put them."""

    def __init__(self, learners: Sequence[Learner[Any, Any]]) -> None:
        self._learners = tuple(learners)
        self.step = step = stacked([learner.step for learner in learners])
        for learner in learners:
            learner.moved()
        graphed = learners[0].spec.compile == "cudagraph"

        def run(inputs: Inputs, due: Any) -> Outcome:
            return step(*inputs, due)

        self._launch: Callable[[Inputs, Any], Outcome] = GraphedStep(run) if graphed else run

    def update(self) -> None:
        """Make one update of each: every learner's own draw, one computation, and what each keeps of it."""
        drawn = [learner.drawn() for learner in self._learners]
        (batch, _), due = drawn[0]
        flat = zip(*(tensors_of(own) for (own, _), _ in drawn), strict=True)
        outcome = self._launch(
            (refilled(batch, map(torch.stack, flat)), self._noise([own for (_, own), _ in drawn])), due
        )
        self.step.heads.after_update(batch)
        for index, learner in enumerate(self._learners):
            learner.take(_of_run(outcome, index))

    def _noise(self, drawn: Sequence[Tensor]) -> Tensor:
        """Stack what the runs drew, each as the widest of them would read it."""
        step: Any = self.step
        if len({noise.shape for noise in drawn}) > 1:
            drawn = [step.widened(noise, learner.step) for noise, learner in zip(drawn, self._learners, strict=True)]
        return torch.stack(list(drawn))


def _of_run(outcome: Outcome, index: int) -> Outcome:
    """Return what an update found of one run."""
    metrics = [Scalars(each.names, each.values[:, index]) for each in outcome.metrics]
    priorities = None if outcome.priorities is None else outcome.priorities[index]
    return replace(outcome, metrics=metrics, priorities=priorities)


def stacked(updates: Sequence[Update[Any]]) -> Update[Any]:
    """Return the update of R alike runs at once: batch, noise and outcome have a leading axis R.

    It is the widest run's, on modules whose parameters are stacked, `(R, ...)`; those of the runs become views of them.
    """
    runs = [_Whole(each.nets, each.heads.modules) for each in updates]
    widest = max(range(len(runs)), key=lambda run: sum(own.numel() for own in runs[run].parameters()))
    first: Any = updates[widest]
    nets, modules, balance = copy.deepcopy((first.nets, first.heads.modules, first.heads.balance))
    whole = _Whole(nets, modules)
    _stack(list(whole.parameters()), [list(run.parameters()) for run in runs])
    whole.mask(runs)
    _stack(list(balance.buffers()), [list(each.heads.balance.buffers()) for each in updates])
    balance.norms, balance.mass = balance.norms.T, balance.mass.T  # by name, as alone
    heads = first.heads.over(dict(modules.items()), _weights(updates), balance)
    at = {id(own): joined for own, joined in zip(runs[widest].parameters(), whole.parameters(), strict=True)}
    optimisers = JoinedOptimisers(first.optimisers, [each.optimisers for each in updates], heads, whole, at)
    together: Update[Any] = replace(first, nets=nets, heads=heads, optimisers=optimisers)
    return together


class _Whole(nn.Module):
    """All modules of an update; called, it calls a function while its parameters may be replaced."""

    def __init__(self, nets: nn.Module, heads: nn.Module) -> None:
        super().__init__()
        self.nets, self.heads, self._masks = nets, heads, set[str]()

    def forward(self, function: Callable[..., Found], *inputs: Any) -> Found:
        return function(*inputs)

    def mask(self, runs: Sequence[nn.Module]) -> None:
        """Say which actions each of the runs has, where that differs."""
        for name, module in self.named_modules():
            if isinstance(module, Choosing):
                counts = [run.get_submodule(name).actions for run in runs]
                if len(set(counts)) > 1:
                    device = next(module.parameters()).device
                    module.real = (
                        torch.arange(module.actions, device=device) < torch.tensor(counts, device=device)[:, None]
                    )
                    self._masks.add(f"{name}.real")

    def of_runs(self) -> dict[str, Tensor]:
        """Return by name what every run has its own of: `(R, ...)`."""
        masks = {name: buffer for name, buffer in self.named_buffers() if name in self._masks}
        return {**dict(self.named_parameters()), **masks}


@torch.no_grad()
def _stack(joined: Sequence[Tensor], own: Sequence[Sequence[Tensor]]) -> None:
    """Stack each run's tensors in `joined`, and make them views of it, laid out as they were (as are their moments).

    Where they are not of equal length along an axis, the memory goes along it last: the views then have no gaps, which
    Adam's kernel does not know.
    """
    for whole, parts in zip(joined, zip(*own, strict=True), strict=True):
        uneven = [axis for axis, sides in enumerate(zip(*(p.shape for p in parts), strict=True)) if len(set(sides)) > 1]
        like = whole.data
        for axis in uneven:
            like = like.movedim(axis, 0).contiguous().movedim(0, axis)
        whole.data = like.new_empty_strided((len(parts), *like.shape), (like.numel(), *like.stride())).zero_()
        for part, row in zip(parts, whole.data, strict=True):
            part.data = _part(row, part.shape).copy_(part)


def _part(padded: Tensor, shape: torch.Size) -> Tensor:
    """Return a run's own of a padded tensor."""
    return padded if padded.shape == shape else padded[tuple(map(slice, shape))]


def _weights(updates: Sequence[Update[Any]]) -> dict[str, Any]:
    """Return the heads' weights: a number where the runs have the same, else each run's `(R,)`."""
    found: dict[str, Any] = {}
    for name, weight in updates[0].heads.weights.items():
        every = [update.heads.weights[name] for update in updates]
        like = next(updates[0].nets.parameters())
        found[name] = weight if len(set(every)) == 1 else torch.tensor(every, dtype=like.dtype, device=like.device)
    return found


class JoinedAdam:
    """The Adams of R runs on stacked parameters, each by its own settings, moments and step counts."""

    def __init__(self, parameters: list[Tensor], adams: Sequence[FusedAdam]) -> None:
        self.parameters = parameters
        alike: dict[tuple[float, ...], list[int]] = {}
        for run, adam in enumerate(adams):
            adam.lay_out()
            alike.setdefault(adam.settings, []).append(run)
        self._groups = [(runs, FusedAdam.joined([adams[run] for run in runs])) for runs in alike.values()]

    def step(self, gradients: Sequence[Tensor], *, divisor: Tensor | None = None) -> None:
        """Apply gradients `(R, ...)`. divisor: of each run's `(R,)`."""
        if divisor is not None:
            gradients = [scaled(1 / divisor, gradient) for gradient in gradients]
        laid_out = map(_laid_out, gradients, self.parameters)
        rows = list(zip(*(gradient.unbind(0) for gradient in laid_out), strict=True))
        for runs, adam in self._groups:
            given = [row for run in runs for row in rows[run]]
            adam.step([_part(row, own.shape) for row, own in zip(given, adam.parameters, strict=True)])


def _laid_out(gradient: Tensor, parameter: Tensor) -> Tensor:
    """Return a gradient with its parameter's strides, by which Adam's kernel goes."""
    if gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter).copy_(gradient)


class JoinedOptimisers(Optimisers):
    """The optimisers of R runs, whose losses are computed as one and differentiated as their sum.

    whole: the modules with stacked parameters. at: the stacked ones by the `id` of those of the run that is `first`.
    """

    def __init__(
        self, first: Optimisers, each: Sequence[Optimisers], heads: Heads, whole: _Whole, at: Mapping[int, Tensor]
    ) -> None:
        def moved(own: Sequence[Tensor]) -> list[Tensor]:
            return [at[id(tensor)] for tensor in own]

        own = first.owned
        self._heads, self._whole, self._precision = heads, whole, first._precision
        self._own = first._own
        self._spec = replace(first._spec, compile="off")  # a vmapped update is replayed as a graph, or runs as it is
        parts = {name: moved(parameters) for name, parameters in own.heads.items()}
        self.owned = Owned(moved(own.encoder), moved(own.rl), parts)
        self.adams: Any = {
            name: JoinedAdam(moved(adam.parameters), [other.adams[name] for other in each])
            for name, adam in first.adams.items()
        }

    def _computed(self, losses: Callable[..., Found]) -> Callable[..., Found]:
        return partial(vmapped, self._whole, losses)

    def _excess(self, gradients: Gradients, max_norm: float) -> tuple[Tensor, Tensor]:
        norm = each_norm(gradients)
        return norm, (norm / max_norm).clamp(min=1)


def vmapped(whole: _Whole, losses: Callable[..., Found], *inputs: Any) -> Found:
    """Compute losses of every run on its own inputs and parameters, all of them stacked `(R, ...)`.

    The latent that is returned is the very tensor that the losses read, wherever its axis of runs is.
    """
    made: list[Found] = []
    seen: list[tuple[Tensor, int]] = []

    def one(parameters: dict[str, Tensor], tensors: list[Tensor]) -> list[Tensor]:
        found = functional_call(whole, parameters, (losses, *refilled(inputs, iter(tensors))))
        if isinstance(found, Losses):
            _Seen.apply(found.latent, seen)  # type: ignore[no-untyped-call]
        made.append(found)
        return tensors_of(found)

    results = vmap(one)(whole.of_runs(), tensors_of(inputs))
    found: Any = refilled(made[0], iter(results))
    return replace(found, latent=seen[0][0], runs_at=seen[0][1]) if seen else found  # type: ignore[no-any-return]


class _Seen(torch.autograd.Function):
    """Shows the tensor behind a vmapped one, by which gradients can be taken outside."""

    @staticmethod
    def forward(tensor: Tensor, seen: list[tuple[Tensor, int]]) -> Tensor:
        return tensor.view_as(tensor)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Nothing to keep: nobody goes back through it."""

    @staticmethod
    def vmap(info: Any, in_dims: Any, tensor: Tensor, seen: list[tuple[Tensor, int]]) -> tuple[Tensor, int]:
        seen.append((tensor, in_dims[0]))
        return tensor.view_as(tensor), in_dims[0]


def signature(learner: Learner[Any, Any], settings: Any) -> Hashable:
    """Return what must be equal in learners whose updates are computed as one.

    Raises ValueError, saying why in one line, for one that can be joined with none.
    """
    if not hasattr(learner.step, "__dataclass_fields__"):
        raise ValueError(f"the update of {learner.title} is no dataclass of its settings")
    for name, head in learner.heads.tasks.items():
        if not head.stacks or list(head.buffers()):
            raise ValueError(f"aux={name} keeps statistics or memory of its own")
    if learner.nets.state_dict().keys() - dict(learner.nets.named_parameters(remove_duplicate=False)).keys():
        raise ValueError("the encoder keeps statistics of batches")
    spec, shapes = learner.spec, _shapes(learner, padded=hasattr(learner.step, "widened"))
    own = [(spec.encoder.restored(), ()), *((each, each.per_run) for each in (settings, *spec.aux.values()))]
    shared = [_shared(config, differing) for config, differing in own]
    return type(learner.step), shapes, repr(learner.heads.pulls), repr(shared), spec.device, spec.compile


def _shapes(learner: Learner[Any, Any], *, padded: bool) -> Hashable:
    """Return what is to be equal of learners' parameters. padded: not how many actions they are for."""
    whole = _Whole(learner.nets, learner.heads.modules)
    free = action_axes(whole) if padded else {}
    return tuple(
        (name, *(side for axis, side in enumerate(p.shape) if free.get(name) != axis), p.dtype, p.requires_grad)
        for name, p in whole.named_parameters()
    )


def _shared(config: Any, own: Sequence[str]) -> str:
    """Return the settings of a component less those that are each run's own."""
    return repr([(field.name, getattr(config, field.name)) for field in fields(config) if field.name not in own])
