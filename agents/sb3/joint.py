"""Heads beside the losses of a Stable-Baselines3 algorithm: their gradients join SB3's in the optimiser's own step.

SB3 computes its loss, its gradients and (DQN) clips these, all in `train()`, which stays as it is. When the optimiser
that owns the features extractor is about to step, a hook encodes the batch that the replay buffer has kept once more,
and adds the heads' gradients, as their pull says: one step on the sum of both. Right after it optimisers beside it
step, so that SB3's own stays what it would be without heads: one of its kind and learning rate on the parameters of
heads that join, and for a head with `pull=own` an Adam, at that learning rate times its weight.
"""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BaseModel, BasePolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn
from torch.optim import Optimizer

from rlrep.contrast import MomentumTarget
from rlrep.heads import Encoders, HeadConfig, Metrics, Pull
from rlrep.nn.optim import norm_excess
from rlrep.replay import Batch
from rlrep.views import View

from ..heads import AT_ENCODER, HeadLoss, Heads
from ..meeting import Gradients, Meeting, Owned, trained
from ..meters import ratio
from .replay import AuxBuffer, Drawn, Draws, single


class AuxModules(nn.Module):
    """What the heads learn or track, saved with the algorithm.

    network: whose features extractor they train. configs: by head name. optimizer: the extractor's, whose settings the
    heads' own have too. pull: of heads that name none. encoder_tau: EMA rate of their target encoder.
    Raises ValueError on a features extractor without parameters, and on heads that do not fit.
    """

    def __init__(
        self,
        network: BaseModel,
        configs: Mapping[str, HeadConfig],
        action_space: spaces.Space[Any],
        optimizer: Optimizer,
        *,
        pull: Pull,
        encoder_tau: float,
        obs_shape: tuple[int, ...],
    ) -> None:
        super().__init__()
        extractor = extractor_of(network)
        if not any(p.requires_grad for p in extractor.parameters()):
            raise ValueError(
                f"aux={','.join(configs)} has nothing to train: {type(extractor).__name__} has no parameters"
            )
        tasks = {
            name: config.fitted(obs_shape).make(name, extractor.features_dim, action_space)
            for name, config in configs.items()
        }
        self.joining = Heads(tasks, configs, pull)
        self.heads, self.balance = self.joining.modules, self.joining.balance
        self.target = MomentumTarget(extractor, encoder_tau)
        self.owned = self.joining.owned(trained(extractor), [])
        # By name as attributes, so that SB3 saves and loads them as it does its own optimisers.
        for name, parameters in self.joining.own(self.owned).items():
            chosen = {key: optimizer.defaults[key] for key in ("betas", "eps") if key in optimizer.defaults}
            setattr(self, f"adam_{name}", torch.optim.Adam(parameters, **chosen))
        joining = self.joining.joint(Owned([], [], self.owned.heads))
        self.joint = alike(optimizer, joining) if joining else None

    @property
    def own(self) -> dict[str, Optimizer]:
        """The optimisers of the heads that have one, by head name."""
        return {name: getattr(self, f"adam_{name}") for name in self.joining.pulling("own")}

    @property
    def optimizers(self) -> list[str]:
        """The names of the attributes that are optimisers."""
        return [*([] if self.joint is None else ["joint"]), *(f"adam_{name}" for name in self.own)]


