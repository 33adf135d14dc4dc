"""Soft actor-critic with auxiliary heads on the critic's encoder."""

import math
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean
from time import perf_counter
from typing import Any, Literal

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor, nn

from rlrep.aux import AuxConfig, AuxTask, fitted
from rlrep.nn import EncoderConfig, init_orthogonal
from rlrep.nn.distributions import sample_squashed
from rlrep.nn.graph import CompileMode, GraphedStep, compiled
from rlrep.nn.optim import FusedAdam
from rlrep.replay import Batch, Replay, ReplaySpec
from rlrep.views import View

from .networks import Actor, TwinQ
from .update import Networks, Scalars, TemperatureLoss, actor_gradients, critic_gradients, diagnose


@dataclass(frozen=True)
class SACConfig:
    """Settings of `agent=sac`; the YAML cites each paper's values.

    lr: of actor, critic, encoder and heads. batch_size, capacity: transitions. n_step: of the TD target.
    critic_tau, encoder_tau: weight of the new value in the target networks, every `target_every` updates.
    actor_every: updates.
    target_entropy: nats; None = minus the action dimension. temperature_loss: see `TemperatureLoss`.
    log_std_bound: tanh-`squash` (SAC-AE) or `clamp` into log_std_range.
    init: `orthogonal` (SAC-AE, CURL) or `torch` (the layers' own default, as Stable-Baselines3).
    precision: `bf16` runs the losses under autocast; parameters and optimisers stay float32.
    """

    hidden_dim: int = 1024
    batch_size: int = 512
    capacity: int = 100_000
    discount: float = 0.99
    n_step: int = 1
    lr: float = 1e-3
    alpha_lr: float = 1e-4
    alpha_beta1: float = 0.5
    initial_temperature: float = 0.1
    temperature_loss: TemperatureLoss = "alpha"
    target_entropy: float | None = None
    critic_tau: float = 0.01
    encoder_tau: float = 0.05
    target_every: int = 2
    actor_every: int = 2
    log_std_range: tuple[float, float] = (-10.0, 2.0)
    log_std_bound: Literal["squash", "clamp"] = "squash"
    init: Literal["orthogonal", "torch"] = "orthogonal"
    precision: Literal["float32", "bf16"] = "float32"

    def make(
        self,
        observation_space: spaces.Box,
        action_space: spaces.Box,
        *,
        frame_stack: int,
        num_envs: int,
        encoder: EncoderConfig,
        augment: View,
        aux: Mapping[str, AuxConfig],
        device: torch.device,
        seed: int,
        compile: CompileMode,
    ) -> "SAC":
        """Build the agent. Raises ValueError for discrete actions, or heads on an encoder without parameters."""
        if not isinstance(action_space, spaces.Box):
            raise ValueError(f"agent=sac needs continuous actions, this environment has {action_space}")
        if not ((action_space.low == -1).all() and (action_space.high == 1).all()):
            raise ValueError(
                f"agent=sac acts in [-1, 1], this environment in {action_space}: wrap it in gymnasium's RescaleAction"
            )
        return SAC(
            self, observation_space, action_space, frame_stack, num_envs, encoder, augment, aux, device, seed, compile
        )


