"""Small PEARL agents with a filled replay, and a head on contexts, for the tests of the agent and of its loop."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rlrep.agents.pearl import PEARL, PEARLConfig
from rlrep.contract.agent import AgentSpec
from rlrep.contract.env import Task
from rlrep.contract.meta import Trajectory
from rlrep.heads import Encoded, Encoders, Head, HeadConfig, Metrics
from rlrep.nn import IdentityConfig, product
from rlrep.replay import Batch, Needs, Pairs, WindowSpec
from rlrep.views import NoChange

STATES, ACTIONS, TASKS, HORIZON = 3, 2, 4, 20
OBSERVATION = spaces.Box(-np.inf, np.inf, (STATES,), np.float32)
ACTION = spaces.Box(-1, 1, (ACTIONS,), np.float32)
SMALL = PEARLConfig(
    latent_dim=2,
    hidden_dim=16,
    hidden_layers=2,
    context_hidden_dim=8,
    context_size=6,
    meta_batch=3,
    batch_size=5,
    capacity=500,
    reward_scale=1.0,
)


@dataclass(frozen=True)
class Pull(HeadConfig):
    """A head that pulls the beliefs by two windows of a trajectory together."""

    length: int = 4
    disjoint: bool = True
    positives: Any = "same_trajectory"
    ordered: bool = True

    def make_context(self, name: str, latent_dim: int, horizon: int) -> "PullHead":
        return PullHead(self, latent_dim)


class PullHead(Head):
    def __init__(self, config: Pull, latent_dim: int) -> None:
        super().__init__()
        spec = WindowSpec(config.length, positives=config.positives, ordered=config.ordered, disjoint=config.disjoint)
        self.spec, self.needs, self.turned = spec, Needs((spec,)), nn.Linear(latent_dim, latent_dim)

    def loss(self, batch: Batch, pairs: Pairs, encoded: Encoded, encoders: Encoders) -> tuple[Tensor, Metrics]:
        windows = pairs[self.spec]
        assert encoders.online_context is not None and encoders.target_context is not None
        query = product(encoders.online_context(windows.first)).mean
        key = product(encoders.target_context(windows.second)).mean
        return (self.turned(query) - key).square().mean(), {"spread": encoded.latent.detach().std()}


def make_pearl(
    config: PEARLConfig = SMALL,
    *,
    aux: Any = None,
    tasks: int = TASKS,
    horizon: int = HORIZON,
    space: Any = ACTION,
    encoder: Any = None,
    compile: Any = "off",
    seed: int = 0,
    filled: bool = True,
) -> PEARL:
    """A small agent with two episodes of every task in its replay, both of them context."""
    agent = config.make_meta(
        AgentSpec(
            OBSERVATION,
            space,
            tasks=[Task(str(task), {}, (float(task), -1.0)) for task in range(tasks)],
            horizon=horizon,
            encoder=encoder or IdentityConfig(),
            augment=NoChange(),
            aux=aux or {},
            seed=seed,
            compile=compile,
        )
    )
    for task in range(tasks if filled else 0):
        for number in range(2):
            agent.observe(task, random_episode(10 * task + number), context=True)
    return agent


def random_episode(seed: int, length: int = 12) -> Trajectory:
    draw = np.random.default_rng(seed)
    obs = draw.standard_normal((length + 1, STATES)).astype(np.float32)
    reward = draw.standard_normal(length).astype(np.float32)
    action = draw.uniform(-1, 1, (length, ACTIONS)).astype(np.float32)
    return Trajectory(obs, action, reward, reward + 1, terminated=bool(seed % 2))


def moved(before: dict[str, Tensor], after: dict[str, Tensor], part: str) -> bool:
    """Whether any parameter under `part` changed."""
    names = [name for name in before if name.startswith(part)]
    assert names, part
    return any(not torch.equal(before[name], after[name]) for name in names)
