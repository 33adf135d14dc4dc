"""Trajectory contrast: are two windows of transitions from one trajectory? (TCL: Wang et al. 2021, arXiv 2103.06386)

CCM (Fu et al. 2021, arXiv 2009.13891) and FOCAL (Li et al. 2021, arXiv 2010.01112) are other settings of this head.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from gymnasium import spaces
from torch import Tensor, nn

from rlrep.contrast import (
    Bilinear,
    MomentumTarget,
    bilinear_logits,
    diagonal_cross_entropy,
    distance_metric,
    mahalanobis_logits,
    wasserstein_logits,
    weighted_mean,
)
from rlrep.contrast.pairs import compare, wide
from rlrep.contrast.parts import Metrics
from rlrep.nn import Gaussians, product
from rlrep.replay import Batch, Needs, Pairs, Transitions, Windows, WindowSpec
from rlrep.settings import ranges

from .actions import action_dim, join_action
from .base import Encoded, Encoders, Head
from .branches import EmbeddingConfig, make_projector

CONTEXT_WINDOW, OBSERVATION_WINDOW = 64, 8
"""Transitions per window where nobody says: for agents that encode transitions, and for those that encode observations,
whose windows all pass through the observation encoder."""
OF_THE_AGENT = {
    "tau": "context_tau",
    "hidden_dim": "context_hidden_dim",
    "layers": "context_layers",
    "embedding_dim": "latent_dim",
}
"""The head's options for a transition encoder of its own, and whose they are where the agent has one."""
TEMPERATURES = {"bilinear": 1.0, "cosine": 0.1, "mahalanobis": 1.0, "wasserstein": 1.0}