class SAC:
    """The agent of one run: networks, optimisers, replay and random streams. See `rlrep.runtime.protocols.Agent`."""

    def __init__(
        self,
        config: SACConfig,
        observation_space: spaces.Box,
        action_space: spaces.Box,
        frame_stack: int,
        num_envs: int,
        encoder: EncoderConfig,
        augment: View,
        aux: Mapping[str, AuxConfig],
        device: torch.device,
        seed: int,
        compile: CompileMode,
    ) -> None:
        self.config, self.device, self.updates = config, device, 0
        self.augment, self.action_space = augment, action_space
        self.action_dim = int(np.prod(action_space.shape))
        self.target_entropy = -float(self.action_dim) if config.target_entropy is None else config.target_entropy
        self._channels = observation_space.shape[0] // frame_stack
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            shape = _view_shape(augment, observation_space)
            self.nets = _make_networks(config, encoder, shape, self.action_dim)
            latent_dim = self.nets.encoder.latent_dim
            heads = {name: fitted(head, shape).make(name, latent_dim, action_space) for name, head in aux.items()}
        self.heads = nn.ModuleDict(heads).to(device)  # type: ignore[arg-type]  # heads are modules
        self.nets.to(device)
        self._tasks: dict[str, AuxTask] = heads
        self.head_weights = {name: head.weight for name, head in aux.items()}
        if heads and not list(self.nets.encoder.parameters()):
            raise ValueError(
                f"aux={','.join(heads)} has no encoder to train: choose encoder=mlp instead of encoder=identity"
            )
        needs = {name: head.needs for name, head in heads.items()}
        self.views = {name: need.view or augment for name, need in needs.items()}
        self.replay = Replay(
            self._replay_spec(observation_space, frame_stack, num_envs), device=device, seed=seed + 1, needs=needs
        )
        self.rings = self.replay.rings
        self._act_generator, self._update_generator = (torch.Generator(device).manual_seed(seed + k) for k in (2, 3))
        self._make_optimisers()
        self._critic_gradients = compiled(critic_gradients, compile)
        self._actor_gradients = compiled(actor_gradients, compile)
        self._step = GraphedStep(self._run_step) if compile == "cudagraph" else self._run_step
        self._sums: dict[tuple[str, ...], tuple[Tensor, int]] = {}
        self._last: tuple[Batch, Tensor] | None = None
        self._last_metrics: list[Scalars] = []
        self._sample_seconds: list[float] = []

    def act(self, obs: NDArray[Any], *, explore: bool) -> NDArray[np.float32]:
        """Return actions `(N, A)` for stacked observations `(N, ...)`: a sample of the policy, or its mean."""
        with torch.no_grad():
            view = self.augment.fixed(torch.as_tensor(obs, device=self.device))
            mean, log_std = self.nets.actor(self.nets.encoder.body(view))
            if not explore:
                return self._to_env(mean.tanh())
            noise = torch.randn(mean.shape, generator=self._act_generator, device=self.device)
            return self._to_env(sample_squashed(mean, log_std, noise)[0])

    def random_actions(self, count: int) -> NDArray[np.float32]:
        """Return uniform actions `(count, A)`."""
        uniform = torch.rand((count, self.action_dim), generator=self._act_generator, device=self.device)
        return self._to_env(2 * uniform - 1)

    def begin(self, obs: NDArray[Any]) -> None:
        """Take the first observations `(N, ...)` of new episodes."""
        self.replay.begin(self._newest(obs))

    def observe(self, action: NDArray[Any], step: Any) -> None:
        """Store one vector step (a `rlrep.runtime.protocols.Step`)."""
        self.replay.add(
            action.astype(np.float32, copy=False),
            step.reward,
            step.terminated,
            step.truncated,
            self._newest(step.final_obs),
            self._newest(step.obs),
            step.died,
        )

    def ready(self) -> bool:
        """Whether an update has something to sample."""
        return self.replay.can_sample()

    def update(self) -> None:
        """Make one update: sample, view, critic and heads in one step, then actor and temperature, then the targets."""
        started = perf_counter()
        batch = self._view(self.replay.sample(self.config.batch_size))
        self._sample_seconds.append(perf_counter() - started)
        noise = torch.randn((2, *batch.action.shape), generator=self._update_generator, device=self.device)
        self.updates += 1
        due = (self.updates % self.config.actor_every == 0, self.updates % self.config.target_every == 0)
        self._last = (batch, noise)
        self._last_metrics = self._step((batch, noise), due)
        for task in self._tasks.values():
            task.after_update()
        for scalars in self._last_metrics:
            total, count = self._sums.get(scalars.names, (0, 0))
            self._sums[scalars.names] = (total + scalars.values, count + 1)

    def metrics(self) -> dict[str, float]:
        """Return means since the last call, and the gradient ratio and representation meters of the last batch."""
        means = {
            name: value
            for names, (total, count) in self._sums.items()
            for name, value in _read(names, total / count).items()
        }
        if self._sample_seconds:
            means["perf/sample_ms"] = 1000 * fmean(self._sample_seconds)
        self._sums, self._sample_seconds = {}, []
        return means | self._diagnose()

    def nonfinite(self) -> list[str]:
        """Name the terms of the last update that are NaN or infinite (reads from the device)."""
        bad = [scalars for scalars in self._last_metrics if not scalars.values.isfinite().all()]
        return [
            name
            for scalars in bad
            for name, value in _read(scalars.names, scalars.values).items()
            if not math.isfinite(value)
        ]

    def last_batch(self) -> dict[str, Tensor]:
        """Return the tensors of the last update's batch, to be saved with a crash report."""
        if self._last is None:
            return {}
        batch, noise = self._last
        plain = {name: getattr(batch, name) for name in ("obs", "action", "reward", "discount", "next_obs")}
        return plain | {"noise": noise}

    def describe(self) -> list[str]:
        """Return start-up lines: parameter counts, and where the replay lives."""
        count = sum(p.numel() for p in self.nets.parameters() if p.requires_grad)
        extra = sum(p.numel() for p in self.heads.parameters() if p.requires_grad)
        return [f"agent: SAC, {count:,} trained parameters and {extra:,} in heads", self.replay.describe()]

    def state(self) -> dict[str, Any]:
        """Return everything but the replay's rings."""
        return {
            "updates": self.updates,
            "nets": self.nets.state_dict(),
            "heads": self.heads.state_dict(),
            "optimisers": [optimiser.state() for optimiser in self._optimisers],
            "act_generator": self._act_generator.get_state(),
            "update_generator": self._update_generator.get_state(),
            "replay": self.replay.state(),
            "sums": [[list(names), total, count] for names, (total, count) in self._sums.items()],
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore `state()`; the rings are restored before. Raises RuntimeError on parameters of other names or
        shapes."""
        self.updates = state["updates"]
        self.nets.load_state_dict(state["nets"])
        self.heads.load_state_dict(state["heads"])
        for optimiser, saved in zip(self._optimisers, state["optimisers"], strict=True):
            optimiser.load_state(saved)
        self._act_generator.set_state(state["act_generator"])
        self._update_generator.set_state(state["update_generator"])
        self.replay.load_state(state["replay"])
        self._sums = {tuple(names): (total.to(self.device), count) for names, total, count in state["sums"]}

    def _run_step(self, inputs: tuple[Batch, Tensor], due: tuple[bool, bool]) -> list[Scalars]:
        """The whole update as one function of tensors; `due` says whether the actor and the targets move."""
        batch, noise = inputs
        train_actor, move_targets = due
        critic, actor, alpha = self._optimisers
        with self._autocast():
            found = self._critic_gradients(
                self.nets, self._tasks, self.head_weights, critic.parameters, batch, noise[0]
            )
        critic.step(found.gradients)
        metrics = [found.metrics]
        if train_actor:
            acting = actor.parameters + alpha.parameters
            with self._autocast():
                gradients, more = self._actor_gradients(
                    self.nets,
                    acting,
                    found.features,
                    found.latent,
                    noise[1],
                    self.target_entropy,
                    self.config.temperature_loss,
                )
            actor.step(gradients[:-1])
            alpha.step(gradients[-1:])
            metrics.append(more)
        if move_targets:
            self.nets.target_q.update()
            self.nets.target_encoder.update()
        return metrics

    def _view(self, batch: Batch) -> Batch:
        """Augment the RL batch, and every head's extra observations with the head's own view."""
        draw = self._update_generator
        extra = {name: fields.viewed(partial(self.views[name], generator=draw)) for name, fields in batch.extra.items()}
        return replace(
            batch, obs=self.augment(batch.obs, draw), next_obs=self.augment(batch.next_obs, draw), extra=extra
        )

    def _diagnose(self) -> dict[str, float]:
        """Recompute the last batch's losses for the gradient norms at the latent, and meter the representation. Draws
        nothing."""
        if self._last is None or not list(self.nets.encoder.parameters()):
            return {}
        batch, noise = self._last
        self.heads.eval()
        scalars = Scalars.stack(diagnose(self.nets, self._tasks, self.head_weights, batch, noise[0]))
        self.heads.train()
        return _read(scalars.names, scalars.values)

    def _autocast(self) -> Any:
        if self.config.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    def _make_optimisers(self) -> None:
        """One owner per parameter: critic, encoder and heads; the actor; the temperature."""
        config, nets = self.config, self.nets
        learned = [
            *(p for p in nets.encoder.parameters() if p.requires_grad),  # a frozen body has no owner
            *nets.q.parameters(),
            *(p for p in self.heads.parameters() if p.requires_grad),
        ]
        self._optimisers = (
            FusedAdam(learned, config.lr),
            FusedAdam(list(nets.actor.parameters()), config.lr),
            FusedAdam([nets.log_alpha], config.alpha_lr, beta1=config.alpha_beta1),
        )

    def _newest(self, obs: NDArray[Any]) -> NDArray[Any]:
        """The newest frame of stacked observations `(N, S*C, ...)`."""
        return obs[:, -self._channels :]

    def _to_env(self, action: Tensor) -> NDArray[np.float32]:
        return action.cpu().numpy()

    def _replay_spec(self, space: spaces.Box, frame_stack: int, num_envs: int) -> ReplaySpec:
        config = self.config
        return ReplaySpec(
            frame_shape=(self._channels, *space.shape[1:]),
            frame_dtype=torch.uint8 if space.dtype == np.uint8 else torch.float32,
            frame_stack=frame_stack,
            action_shape=(self.action_dim,),
            action_dtype=torch.float32,
            num_envs=num_envs,
            capacity=config.capacity,
            n_step=config.n_step,
            discount=config.discount,
        )


def _read(names: tuple[str, ...], values: Tensor) -> dict[str, float]:
    return dict(zip(names, values.tolist(), strict=True))


def _view_shape(augment: View, space: spaces.Box) -> tuple[int, ...]:
    """Shape of one observation after augmentation."""
    sample = torch.as_tensor(np.zeros((1, *space.shape), space.dtype))
    return tuple(augment.fixed(sample).shape[1:])


def _make_networks(
    config: SACConfig, encoder_config: EncoderConfig, obs_shape: tuple[int, ...], action_dim: int
) -> Networks:
    encoder = encoder_config.make(obs_shape)
    trunk = encoder_config.make_trunk(encoder.feature_dim)
    actor = Actor(trunk, encoder.latent_dim, config.hidden_dim, action_dim, config.log_std_range, config.log_std_bound)
    q = TwinQ(encoder.latent_dim, config.hidden_dim, action_dim)
    if config.init == "orthogonal":
        actor.layers.apply(init_orthogonal)
        q.apply(init_orthogonal)
    return Networks(
        encoder,
        q,
        actor,
        temperature=config.initial_temperature,
        encoder_tau=config.encoder_tau,
        critic_tau=config.critic_tau,
    )
