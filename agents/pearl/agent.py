"""PEARL's agent: SAC on (observation, task latent), the latent inferred from a context of transitions."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rlrep.contract.agent import AgentSpec
from rlrep.contract.env import Array, Task
from rlrep.contract.meta import Job, Stage, Trajectory
from rlrep.contrast import effective_rank
from rlrep.heads import Head, HeadConfig, Metrics
from rlrep.nn.distributions import sample_squashed
from rlrep.nn.optim import FusedAdam
from rlrep.replay import Batch, Needs, TaskReplay, TaskSpec, Transitions, WindowSpec

from ..fleet import Joint, signature
from ..heads import Heads
from ..learner import Learner, seeded
from ..meeting import trained
from ..meters import pulls
from ..optimisers import Optimisers
from ..sac.networks import Actor, TwinQ
from .networks import ContextEncoder, Networks, RecurrentEncoder, Value
from .settings import PEARLSettings
from .update import Update, Weights


class PEARL(Learner[Networks, TaskReplay]):
    """See `rlrep.contract.agent.MetaAgent`."""

    step: Update

    def __init__(self, config: PEARLSettings, spec: AgentSpec) -> None:
        self.config, self._seed, self.tasks = config, spec.seed, len(spec.tasks)
        action_dim = int(np.prod(spec.action_space.shape))
        self.latent_dim = {"oracle": len(spec.tasks[0].vector), "none": 0}.get(config.context, config.latent_dim)
        self.meta_batch = min(config.meta_batch, self.tasks)
        self._vectors = torch.tensor([task.vector for task in spec.tasks], dtype=torch.float32, device=spec.device)
        with seeded(spec.seed):
            nets = _make_networks(config, spec, action_dim, self.latent_dim)
            heads = _make_heads(config, spec)
        nets.to(spec.device)
        step = Update(
            nets,
            heads,
            _make_optimisers(config, spec, nets, heads),
            Weights(config.kl_weight, config.kl_reduction, config.critic_to_context),
            vectors=None if config.infers else self._vectors,
            latent_dim=self.latent_dim,
            target_entropy=-float(action_dim) if config.target_entropy is None else config.target_entropy,
            temperature_loss=config.temperature_loss,
            penalty=config.penalty,
        )
        layout = _layout(config, spec, action_dim)
        replay = TaskReplay(layout, device=spec.device, seed=spec.seed + 1, needs=heads.needs)
        title = f"PEARL (context={config.context}{', not compiled' if config.context == 'recurrent' else ''})"
        super().__init__(title, spec, step, replay)

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

    def alike(self) -> Hashable:
        """Return what is equal in agents that a fleet can compute as one. Raises ValueError, saying why, for one that
        goes alone."""
        if self.config.context == "recurrent":
            raise ValueError("a recurrent encoder of contexts is computed by itself")
        given = [] if self.step.vectors is None else self.step.vectors.tolist()
        return signature(self, self.config), self.meta_batch, repr(self.heads.needs), repr(given)

    def fleet(self) -> Callable[[Sequence[Any]], None]:
        """Return a function that makes an update of each of several agents that are alike."""
        return Joint().update

    def _meters(self, batch: Batch, noise: Tensor) -> Metrics:
        """Return what is known of the beliefs, and each head's pull on the context encoder's parameters relative to
        critic and KL."""
        if not self.config.infers:
            return {}
        losses = self.step.losses(batch, noise)
        rank = {"context/effective_rank": effective_rank(losses.latent.detach())}
        return rank | pulls(self.heads, losses, self.optimisers.owned)

    def _sample(self) -> Batch:
        able = self.replay.able()
        order = torch.randperm(len(able), generator=self.update_stream, device=self.device)
        return self.replay.sample(able[order[: self.meta_batch]], self.config.batch_size)

    def describe(self) -> list[str]:
        """Return start-up lines: parameter counts, the meta-batch, and where the replay lives."""
        asked, line = self.config.meta_batch, f"{self.tasks} training tasks, {self.meta_batch} in an update"
        if asked > self.tasks:
            line += f" (agent.meta_batch={asked} is more than there are)"
        if self.config.infers:
            line += f", contexts of {self.config.context_size} transitions"
        first, *others = super().describe()
        return [first, line, *others]

    def _to_env(self, tensor: Tensor) -> NDArray[np.float32]:
        return tensor.cpu().numpy()


def _fields(context: Transitions) -> tuple[Tensor, ...]:
    return context.obs, context.action, context.reward, context.next_obs


def _layout(config: PEARLSettings, spec: AgentSpec, action_dim: int) -> TaskSpec:
    return TaskSpec(
        obs_dim=spec.observation_space.shape[0],
        action_dim=action_dim,
        tasks=len(spec.tasks),
        capacity=config.capacity,
        discount=config.discount,
        context_size=config.context_size if config.infers else 0,
        draw=config.context_draw,
        reward_scale=config.reward_scale,
    )


def _make_optimisers(config: PEARLSettings, spec: AgentSpec, nets: Networks, heads: Heads) -> Optimisers:
    """One owner per parameter: critic, context encoder and heads; the actor; the temperature; the value."""
    apart = {
        "actor": FusedAdam(trained(nets.actor), config.lr),
        "temperature": FusedAdam([nets.log_alpha], config.alpha_lr),
    }
    if nets.v is not None:
        apart["value"] = FusedAdam(trained(nets.v), config.lr)
    if config.context == "recurrent":  # a GRU is one kernel already, and cannot be traced through
        spec = replace(spec, compile="off")
    return Optimisers(
        spec,
        heads,
        encoder=nn.Identity() if nets.context is None else nets.context,
        rl=nets.q,
        lr=config.lr,
        apart=apart,
        precision=config.precision,
    )


def _make_networks(config: PEARLSettings, spec: AgentSpec, action_dim: int, latent_dim: int) -> Networks:
    (obs_dim,) = spec.view_shape
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


def _make_heads(config: PEARLSettings, spec: AgentSpec) -> Heads:
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
    heads: dict[str, Head] = {}
    for name, head in spec.aux.items():
        heads[name] = head.make_context(name, config.latent_dim, spec.horizon)
        _check_windows(name, heads[name].needs, spec.horizon)
        if config.context == "recurrent":
            _check_order(name, head, heads[name].needs)
    return Heads(heads, spec.aux, config.pull).to(spec.device)


def _check_pulls(config: PEARLSettings, spec: AgentSpec) -> None:
    """Refuse to balance heads against an RL loss that never reaches the context encoder."""
    for name, head in spec.aux.items():
        if (head.pull or config.pull) == "balanced":
            raise ValueError(
                f"aux.{name}.pull=balanced has nothing to be balanced against with agent.critic_to_context=false and "
                f"agent.kl_weight=0: choose own or sum"
            )


def _check_order(name: str, head: HeadConfig, needs: Needs) -> None:
    """Refuse what a recurrent encoder, whose one Gaussian depends on the order of a window, would make senseless."""
    if head.per_transition:
        raise ValueError(
            f"aux.{name}.positives=per_transition needs a Gaussian per transition: choose agent.context=set"
        )
    if any(not spec.ordered for spec in needs.of(WindowSpec)):
        raise ValueError(f"agent.context=recurrent reads windows in their order: set aux.{name}.ordered=true")


def _check_windows(name: str, needs: Needs, horizon: int) -> None:
    for spec in needs.of(WindowSpec):
        if spec.least_episode > horizon:
            what = f"two disjoint windows of {spec.length}" if spec.disjoint else f"a window of {spec.length}"
            raise ValueError(
                f"aux.{name}: {what} transitions are longer than the episodes ({horizon} steps): "
                f"set aux.{name}.window lower"
            )
