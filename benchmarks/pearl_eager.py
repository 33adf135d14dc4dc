"""PEARL with Trajectory Contrastive Learning as one would write it down: what `pearl_speed` times ours against.

In the manner of PEARL's public code (katerakelly/oyster): a buffer per task, sampled task after task; modules of their
own for both Q functions, torch.optim.Adam for each, torch.distributions, `backward()` per loss; the networks see all
tasks at once. The equations are those of `agents/pearl` (value=q, kl_reduction=mean, temperature_loss=log_alpha) and
`aux=trajectory_contrast` with `pull=sum` and `similarity=bilinear`.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from rlrep.agents.pearl import PEARLConfig
from rlrep.contract.meta import Trajectory
from rlrep.heads.trajectory_contrast import CONTEXT_WINDOW, TrajectoryContrast

Stored = list[NDArray[np.float32]]
"""Columns of `Rows`, of one task."""


@dataclass(frozen=True)
class Rows:
    """Transitions of T tasks, `(T, B, ...)`."""

    obs: Tensor
    action: Tensor
    reward: Tensor
    discount: Tensor
    next_obs: Tensor


@dataclass(frozen=True)
class Noise:
    """Standard normal: of the latents `(T, D)`, of the next actions and of the policy's own `(T * B, A)`."""

    latent: Tensor
    next_action: Tensor
    action: Tensor