@dataclass(frozen=True)
class TrajectoryContrast(EmbeddingConfig):
    """Settings of `aux=trajectory_contrast`.

    objective: `info_nce` over rows, or `focal`, which pulls rows of one group together and pushes others apart.
    similarity: of the Gaussians that stand for two windows: `bilinear` and `cosine` compare means, `mahalanobis` and
        `wasserstein` variances too. temperature: None = 0.1 for `cosine`, else 1.
    positives: both windows of one trajectory (`same_trajectory`), each of any trajectory of the task (`same_task`), or
        as the latter with every transition on its own (`per_transition`): transition n of one window attracts
        transition n of the other and repels the rest of that window too.
    window: transitions, W; None = 64 or what fits a whole episode, or 8 where observations are encoded. rows: pairs of
        windows; None = the tasks of the meta-batch, or 16 of a single task.
    ordered: W transitions in a row, or W independent draws. disjoint: the two windows share none; None = where
        they are ordered and of one trajectory.
    negatives: how many other rows repel a row; None = all. Those of its own group (task; else episode) never do.
    hidden_dim, layers, embedding_dim, tau: of the transition encoder, where the agent has none.
    """

    objective: Literal["info_nce", "focal"] = "info_nce"
    similarity: Literal["bilinear", "cosine", "mahalanobis", "wasserstein"] = "mahalanobis"
    temperature: float | None = None
    positives: Literal["same_trajectory", "same_task", "per_transition"] = "same_trajectory"
    window: int | None = None
    rows: int | None = None
    ordered: bool = True
    disjoint: bool | None = None
    negatives: int | None = None
    layers: int = 3
    embedding_dim: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.objective == "focal" and (self.per_transition or self.negatives is not None):
            raise ValueError("objective=focal takes all pairs of whole windows: neither per_transition nor negatives")
        if self.objective == "focal" and (self.similarity != "mahalanobis" or self.temperature is not None):
            raise ValueError("objective=focal has a distance of its own: neither similarity nor temperature")
        ranges.at_least(self, 1, ("negatives",))
        ranges.positive(self, ("temperature",))
        self.windows(CONTEXT_WINDOW, next_obs=True)

    @property
    def per_transition(self) -> bool:
        return self.positives == "per_transition"

    def windows(self, default: int, *, next_obs: bool, single_task: bool = False) -> WindowSpec:
        """Return what the head asks for. Raises ValueError on windows that do not fit together."""
        of_task = self.positives != "same_trajectory"
        return WindowSpec(
            length=default if self.window is None else self.window,
            rows=self.rows,
            positives="same_task" if of_task and not single_task else "same_trajectory",
            ordered=self.ordered,
            disjoint=self.ordered and not of_task if self.disjoint is None else self.disjoint,
            next_obs=next_obs,
        )

    def make_context(self, name: str, latent_dim: int, horizon: int) -> "TrajectoryContrastHead":
        """Build the head for an agent that encodes transitions as Gaussians `(R, W, latent_dim)`.

        horizon: agent steps of an episode that nothing ends early, in which the windows that nobody gave a length fit.
        Raises ValueError if `rows` is set, or an option of the transition encoder, which is the agent's here.
        """
        if self.rows is not None:
            raise ValueError(f"aux.{name}.rows is for single tasks: on a family every task of an update is a row")
        for option, instead in OF_THE_AGENT.items():
            if getattr(self, option) != getattr(TrajectoryContrast, option):
                raise ValueError(f"aux.{name}.{option} is for single tasks: on a family set agent.{instead}")
        spec = self.windows(CONTEXT_WINDOW, next_obs=True)
        if self.window is None:
            spec = replace(spec, length=max(1, min(spec.length, horizon // (2 if spec.disjoint else 1))))
        return TrajectoryContrastHead(self, spec, latent_dim)

    def make(self, name: str, latent_dim: int, action_space: spaces.Space[Any]) -> "TrajectoryContrastHead":
        """Build the head with a transition encoder of its own, on latents of observations.

        Raises ValueError on settings that tell tasks apart, and on action spaces that are neither Box nor Discrete.
        """
        if self.objective == "focal" or self.positives == "same_task":
            raise ValueError(
                f"aux.{name} tells tasks apart (objective={self.objective}, positives={self.positives}): it needs a "
                f"meta-RL agent and a task family; for a single task take aux=trajectory_contrast"
            )
        width = action_dim(action_space)
        encoder = TransitionEncoder(latent_dim, width, self.hidden_dim, self.layers, self.embedding_dim)
        windows = self.windows(OBSERVATION_WINDOW, next_obs=False, single_task=True)
        return TrajectoryContrastHead(self, windows, self.embedding_dim, encoder)


class TransitionEncoder(nn.Module):
    """MLP from a transition (latent of its observation, action, reward) to a Gaussian."""

    def __init__(self, latent_dim: int, action_dim: int, hidden_dim: int, layers: int, embedding_dim: int) -> None:
        super().__init__()
        self.action_dim = action_dim
        self.layers = make_projector(latent_dim + action_dim + 1, hidden_dim, 2 * embedding_dim, layers=layers)

    def forward(self, latent: Tensor, action: Tensor, reward: Tensor) -> Gaussians:
        """Map B transitions, reward `(B,)`, to mean and variance `(B, embedding_dim)`."""
        joined = torch.cat([join_action(latent, action, self.action_dim), reward.to(latent.dtype)[:, None]], 1)
        mean, spread = self.layers(joined).float().chunk(2, 1)
        return Gaussians(mean, nn.functional.softplus(spread))


class TrajectoryContrastHead(Head):
    """Contrast of what stands for two windows of each row: the product of their transitions' Gaussians.

    encoder: of transitions; None = the agent's own. Query: online encoders on the first window. Key: EMA encoders on
    the second, without gradient.
    """

    stacks = True

    def __init__(
        self,
        config: TrajectoryContrast,
        windows: WindowSpec,
        dim: int,
        encoder: TransitionEncoder | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.windows, self.needs = windows, Needs((windows,), config.view)
        self.encoder = encoder
        self.follow = None if encoder is None or config.target == "online" else MomentumTarget(encoder, config.tau)
        learned = config.objective == "info_nce" and config.similarity == "bilinear"
        self.bilinear = Bilinear(dim) if learned else None
        given = config.temperature
        self.temperature = TEMPERATURES[config.similarity] if given is None else given

    def loss(self, batch: Batch, pairs: Pairs, encoded: Encoded, encoders: Encoders) -> tuple[Tensor, Metrics]:
        windows = pairs[self.windows]
        query, key = self._encode(windows.first, encoders), self._key(windows.second, encoders)
        repels = self._repels(windows)
        counted = (windows.valid & repels.any(1)).float()
        pooled = product(query)
        health = _row_health(pooled, windows.valid, repels, counted)
        if self.config.per_transition:
            per_row = query.mean.shape[1]
            query, key, counted = _flat(query), _flat(key), counted.repeat_interleave(per_row)
            repels = _with_own_row(repels).repeat_interleave(per_row, 0).repeat_interleave(per_row, 1)
        else:
            query, key = pooled, product(key)
        scores = self._scores(query, key)
        health |= _score_health(scores.detach(), repels, counted)
        if self.config.objective == "focal":
            both = torch.cat([query.mean, key.mean])
            return distance_metric(both, windows.group.repeat(2), row_weight=counted.repeat(2)), health
        return diagonal_cross_entropy(scores / self.temperature, valid=repels, row_weight=counted), health

    def after_update(self) -> None:
        if self.follow is not None:
            self.follow.update()

    def _encode(self, windows: Transitions, encoders: Encoders, *, online: bool = True) -> Gaussians:
        """Return Gaussians `(R, W, D)` of windows' transitions, or `(R, 1, D)` of an agent that has one per window."""
        if self.encoder is None:
            encode = encoders.online_context if online else encoders.target_context
            assert encode is not None, "an agent without a context encoder takes make(), not make_context()"
            return Gaussians(*wide(*encode(windows)))
        observe, embed = (encoders.online, self.encoder) if online else (encoders.target, self.follow)
        assert embed is not None
        obs, action, reward = (part.flatten(0, 1) for part in (windows.obs, windows.action, windows.reward))
        mean, var = embed(observe(obs), action, reward)
        return Gaussians(mean.unflatten(0, windows.reward.shape), var.unflatten(0, windows.reward.shape))

    def _key(self, windows: Transitions, encoders: Encoders) -> Gaussians:
        if self.config.target == "online":
            return self._encode(windows, encoders)
        mean, var = self._encode(windows, encoders, online=False)
        return Gaussians(mean.detach(), var.detach())

    def _repels(self, windows: Windows) -> Tensor:
        """Return `(R, R)` bool: the second window of row j is a negative of row i."""
        other = (windows.group[:, None] != windows.group[None, :]) & windows.valid[None, :]
        if self.config.negatives is None:
            return other
        rows = torch.arange(len(other), device=other.device)
        behind = (rows[None, :] - rows[:, None]).remainder(len(rows))  # rows come in random order
        return other & (behind <= self.config.negatives)

    def _scores(self, query: Gaussians, key: Gaussians) -> Tensor:
        """Return the similarities `(N, N)` of N queries and keys."""
        config = self.config
        if self.bilinear is not None:
            return bilinear_logits(query.mean, key.mean, self.bilinear.weight)
        if config.objective == "focal":
            return compare(query.mean, key.mean, "neg_sq_dist")
        if config.similarity == "cosine":
            return compare(query.mean, key.mean, "cosine")
        return (mahalanobis_logits if config.similarity == "mahalanobis" else wasserstein_logits)(*query, *key)


def _flat(gaussians: Gaussians) -> Gaussians:
    return Gaussians(gaussians.mean.flatten(0, 1), gaussians.var.flatten(0, 1))


def _with_own_row(repels: Tensor) -> Tensor:
    return repels | torch.eye(len(repels), dtype=torch.bool, device=repels.device)


@torch.no_grad()
def _row_health(pooled: Gaussians, valid: Tensor, repels: Tensor, counted: Tensor) -> Metrics:
    """Share of rows that could be drawn, rows that repel one that counts, and what tells collapse: the standard
    deviation of the embeddings over rows beside their own (means over dimensions)."""
    share = valid.float() / valid.sum().clamp(min=1)
    centre = (share[:, None] * pooled.mean).sum(0)
    return {
        "valid": valid.float().mean(),
        "negatives": weighted_mean(repels.sum(1).float(), counted),
        "embedding_std": (share[:, None] * (pooled.mean - centre).square()).sum(0).sqrt().mean(),
        "posterior_std": (share[:, None] * pooled.var.sqrt()).sum(0).mean(),
    }


@torch.no_grad()
def _score_health(scores: Tensor, repels: Tensor, counted: Tensor) -> Metrics:
    """Accuracy of picking the positive among it and its negatives, and mean scores of both, over what counts."""
    itself = torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    best = scores.masked_fill(~(repels | itself), -torch.inf).argmax(1)
    hits = best == torch.arange(len(scores), device=scores.device)
    return {
        "accuracy": weighted_mean(hits.float(), counted),
        "positive_similarity": weighted_mean(scores.diagonal(), counted),
        "negative_similarity": weighted_mean(scores, (repels & ~itself) * counted[:, None]),
    }