class Joint:
    """Adds the heads' gradients to every step of the optimiser that owns the extractor.

    buffer: returns the replay buffer in use. gamma: SB3's discount. views: of each head's extra observations, None =
    as the RL batch's. max_norm: the joint gradient of heads with `pull=sum` is scaled down to it, None = never.
    """

    def __init__(
        self,
        network: BaseModel,
        modules: AuxModules,
        optimizer: Optimizer,
        buffer: Callable[[], AuxBuffer],
        draws: Draws,
        *,
        views: Mapping[str, View | None],
        gamma: float,
        max_norm: float | None,
    ) -> None:
        self._network, self._modules, self._buffer, self._draws = network, modules, buffer, draws
        self._views, self._gamma, self._max_norm = views, gamma, max_norm
        self._heads, self._owned = modules.joining, modules.owned
        self._own: dict[str, Gradients] = {}
        self._encoders = Encoders(self._encode, partial(self._encode, extractor=modules.target))
        self._sums: dict[str, Tensor] = {}
        self._count = 0
        optimizer.register_step_pre_hook(self._before_step)
        optimizer.register_step_post_hook(self._after_step)

    def read(self) -> dict[str, float]:
        """Return means of the metrics since the last call."""
        means = {name: float(total) / self._count for name, total in self._sums.items()}
        self._sums, self._count = {}, 0
        return means

    def losses(self, drawn: Drawn) -> tuple[dict[str, HeadLoss], Metrics]:
        """Return the heads' losses on a sample, unweighted, and their metrics."""
        batch = self._batch(drawn)
        return self._heads.losses(batch, self._encode(batch.obs), self._encoders, meet_at_latent=False)

    def _before_step(self, optimizer: Optimizer, args: Any, options: Any) -> None:
        drawn = self._buffer().last
        assert drawn is not None, "the optimiser steps on a batch"
        losses, metrics = self.losses(drawn)
        rl = tuple(torch.zeros_like(p) if p.grad is None else p.grad for p in self._owned.encoder)
        alone = {name: self._gradient(name, losses) for name in self._heads.pulling("own", "balanced")}
        self._own = {name: alone[name] for name in self._heads.pulling("own")}
        metrics |= self._add_balanced(alone, rl) | self._add_summed(losses, rl)
        for name, gradient in alone.items():
            at = gradient[: len(rl)]
            metrics[f"aux/{name}/grad_ratio_encoder"] = self._heads.factor_now(name, at, apart=True) * ratio(at, rl)
        self._keep(metrics)

    def _gradient(self, name: str, losses: Mapping[str, HeadLoss]) -> Gradients:
        """Return a head's gradient, by the extractor's parameters and its own."""
        parameters = self._owned.heads[name]
        return sum(Meeting(None, self._owned.encoder).split(losses[name].value, parameters, apart=True), ())

    def _add_balanced(self, alone: Mapping[str, Gradients], rl: Gradients) -> Metrics:
        """Add the gradients of balanced heads to SB3's; return their factors."""
        names, metrics = self._heads.pulling("balanced"), {}
        if names:
            self._heads.balance.observe(AT_ENCODER, rl)
        for name in names:
            gradient = alone[name]
            factor = self._heads.factor(name, gradient[: len(rl)], apart=True)
            _add([*self._owned.encoder, *self._owned.heads[name]], [factor * part for part in gradient])
            metrics[f"aux/{name}/factor"] = factor
        return metrics

    def _add_summed(self, losses: Mapping[str, HeadLoss], rl: Gradients) -> Metrics:
        """Add the gradient of the sum of the weighted losses of heads with `pull=sum` to SB3's; return its norm, and
        its ratio to SB3's by the extractor's parameters (of all of them together: one pass)."""
        names = self._heads.pulling("sum")
        if not names:
            return {}
        heads = [parameter for name in names for parameter in self._owned.heads[name]]
        parameters = [*self._owned.encoder, *heads]
        loss = torch.zeros((), device=parameters[0].device)
        for name in names:
            loss = loss + self._heads.weights[name] * losses[name].value
        found = torch.autograd.grad(loss, parameters, allow_unused=True)
        pairs = [(p, g) for p, g in zip(parameters, found, strict=True) if g is not None]
        norm, divisor = norm_excess([g for _, g in pairs], self._max_norm or math.inf)
        _add([p for p, _ in pairs], [g / divisor if self._max_norm else g for _, g in pairs])
        by_encoder = tuple(torch.zeros_like(r) if g is None else g for g, r in zip(found, rl, strict=False))
        entered = ratio(by_encoder, rl) / (divisor if self._max_norm else 1)
        return {"aux/gradient_norm": norm, "aux/grad_ratio_encoder": entered}

    def _step_own(self, lr: float) -> None:
        for name, optimizer in self._modules.own.items():
            for parameter, gradient in zip(optimizer.param_groups[0]["params"], self._own[name], strict=True):
                parameter.grad = gradient
            _step(optimizer, lr * self._heads.weights[name])

    def _after_step(self, optimizer: Optimizer, args: Any, options: Any) -> None:
        lr = optimizer.param_groups[0]["lr"]
        if self._modules.joint is not None:
            _step(self._modules.joint, lr)
        self._step_own(lr)
        for task in self._heads.tasks.values():
            task.after_update()
        self._modules.target.update()

    def _keep(self, metrics: Metrics) -> None:
        self._count += 1
        self._sums = {name: self._sums.get(name, 0) + value.detach() for name, value in metrics.items()}

    def _encode(self, obs: Tensor, extractor: nn.Module | None = None) -> Tensor:
        """Encode as SB3 does, with its own scaling of frames."""
        chosen = extractor_of(self._network) if extractor is None else extractor
        return self._network.extract_features(obs, chosen)  # type: ignore[arg-type]  # a copy of an extractor will do

    def _batch(self, drawn: Drawn) -> Batch:
        samples, buffer = drawn.samples, self._buffer()
        pairs = {name: found.viewed(partial(self._viewed, name)) for name, found in buffer.pairs(drawn).items()}
        discount = self._gamma if samples.discounts is None else samples.discounts.squeeze(1)
        discrete = isinstance(buffer.action_space, spaces.Discrete)
        return Batch(
            obs=single(samples.observations),
            action=samples.actions.squeeze(1).long() if discrete else samples.actions,
            reward=samples.rewards.squeeze(1),
            discount=(1 - samples.dones.squeeze(1)) * discount,
            next_obs=single(samples.next_observations),
            pairs=pairs,
        )

    def _viewed(self, name: str, obs: Tensor) -> Tensor:
        view = self._views[name]
        return obs if view is None else view(obs, self._draws.device)


def _add(parameters: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient


def _step(optimizer: Optimizer, lr: float) -> None:
    """Step at this learning rate, and forget the gradients (`zero_grad` takes a third of the time of a small step)."""
    (group,) = optimizer.param_groups
    group["lr"] = lr
    optimizer.step()
    for parameter in group["params"]:
        parameter.grad = None


def alike(optimizer: Optimizer, parameters: list[Tensor]) -> Optimizer:
    """Return an optimiser of the same kind and settings."""
    known = inspect.signature(type(optimizer)).parameters
    chosen = {name: value for name, value in optimizer.defaults.items() if name in known}
    return type(optimizer)(parameters, **chosen)


def extractor_of(network: BaseModel) -> BaseFeaturesExtractor:
    """Return a network's features extractor."""
    assert network.features_extractor is not None, "networks that learn values have one"
    return network.features_extractor


def owner(policy: BasePolicy, network: BaseModel) -> Optimizer:
    """Return the optimiser that steps a network's features extractor. Raises ValueError if none does."""
    wanted = {id(p) for p in extractor_of(network).parameters() if p.requires_grad}
    for module in policy.modules():
        optimizer = getattr(module, "optimizer", None)
        if isinstance(optimizer, Optimizer):
            owned = {id(p) for group in optimizer.param_groups for p in group["params"]}
            if wanted <= owned:
                return optimizer
    raise ValueError(f"no optimiser of {type(policy).__name__} steps the features extractor")
