"""Heads beside the losses of a Stable-Baselines3 algorithm: their gradients join SB3's in the optimiser's own step.

SB3 computes its loss, its gradients and (DQN) clips these, all in `train()`, which stays as it is. When the optimiser
that owns the features extractor is about to step, a hook encodes the batch that the replay buffer has kept once more,
and adds the gradients of the weighted head losses: one step on the sum of both. Heads' parameters are a group of the
same optimiser, so that its learning rate, schedule and saved state are theirs too.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, cast

import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BaseModel, BasePolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn
from torch.optim import Optimizer

from rlrep.aux import AuxConfig, AuxTask, Encoders, Metrics, fitted
from rlrep.contrast import MomentumTarget
from rlrep.nn.optim import norm_excess
from rlrep.replay import Batch
from rlrep.views import View

from ..heads import Heads
from .replay import AuxBuffer, Drawn, Draws, single


class AuxModules(nn.Module):
    """What the heads learn or track, saved with the algorithm.

    network: whose features extractor they train. configs: by head name. encoder_tau: EMA rate of their target encoder.
    Raises ValueError on a features extractor without parameters, and on heads that do not fit.
    """

    def __init__(
        self,
        network: BaseModel,
        configs: Mapping[str, AuxConfig],
        action_space: spaces.Space[Any],
        *,
        encoder_tau: float,
        obs_shape: tuple[int, ...],
    ) -> None:
        super().__init__()
        extractor = extractor_of(network)
        if not any(p.requires_grad for p in extractor.parameters()):
            raise ValueError(
                f"aux={','.join(configs)} has nothing to train: {type(extractor).__name__} has no parameters"
            )
        for name, config in configs.items():
            if not hasattr(config, "make"):
                raise ValueError(
                    f"aux={name} tells tasks apart, so it needs a family of them: agent=pearl learns those"
                )
        tasks = {
            name: fitted(config, obs_shape).make(name, extractor.features_dim, action_space)
            for name, config in configs.items()
        }
        self.heads = nn.ModuleDict(tasks)  # type: ignore[arg-type]  # heads are modules
        self.target = MomentumTarget(extractor, encoder_tau)

    @property
    def tasks(self) -> dict[str, AuxTask]:
        """The heads by name."""
        return {name: cast(AuxTask, head) for name, head in self.heads.items()}


class Joint:
    """Adds the heads' gradients to every step of the optimiser that owns the extractor.

    buffer: returns the replay buffer in use. gamma: SB3's discount. views: of each head's extra observations, None =
    as the RL batch's. max_norm: the heads' joint gradient is scaled down to it, None = never.
    """

    def __init__(
        self,
        network: BaseModel,
        modules: AuxModules,
        weights: Mapping[str, float],
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
        self._heads = Heads(modules.tasks, weights)
        own = [p for p in modules.heads.parameters() if p.requires_grad]
        if own:
            optimizer.add_param_group({"params": own})
        self._parameters = [p for p in extractor_of(network).parameters() if p.requires_grad] + own
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

    def loss(self, drawn: Drawn) -> tuple[Tensor, Metrics]:
        """Return the sum of the weighted head losses on a sample, and their metrics."""
        batch = self._batch(drawn)
        latent = self._encode(batch.obs)
        return self._heads.add_to(latent.new_zeros(()), batch, latent, self._encoders)

    def _before_step(self, optimizer: Optimizer, args: Any, options: Any) -> None:
        drawn = self._buffer().last
        assert drawn is not None, "the optimiser steps on a batch"
        loss, metrics = self.loss(drawn)
        gradients = torch.autograd.grad(loss, self._parameters, allow_unused=True)
        pairs = [(p, g) for p, g in zip(self._parameters, gradients, strict=True) if g is not None]
        norm, divisor = norm_excess([g for _, g in pairs], self._max_norm or math.inf)
        for parameter, gradient in pairs:
            gradient = gradient / divisor if self._max_norm else gradient
            parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
        self._keep(metrics | {"aux/gradient_norm": norm})

    def _after_step(self, optimizer: Optimizer, args: Any, options: Any) -> None:
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
        extra = {name: fields.viewed(partial(self._viewed, name)) for name, fields in buffer.extra(drawn).items()}
        discount = self._gamma if samples.discounts is None else samples.discounts.squeeze(1)
        discrete = isinstance(buffer.action_space, spaces.Discrete)
        return Batch(
            obs=single(samples.observations),
            action=samples.actions.squeeze(1).long() if discrete else samples.actions,
            reward=samples.rewards.squeeze(1),
            discount=(1 - samples.dones.squeeze(1)) * discount,
            next_obs=single(samples.next_observations),
            extra=extra,
        )

    def _viewed(self, name: str, obs: Tensor) -> Tensor:
        view = self._views[name]
        return obs if view is None else view(obs, self._draws.device)


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
