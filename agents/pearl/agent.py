"""PEARL's agent: SAC on (observation, task latent), the latent inferred from a context of transitions."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rlrep.contract.agent import AgentSpec
from rlrep.contract.env import Task
from rlrep.contract.meta import Job, Stage, Trajectory
from rlrep.heads import Head, Metrics
from rlrep.nn.distributions import sample_squashed
from rlrep.nn.graph import compiled
from rlrep.nn.optim import FusedAdam
from rlrep.replay import Batch, Needs, TaskReplay, TaskSpec, Transitions

from ..heads import pull_of
from ..learner import Due, Inputs, Learner, Outcome, trained
from ..meeting import Owned
from ..sac.networks import Actor, TwinQ
from ..sac.update import actor_gradients
from .networks import ContextEncoder, Networks, RecurrentEncoder, Value
from .settings import PEARLSettings
from .update import Weights, critic_gradients, diagnose, value_gradients

Array = NDArray[Any]


class PEARL(Learner[Networks, TaskReplay]):
    """See `rlrep.contract.agent.MetaAgent`."""

    def __init__(self, config: PEARLSettings, spec: AgentSpec) -> None:
        self.config, self._seed, self.tasks = config, spec.seed, len(spec.tasks)
        self.title = f"PEARL (context={config.context}{', not compiled' if config.context == 'recurrent' else ''})"
        self.action_dim = int(np.prod(spec.action_space.shape))
        self.target_entropy = -float(self.action_dim) if config.target_entropy is None else config.target_entropy
        self.latent_dim = {"oracle": len(spec.tasks[0].vector), "none": 0}.get(config.context, config.latent_dim)
        self.meta_batch = min(config.meta_batch, self.tasks)
        self._vectors = torch.tensor([task.vector for task in spec.tasks], dtype=torch.float32, device=spec.device)
        self._weights = Weights(config.kl_weight, config.kl_reduction, config.critic_to_context)
        super().__init__(
            spec,
            partial(_make_networks, config, spec, self.action_dim, self.latent_dim),
            lambda nets: _make_heads(config, spec),
            lambda needs: TaskReplay(_layout(self, spec), device=self.device, seed=spec.seed + 1, needs=needs),
            pull=config.pull,
            precision=config.precision,
        )
        self._drawn = 2 if self.nets.v is None else 3  # actions that an update draws for each row
        self._make_optimisers()
        # A GRU is one kernel already, and cannot be traced through.
        mode = "off" if config.context == "recurrent" else spec.compile
        self._critic_gradients = compiled(critic_gradients, mode)
        self._actor_gradients = compiled(actor_gradients, mode)
        self._value_gradients = compiled(value_gradients, mode)

    # Acting

    def act(self, obs: Array, latent: Array, noise: Array | None = None) -> NDArray[np.float32]:
        """Return actions `(N, A)` for observations `(N, S)` and latents `(N, D)`: the policy's mean, or its sample by
        standard normal noise `(N, A)`."""
        with torch.no_grad():
            seen = torch.as_tensor(np.concatenate([obs, latent], 1), dtype=torch.float32, device=self.device)
            mean, log_std = self.nets.actor(self.nets.encoder.body(seen))
            if noise is None:
                return self._to_env(mean.tanh())
            drawn = torch.as_tensor(noise, dtype=torch.float32, device=self.device)
            return self._to_env(sample_squashed(mean, log_std, drawn)[0])

    def train_latent(self, task: int, noise: Array, *, informed: bool) -> Array:
        """Return a latent `(D,)` for a training task: of the prior, or (informed) of the belief by its context.

        noise: standard normal `(D,)`. While the task has no context, its belief is the prior.
        """
        if self.config.context == "oracle":
            return self._to_env(self._vectors[task])
        if not (informed and self.config.infers and self.replay.has_context(task)):
            return noise
        return self._sample_belief(self.replay.context(torch.tensor([task], device=self.device)), noise)

    def test_latent(self, task: Task, episodes: Sequence[Trajectory], noise: Array) -> Array:
        """Return a latent `(D,)` for a task of evaluation, from all transitions seen of it (none: of the prior; a
        recurrent encoder reads the last `context_size`)."""
        if self.config.context == "oracle":
            return np.array(task.vector, np.float32)
        if not (self.config.infers and episodes):
            return noise
        context = self._context_of(episodes)
        if self.config.context == "recurrent":  # it has learnt to read so many transitions, the latest say most
            context = Transitions(*(part[:, -self.config.context_size :] for part in _fields(context)))
        return self._sample_belief(context, noise)

    def beliefs(self, contexts: Sequence[Trajectory]) -> tuple[Array, Array] | None:
        """Return means and variances `(R, D)` of the beliefs by R contexts of equal length, None if it infers nothing.

        Draws nothing, changes nothing.
        """
        if not self.config.infers:
            return None
        parts = [self._context_of([context]) for context in contexts]
        joined = Transitions(*(torch.cat(fields) for fields in zip(*map(_fields, parts), strict=True)))
        with torch.no_grad():
            belief = self.nets.posterior(joined)
        return self._to_env(belief.mean), self._to_env(belief.var)

    def _sample_belief(self, context: Transitions, noise: Array) -> Array:
        with torch.no_grad():
            belief = self.nets.posterior(context)
            return self._to_env(belief.sample(torch.as_tensor(noise, dtype=torch.float32, device=self.device))[0])

    def _context_of(self, episodes: Sequence[Trajectory]) -> Transitions:
        """All transitions of episodes as one context `(1, W)`."""
        parts = (
            [episode.obs[:-1] for episode in episodes],
            [episode.action for episode in episodes],
            [episode.context_reward for episode in episodes],
            [episode.obs[1:] for episode in episodes],
        )
        return Transitions(*(torch.as_tensor(np.concatenate(part)[None], device=self.device) for part in parts))

    # Experience

    def plan(self, iteration: int, initial_steps: int) -> list[Job]:
        """Return what to collect: in iteration 0 `initial_steps` of every task, then the stages of some tasks."""
        config = self.config
        if iteration == 0:
            return [Job(task, (Stage(initial_steps, informed=False, context=True),)) for task in range(self.tasks)]
        stages = (
            Stage(config.prior_steps, informed=False, context=True),
            Stage(config.posterior_steps, informed=True, context=True),
            Stage(config.extra_steps, informed=True, context=False),
        )
        random = np.random.default_rng([self._seed, iteration])
        chosen = random.choice(self.tasks, min(config.tasks_per_iteration, self.tasks), replace=False)
        return [Job(int(task), tuple(stage for stage in stages if stage.steps)) for task in chosen]

    def begin(self, job: Job) -> None:
        """Take note that a task is collected anew: its context begins empty."""
        self.replay.forget_context(job.task)

    def observe(self, task: int, episode: Trajectory, *, context: bool) -> None:
        """Store a whole episode of a task."""
        self.replay.add(task, episode, context=context)

    def ready(self) -> bool:
        """Whether enough tasks for an update have something to sample, and a context."""
        return len(self.replay.able()) >= self.meta_batch

    # Learning

    def _sample(self) -> Batch:
        able = self.replay.able()
        order = torch.randperm(len(able), generator=self._update_generator, device=self.device)
        return self.replay.sample(able[order[: self.meta_batch]], self.config.batch_size)

    def _draw_noise(self, batch: Batch) -> Tensor:
        """Standard normal, flat: `(2 or 3, T * B, A)` of the actions, `(T, D)` of the latents."""
        count = self._drawn * batch.action.numel() + self.meta_batch * self.latent_dim
        return torch.randn(count, generator=self._update_generator, device=self.device)

    def _due(self) -> Due:
        return ()

    def _run_step(self, inputs: Inputs, due: Due) -> Outcome:
        """Critic, context encoder and heads in one step, then value function, actor and temperature, then targets."""
        batch, flat = inputs
        config, nets = self.config, self.nets
        noise, latent_noise = self._split(batch, flat)
        critic, actor, alpha, *rest = self._optimisers
        with self._autocast():
            found = self._critic_gradients(
                nets,
                self._heads,
                self._owned,
                batch,
                self._given(batch),
                noise[0],
                latent_noise,
                self._weights,
            )
        critic.step(found.gradients)
        self._step_own(found.own)
        metrics = [found.metrics]
        acting = actor.parameters + alpha.parameters
        for value in rest:
            gradients, more = self._value_gradients(nets, value.parameters, found.latent, noise[2])
            value.step(gradients)
            metrics.append(more)
        with self._autocast():
            gradients, more = self._actor_gradients(
                nets,
                acting,
                found.features,
                found.latent,
                noise[1],
                self.target_entropy,
                config.temperature_loss,
                penalty=config.penalty,
            )
        actor.step(gradients[:-1])
        alpha.step(gradients[-1:])
        for target in (nets.target_q if nets.v is None else nets.target_v, nets.target_context):
            if target is not None:
                target.update()
        return Outcome([*metrics, more])

    def _given(self, batch: Batch) -> Tensor | None:
        """Return the latents `(T, D)` of a batch where they need not be inferred."""
        if self.config.infers:
            return None
        assert batch.tasks is not None
        return self._vectors[batch.tasks][:, : self.latent_dim]

    def _split(self, batch: Batch, flat: Tensor) -> tuple[Tensor, Tensor]:
        count = self._drawn * batch.action.numel()
        return flat[:count].view(self._drawn, *batch.action.shape), flat[count:].view(self.meta_batch, self.latent_dim)

    def _meters(self, batch: Batch, noise: Tensor) -> Metrics:
        if not self.config.infers:
            return {}
        drawn, latent_noise = self._split(batch, noise)
        return diagnose(self.nets, self._heads, self._owned, batch, drawn[0], latent_noise, self._weights)

    def describe(self) -> list[str]:
        """Return start-up lines: parameter counts, the meta-batch, and where the replay lives."""
        asked, line = self.config.meta_batch, f"{self.tasks} training tasks, {self.meta_batch} in an update"
        if asked > self.tasks:
            line += f" (agent.meta_batch={asked} is more than there are)"
        if self.config.infers:
            line += f", contexts of {self.config.context_size} transitions"
        first, *others = super().describe()
        return [first, line, *others]

    def _make_optimisers(self) -> None:
        """One owner per parameter: critic, context encoder and heads; the actor; the temperature; the value."""
        config, nets = self.config, self.nets
        encoder = [] if nets.context is None else trained(nets.context)
        self._owned = Owned(encoder, trained(nets.q), {name: trained(head) for name, head in self.heads.items()})
        self._own = self._own_optimisers(config.lr)
        self._optimisers = (
            FusedAdam(self._heads.joint(self._owned), config.lr),
            FusedAdam(list(nets.actor.parameters()), config.lr),
            FusedAdam([nets.log_alpha], config.alpha_lr),
            *([] if nets.v is None else [FusedAdam(trained(nets.v), config.lr)]),
        )

    def _to_env(self, tensor: Tensor) -> NDArray[np.float32]:
        return tensor.cpu().numpy()


def _fields(context: Transitions) -> tuple[Tensor, ...]:
    return context.obs, context.action, context.reward, context.next_obs


def _layout(agent: PEARL, spec: AgentSpec) -> TaskSpec:
    config = agent.config
    return TaskSpec(
        obs_dim=spec.observation_space.shape[0],
        action_dim=agent.action_dim,
        tasks=agent.tasks,
        capacity=config.capacity,
        discount=config.discount,
        context_size=config.context_size if config.infers else 0,
        draw=config.context_draw,
        reward_scale=config.reward_scale,
    )


def _make_networks(
    config: PEARLSettings, spec: AgentSpec, action_dim: int, latent_dim: int, obs_shape: tuple[int, ...]
) -> Networks:
    (obs_dim,) = obs_shape
    encoder = spec.encoder.make((obs_dim + latent_dim,))
    width, layers = encoder.latent_dim, config.hidden_layers
    actor = Actor(
        spec.encoder.make_trunk(encoder.feature_dim),
        width,
        config.hidden_dim,
        action_dim,
        config.log_std_range,
        "clamp",
        hidden_layers=layers,
    )
    context = None
    if config.infers:
        kind = ContextEncoder if config.context == "set" else RecurrentEncoder
        sizes = config.context_hidden_dim, config.context_layers
        context = kind(obs_dim, action_dim, latent_dim, *sizes, next_obs=config.context_next_obs)
    return Networks(
        encoder,
        TwinQ(width, config.hidden_dim, action_dim, hidden_layers=layers),
        actor,
        context,
        Value(width, config.hidden_dim, layers) if config.value == "v" else None,
        temperature=config.initial_temperature,
        critic_tau=config.critic_tau,
        context_tau=config.context_tau,
    )


def _make_heads(config: PEARLSettings, spec: AgentSpec) -> dict[str, Head]:
    """Build every head on the task latent. Raises ValueError if one does not fit."""
    if spec.aux and not config.infers:
        raise ValueError(f"aux={','.join(spec.aux)} has no context encoder to train with context={config.context}")
    if config.infers and not (spec.aux or config.critic_to_context or config.kl_weight):
        raise ValueError(
            "nothing trains the context encoder: set agent.critic_to_context=true, agent.kl_weight above 0, or aux="
        )
    if spec.aux and not (config.critic_to_context or config.kl_weight):
        _check_pulls(config, spec)
    if spec.aux and len(spec.tasks) < 2:
        raise ValueError(f"aux={','.join(spec.aux)} tells tasks apart, and there is only one")
    heads = {}
    for name, head in spec.aux.items():
        if not hasattr(head, "make_context"):
            raise ValueError(
                f"aux={name} is for observations; agent=pearl takes heads on contexts, as aux=trajectory_contrast"
            )
        heads[name] = head.make_context(name, config.latent_dim, spec.horizon)
        _check_windows(name, heads[name].needs, spec.horizon)
        if config.context == "recurrent":
            _check_order(name, head, heads[name].needs)
    return heads


def _check_pulls(config: PEARLSettings, spec: AgentSpec) -> None:
    """Refuse to balance heads against an RL loss that never reaches the context encoder."""
    for name, head in spec.aux.items():
        if (pull_of(head) or config.pull) == "balanced":
            raise ValueError(
                f"aux.{name}.pull=balanced has nothing to be balanced against with agent.critic_to_context=false and "
                f"agent.kl_weight=0: choose own or sum"
            )


def _check_order(name: str, head: Any, needs: Needs) -> None:
    """Refuse what a recurrent encoder, whose one Gaussian depends on the order of a window, would make senseless."""
    if getattr(head, "positives", None) == "per_transition":
        raise ValueError(
            f"aux.{name}.positives=per_transition needs a Gaussian per transition: choose agent.context=set"
        )
    if needs.windows is not None and not needs.windows.ordered:
        raise ValueError(f"agent.context=recurrent reads windows in their order: set aux.{name}.ordered=true")


def _check_windows(name: str, needs: Needs, horizon: int) -> None:
    asked = needs.windows
    if asked is not None and asked.least_episode > horizon:
        what = f"two disjoint windows of {asked.length}" if asked.disjoint else f"a window of {asked.length}"
        raise ValueError(
            f"aux.{name}: {what} transitions are longer than the episodes ({horizon} steps): "
            f"set aux.{name}.window lower"
        )