class EagerPEARL:
    """Networks, optimisers and buffers. head: settings of trajectory contrast (its defaults but for window and
    weight), or None."""

    def __init__(
        self,
        config: PEARLConfig,
        *,
        obs_dim: int,
        action_dim: int,
        tasks: int,
        head: TrajectoryContrast | None,
        device: torch.device,
    ) -> None:
        self.config, self.head, self.device, self.action_dim = config, head, device, action_dim
        hidden, latent = [config.hidden_dim] * config.hidden_layers, config.latent_dim
        context_hidden = [config.context_hidden_dim] * config.context_layers
        self.q1, self.q2 = (layers(obs_dim + latent + action_dim, hidden, 1).to(device) for _ in range(2))
        self.policy = layers(obs_dim + latent, hidden, 2 * action_dim).to(device)
        self.encoder = layers(obs_dim + action_dim + 1, context_hidden, 2 * latent).to(device)
        self.bilinear = torch.rand(latent, latent, device=device, requires_grad=True)
        self.log_alpha = torch.zeros((), device=device, requires_grad=True)
        self.target_q1, self.target_q2, self.target_encoder = map(copy.deepcopy, (self.q1, self.q2, self.encoder))
        modules = (self.q1, self.q2, self.policy, self.encoder)
        owned = [list(module.parameters()) for module in modules] + [[self.log_alpha]] + [[self.bilinear]] * bool(head)
        self.optimisers = [torch.optim.Adam(parameters, lr=config.lr) for parameters in owned]
        widths = (obs_dim,), (action_dim,), (), (), (obs_dim,)
        self.buffers = [[np.zeros((0, *width), np.float32) for width in widths] for _ in range(tasks)]
        self.episodes: list[list[tuple[int, int]]] = [[] for _ in range(tasks)]
        self.random = np.random.default_rng(0)

    def observe(self, task: int, episode: Trajectory, *, context: bool) -> None:
        """Store an episode, which is always context too."""
        assert context
        discount = np.full(len(episode), self.config.discount, np.float32)
        discount[-1] *= not episode.terminated
        new = (episode.obs[:-1], episode.action, episode.reward, discount, episode.obs[1:])
        stored = self.buffers[task]
        self.episodes[task].append((len(stored[0]), len(episode)))
        self.buffers[task] = [np.concatenate(pair) for pair in zip(stored, new, strict=True)]

    def update(self) -> None:
        """Sample, and make one update of everything."""
        tasks = self.random.choice(len(self.buffers), self.config.meta_batch, replace=False)
        batch = self._stack([self._rows(task) for task in tasks])
        context = self._stack([self._context(task) for task in tasks])
        windows = [self._stack(part) for part in zip(*map(self._windows, tasks), strict=True)] if self.head else []
        rows = len(tasks) * self.config.batch_size
        latent, *actions = (len(tasks), self.config.latent_dim), (rows, self.action_dim), (rows, self.action_dim)
        noise = Noise(*(torch.randn(shape, device=self.device) for shape in (latent, *actions)))
        self.learn(batch, context, windows, noise)

    def learn(self, batch: Rows, context: Rows, windows: list[Rows], noise: Noise) -> dict[str, float]:
        """Make one update on these rows, and return its losses."""
        mean, var = self._infer(self.encoder, context)
        latent = mean + var.sqrt() * noise.latent
        prior = Normal(torch.zeros_like(mean[0]), torch.ones_like(mean[0]))
        kl = torch.stack([kl_divergence(Normal(m, v.sqrt()), prior).sum() for m, v in zip(mean, var, strict=True)])
        for optimiser in self.optimisers:
            optimiser.zero_grad()
        (self.config.kl_weight * kl.mean()).backward(retain_graph=True)
        losses = {"critic": self._critic_loss(batch, latent, noise.next_action)}
        losses["critic"].backward()
        if self.head:
            losses["head"] = self._contrast(*windows)
            (self.head.weight * losses["head"]).backward()
        q1, q2, policy, encoder, alpha, *rest = self.optimisers
        for optimiser in (q1, q2, encoder, *rest):
            optimiser.step()
        losses["actor"], losses["alpha"] = self._actor_losses(batch, latent.detach(), noise.action)
        for optimiser in (policy, alpha):
            optimiser.zero_grad()
        losses["actor"].backward()
        losses["alpha"].backward()
        policy.step()
        alpha.step()
        follow(self.target_q1, self.q1, self.config.critic_tau)
        follow(self.target_q2, self.q2, self.config.critic_tau)
        follow(self.target_encoder, self.encoder, self.config.context_tau)
        return {name: loss.item() for name, loss in losses.items()}

    # Losses

    def _critic_loss(self, batch: Rows, latent: Tensor, noise: Tensor) -> Tensor:
        size = batch.obs.shape[1]
        z = torch.cat([row.repeat(size, 1) for row in latent])
        obs, action, next_obs = (part.flatten(0, 1) for part in (batch.obs, batch.action, batch.next_obs))
        with torch.no_grad():
            next_action, log_prob, _, _ = self._act(torch.cat([next_obs, z], 1), noise)
            joined = torch.cat([next_obs, z, next_action], 1)
            value = torch.min(self.target_q1(joined), self.target_q2(joined))[:, 0] - self.log_alpha.exp() * log_prob
            target = self.config.reward_scale * batch.reward.flatten() + batch.discount.flatten() * value
        joined = torch.cat([obs, z, action], 1)
        q1, q2 = self.q1(joined)[:, 0], self.q2(joined)[:, 0]
        return nn.functional.mse_loss(q1, target) + nn.functional.mse_loss(q2, target)

    def _actor_losses(self, batch: Rows, latent: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        z = torch.cat([row.repeat(batch.obs.shape[1], 1) for row in latent])
        seen = torch.cat([batch.obs.flatten(0, 1), z], 1)
        action, log_prob, mean, log_std = self._act(seen, noise)
        joined = torch.cat([seen, action], 1)
        q = torch.min(self.q1(joined), self.q2(joined))[:, 0]
        actor = (self.log_alpha.exp().detach() * log_prob - q).mean()
        actor = actor + self.config.penalty * (mean.square().mean() + log_std.square().mean())
        return actor, self.log_alpha * (-log_prob.detach().mean() + self.action_dim)

    def _contrast(self, first: Rows, second: Rows) -> Tensor:
        """InfoNCE over the tasks of windows of one trajectory each, by bilinear similarity of their means."""
        query = self._infer(self.encoder, first)[0]
        with torch.no_grad():
            key = self._infer(self.target_encoder, second)[0]
        logits = query @ self.bilinear @ key.T
        return nn.functional.cross_entropy(logits, torch.arange(len(logits), device=self.device))

    def _infer(self, encoder: nn.Module, rows: Rows) -> tuple[Tensor, Tensor]:
        """Return mean and variance `(T, D)` of the product of each task's Gaussians."""
        raw = encoder(torch.cat([rows.obs, rows.action, rows.reward[..., None]], 2))
        means, variances = raw.chunk(2, 2)
        products = [multiply(m, nn.functional.softplus(v)) for m, v in zip(means, variances, strict=True)]
        return torch.stack([mean for mean, _ in products]), torch.stack([var for _, var in products])

    def _act(self, seen: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return actions, their log-densities, and the Gaussians' means and log standard deviations."""
        mean, log_std = self.policy(seen).chunk(2, 1)
        log_std = log_std.clamp(*self.config.log_std_range)
        raw = mean + log_std.exp() * noise
        correction = 2 * (math.log(2) - raw - nn.functional.softplus(-2 * raw))
        log_prob = (Normal(mean, log_std.exp()).log_prob(raw) - correction).sum(1)
        return raw.tanh(), log_prob, mean, log_std

    # Sampling

    def _rows(self, task: int) -> Stored:
        """Uniform over all transitions of a task."""
        stored = self.buffers[task]
        rows = self.random.integers(len(stored[0]), size=self.config.batch_size)
        return [part[rows] for part in stored]

    def _context(self, task: int) -> Stored:
        """Context of a task: transitions one by one, or a window of one of its episodes."""
        size, stored = self.config.context_size, self.buffers[task]
        if self.config.context_draw == "transitions":
            rows = self.random.integers(len(stored[0]), size=size)
            return [part[rows] for part in stored]
        first, length = self._episode(task)
        start = first + self.random.integers(length - size + 1)
        return [part[start : start + size] for part in stored]

    def _windows(self, task: int) -> tuple[Stored, Stored]:
        """Two windows of one episode that share no transition."""
        assert self.head
        size = self.head.window or CONTEXT_WINDOW
        first, length = self._episode(task)
        start = first + self.random.integers(length - 2 * size + 1)
        later = self.random.integers(start + size, first + length - size + 1)
        one, two = ([part[at : at + size] for part in self.buffers[task]] for at in (start, later))
        return one, two

    def _episode(self, task: int) -> tuple[int, int]:
        """Where one of a task's episodes begins, and its length."""
        return self.episodes[task][self.random.integers(len(self.episodes[task]))]

    def _stack(self, tasks: Sequence[Stored]) -> Rows:
        return Rows(*(torch.from_numpy(np.stack(parts)).to(self.device) for parts in zip(*tasks, strict=True)))


def layers(in_dim: int, hidden: list[int], out_dim: int) -> nn.Sequential:
    """Build linear layers with ReLU between them."""
    dims = [in_dim, *hidden, out_dim]
    modules: list[nn.Module] = []
    for before, after in pairwise(dims):
        modules += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*modules[:-1])


def multiply(means: Tensor, variances: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance `(D,)` of the product of Gaussians `(W, D)`."""
    variances = variances.clamp(min=1e-7)
    var = 1 / (1 / variances).sum(0)
    return var * (means / variances).sum(0), var


@torch.no_grad()
def follow(target: nn.Module, source: nn.Module, tau: float) -> None:
    """Move every parameter of target by tau towards source's."""
    for old, new in zip(target.parameters(), source.parameters(), strict=True):
        old.copy_((1 - tau) * old + tau * new)
