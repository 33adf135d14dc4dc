"""A small agent and environment for the tests of the loop: exact, instant, and able to fail on request."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rlrep.contract.env import Array, Step, Task, Tree
from rlrep.replay.ring import Ring

EPISODE = 7


class FakeEnvs:
    """Observation = (seed, step), reward 1 per step, episodes of seven steps. Records what it is asked to do."""

    single_observation_space: spaces.Box = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    single_action_space: spaces.Box | spaces.Discrete = spaces.Box(-1, 1, (1,), np.float32)
    frame_stack, action_repeat, gives_score, exact = 1, 2, False, True
    notes: tuple[str, ...] = ()

    def __init__(self, num_envs: int = 2, calls: list[str] | None = None, deaths: tuple[int, ...] = ()) -> None:
        self.num_envs, self.calls, self._deaths = num_envs, [] if calls is None else calls, deaths
        self._seeds, self._steps, self._total = np.zeros(num_envs), np.zeros(num_envs), 0

    def reset(self, seeds: list[int] | None = None) -> Array:
        self._seeds = np.array(seeds if seeds is not None else [0] * self.num_envs, float)
        self._steps[:] = 0
        return self._obs()

    def set_task(self, index: int, task: Task) -> None:
        raise ValueError("no tasks here")

    def restart(self, index: int, seed: int) -> Array:
        self._seeds[index], self._steps[index] = seed, 0
        return np.array(self._obs()[index])

    def step_async(self, actions: Array) -> None:
        assert actions.shape == (self.num_envs, 1)
        self.calls.append("async")

    def step_wait(self) -> Step:
        self.calls.append("wait")
        self._steps += 1
        self._total += 1
        truncated = self._steps >= EPISODE
        died = np.full(self.num_envs, self._total in self._deaths)
        final_obs = self._obs()
        self._steps[truncated | died] = 0
        ones = np.ones(self.num_envs, np.float32)
        success = np.where(truncated, 1.0, 0.0).astype(np.float32)
        never, score = np.zeros(self.num_envs, bool), np.full(self.num_envs, np.nan, np.float32)
        return Step(self._obs(), final_obs, ones, never, truncated | died, died, success, score, score)

    def render(self, index: int) -> Any:
        return np.full((20, 30, 3), int(self._steps[index]), np.uint8)

    def state(self) -> list[Tree]:
        return [{"seed": float(s), "step": float(t)} for s, t in zip(self._seeds, self._steps, strict=True)]

    def load_state(self, states: list[Tree]) -> Array:
        self._seeds[:] = [state["seed"] for state in states]
        self._steps[:] = [state["step"] for state in states]
        return self._obs()

    def close(self) -> None:
        self.calls.append("close")

    def _obs(self) -> Array:
        return np.stack([self._seeds, self._steps], 1).astype(np.float32)


@dataclass(frozen=True)
class FakeConfig:
    """An agent whose parameter counts updates; `nan_at`: the update whose loss is NaN."""

    nan_at: int | None = None


class FakeAgent:
    """Learns nothing; its single weight is the number of its updates."""

    def __init__(self, calls: list[str], config: FakeConfig | None = None) -> None:
        self.calls, self.config, self.updates = calls, config or FakeConfig(), 0
        self.rings: Mapping[str, Ring] = {
            "steps": Ring(100, {"action": ((1,), torch.float32)}, device=torch.device("cpu"))
        }

    def act(self, obs: Array, *, explore: bool) -> Array:
        self.calls.append(f"{'explore' if explore else 'act'} after {self.updates} on {len(obs)}")
        return np.zeros((len(obs), 1), np.float32)

    def random_actions(self, count: int) -> Array:
        self.calls.append("random")
        return np.random.default_rng(0).uniform(-1, 1, (count, 1)).astype(np.float32)

    def begin(self, obs: Array) -> None:
        self.calls.append("begin")

    def observe(self, action: Array, step: Step) -> None:
        self.calls.append("observe")
        self.rings["steps"].append({"action": torch.as_tensor(action)})

    def ready(self) -> bool:
        return self.rings["steps"].written > 0

    def update(self) -> None:
        self.calls.append("update")
        self.updates += 1

    def metrics(self) -> dict[str, float]:
        return {"loss/fake": float(self.updates)}

    def nonfinite(self) -> list[str]:
        return ["loss/fake"] if self.config.nan_at is not None and self.updates >= self.config.nan_at else []

    def last_batch(self) -> dict[str, Tensor]:
        return {"obs": torch.full((2,), float(self.updates))}

    def describe(self) -> list[str]:
        return []

    def state(self) -> Tree:
        return {"updates": self.updates}

    def load_state(self, state: Tree) -> None:
        self.updates = state["updates"]
