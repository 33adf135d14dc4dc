"""What a context encoder learns in seconds: beliefs about unseen tasks leave the prior and tell tasks apart."""

import numpy as np
import torch
from gymnasium import spaces

from rlrep.agents.pearl import PEARL, PEARLConfig
from rlrep.contract.agent import AgentSpec
from rlrep.contract.env import Task
from rlrep.contract.meta import Trajectory
from rlrep.envs.families.point_robot import PointRobot
from rlrep.nn import Gaussians, IdentityConfig
from rlrep.views import NoChange

FAMILY = PointRobot(train_tasks=16, test_tasks=6)


def play(task: Task, seed: int) -> Trajectory:
    """One episode of random actions."""
    env, random = FAMILY.make(0), np.random.default_rng(seed)
    env.set_task(task)
    obs, action, reward = [env.reset(seed=seed)[0]], [], []
    for _ in range(FAMILY.horizon):
        action.append(random.uniform(-1, 1, 2).astype(np.float32))
        seen, gained, *_ = env.step(action[-1])
        obs.append(seen)
        reward.append(gained)
    rewards = np.array(reward, np.float32)
    return Trajectory(np.stack(obs), np.stack(action), rewards, rewards, terminated=False)


def test_beliefs_about_unseen_tasks_leave_the_prior_and_tell_them_apart() -> None:
    tasks = FAMILY.tasks()
    config = PEARLConfig(
        hidden_dim=32,
        hidden_layers=2,
        context_hidden_dim=32,
        context_size=20,
        meta_batch=8,
        batch_size=16,
        capacity=2000,
        lr=3e-3,
    )
    agent: PEARL = config.make_meta(
        AgentSpec(
            spaces.Box(-np.inf, np.inf, (2,), np.float32),
            spaces.Box(-1, 1, (2,), np.float32),
            tasks=tasks.train,
            horizon=FAMILY.horizon,
            encoder=IdentityConfig(),
            augment=NoChange(),
        )
    )
    for number, task in enumerate(tasks.train):
        for seed in range(4):
            agent.observe(number, play(task, 100 * number + seed), context=True)
    for _ in range(150):
        agent.update()
    unseen = [[play(task, 7000 + 10 * index + k) for k in range(3)] for index, task in enumerate(tasks.test)]
    beliefs = [agent.beliefs(episodes) for episodes in unseen]
    means, variances = (np.stack(part) for part in zip(*(b for b in beliefs if b is not None), strict=True))
    from_prior = Gaussians(torch.from_numpy(means), torch.from_numpy(variances)).kl()
    assert from_prior.min() > 1  # nats
    within = means.std(1).mean()
    between = means.mean(1).std(0).mean()
    assert between > within
