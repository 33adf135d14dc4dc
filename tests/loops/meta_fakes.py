"""A family of tasks, its simulators and an agent for the tests of the meta-training loop: exact, instant, recorded."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlrep.contract.env import Array, Step, Task, Tree
from rlrep.contract.env import Task as FamilyTask
from rlrep.contract.meta import Job, Trajectory
from rlrep.replay import Ring
from tests.fakes import FakeEnvs

TASKS = tuple(FamilyTask(f"task {k}", {"number": k}, (float(k),)) for k in range(4))


def length_of(task: float) -> int:
    """Agent steps of a task's episodes: 3, 4, 5, 6."""
    return 3 + int(task)


class TaskEnvs(FakeEnvs):
    """Observation = (task, step), reward = action + seed / 10**12, as shown to a context half of it.

    deaths: vector steps at which simulator 0 dies. Tasks of odd number end by termination, others by truncation.
    """

    action_repeat = 1

    def __init__(self, num_envs: int = 2, deaths: tuple[int, ...] = (), limit: int = 10_000) -> None:
        super().__init__(num_envs)
        self.tasks, self._next, self._dying, self._limit = np.zeros(num_envs), np.zeros(num_envs), deaths, limit
        self.given: list[tuple[int, str]] = []

    def set_task(self, index: int, task: Task) -> None:
        self.given.append((index, task.name))
        self._next[index] = task.parameters["number"]

    def reset(self, seeds: list[int] | None = None) -> Array:
        self.tasks[:] = self._next
        return super().reset(seeds)

    def restart(self, index: int, seed: int) -> Array:
        self.tasks[index] = self._next[index]
        return super().restart(index, seed)

    def step_async(self, actions: Array) -> None:
        super().step_async(actions)
        self._actions = actions[:, 0]

    def step_wait(self) -> Step:
        self._steps += 1
        self._total += 1
        assert self._total < self._limit, "this never ends"
        ended = self._steps >= 3 + self.tasks
        died = np.zeros(self.num_envs, bool)
        died[0] = self._total in self._dying
        final_obs = self._obs()
        self._steps[ended | died] = 0
        reward = (self._actions + self._seeds / 1e12).astype(np.float32)
        odd = self.tasks % 2 == 1
        plain = np.full(self.num_envs, np.nan, np.float32)
        return Step(
            obs=self._obs(),
            final_obs=final_obs,
            reward=reward,
            terminated=ended & odd & ~died,
            truncated=ended & ~odd | died,
            died=died,
            success=(self.tasks == 2).astype(np.float32) * ended,
            score=plain,
            context_reward=np.where(self.tasks == 3, reward / 2, plain).astype(np.float32),
        )

    def state(self) -> list[Tree]:
        return [
            {**one, "task": float(t), "next": float(n)}
            for one, t, n in zip(super().state(), self.tasks, self._next, strict=True)
        ]

    def load_state(self, states: list[Tree]) -> Array:
        self.tasks[:] = [state["task"] for state in states]
        self._next[:] = [state["next"] for state in states]
        return super().load_state(states)

    def _obs(self) -> Array:
        return np.stack([self.tasks, self._steps], 1).astype(np.float32)


class MetaFake:
    """Acts by its latent, (whose it is, a count), and records what it is told. beliefs: the task itself, and noise."""

    latent_dim = 2

    def __init__(self, jobs: Mapping[int, list[Job]] | None = None, *, noise: float = 0.0) -> None:
        self.jobs, self.noise, self.updates, self.is_ready = jobs or {}, noise, 0, True
        self.calls: list[Any] = []
        self.seen: list[tuple[int, Trajectory, bool]] = []
        self.known: list[tuple[str, list[int]]] = []
        self.rings: Mapping[str, Ring] = {"steps": Ring(9, {"x": ((), torch.float32)}, device=torch.device("cpu"))}
        self.informed = 0

    def act(self, obs: Array, latent: Array, noise: Array | None = None) -> Array:
        assert obs.shape == latent.shape == (len(obs), 2) and (noise is None or noise.shape == (len(obs), 1))
        self.calls.append(("act", obs.copy(), latent.copy()))
        return np.asarray(latent[:, :1] + (0 if noise is None else noise), np.float32)

    def plan(self, iteration: int, initial_steps: int) -> list[Job]:
        self.calls.append(("plan", iteration, initial_steps))
        return self.jobs.get(iteration, self.jobs.get(-1, []))

    def begin(self, job: Job) -> None:
        self.calls.append(("begin", job.task))

    def observe(self, task: int, episode: Trajectory, *, context: bool) -> None:
        self.calls.append(("observe", task, context))
        self.seen.append((task, episode, context))

    def train_latent(self, task: int, noise: Array, *, informed: bool) -> Array:
        self.calls.append(("latent", task, informed))
        self.informed += 1
        return np.array([task, self.informed], np.float32)

    def test_latent(self, task: Task, episodes: Sequence[Trajectory], noise: Array) -> Array:
        self.known.append((task.name, [int(episode.obs[0, 0]) for episode in episodes]))
        return np.array([len(episodes), noise[0]], np.float32)

    def beliefs(self, contexts: Sequence[Trajectory]) -> tuple[Array, Array] | None:
        assert len({len(context) for context in contexts}) == 1
        draw = np.random.default_rng(len(contexts[0]))
        task = np.array([[context.obs[0, 0], 0.0] for context in contexts])
        mean = task * (self.noise == 0) + max(self.noise, 1e-3) * draw.standard_normal(task.shape)
        return mean.astype(np.float32), np.full(task.shape, 1 / len(contexts[0]), np.float32)

    def ready(self) -> bool:
        return self.is_ready

    def update(self) -> None:
        self.calls.append("update")
        self.updates += 1

    def metrics(self) -> dict[str, float]:
        return {"loss/fake": float(self.updates)}

    def nonfinite(self) -> list[str]:
        return []

    def last_batch(self) -> dict[str, Tensor]:
        return {}

    def describe(self) -> list[str]:
        return []

    def state(self) -> Tree:
        return {"updates": self.updates, "informed": self.informed}

    def load_state(self, state: Tree) -> None:
        self.updates, self.informed = state["updates"], state["informed"]
