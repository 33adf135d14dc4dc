"""Meta-World's MT1 as an ordinary environment: one task with its target in view, as states or as pixels.

Yu et al. 2019 (arXiv 1910.10897), environments v3 of `metaworld` 3.1.1. Every episode plays one of the 50 goals of
`metaworld.MT1(name, seed=task_seed)`, drawn by the environment's own generator.

There is no standard for pixels. Ours: camera `corner4`, the direction of `corner2` from nearer, as published pixel
agents move it, turned upright (the package's view hangs upside down); 84x84 RGB, three frames stacked, action repeat 2
(DrQ-v2's for the Control Suite); the target's marker is drawn where the target is; no shadows, which on a software
rasteriser would take two thirds of the time.
"""

from dataclasses import dataclass
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium import spaces

from rlrep.contract.env import Array, Scoring, Tree

from ..options import COPIES, SIDE, SimulatorConfig, Workers
from .simulator import ACTION_SIZE, HORIZON, OBS_SIZE, Simulator
from .tasks import SEEDS, check_name, goals


@dataclass(frozen=True)
class MT1(SimulatorConfig):
    """One of the 50 environments, as `task=push-v3`.

    obs: `state` gives float32 `(39,)`, the target in the last 3, never stacked; `pixels` uint8
    `(3*frame_stack, size, size)`, oldest frame first. action_repeat: env steps per agent step; rewards are summed.
    horizon: env steps of an episode, 500 at most. shadows: as in `envs/render/renderer.py`. task_seed: which goals.
    reward_version: v2, or v1, the rewards of the first release.
    """

    task: str
    obs: Literal["state", "pixels"] = "state"
    action_repeat: int = 1
    frame_stack: int = 3
    size: int = 84
    camera: Literal["topview", "corner", "corner2", "corner3", "corner4", "behindGripper", "gripperPOV"] = "corner4"
    shadows: Literal["exact", "fast", "off"] = "off"
    horizon: int = HORIZON
    reward_version: Literal["v1", "v2"] = "v2"
    task_seed: int = 0
    num_envs: int = 1
    workers: Workers = "auto"

    def __post_init__(self) -> None:
        check_name(self.task)
        self._check_ranges({"action_repeat": COPIES, "frame_stack": COPIES, "size": SIDE, "num_envs": COPIES})
        self._check_ranges({"horizon": (1, HORIZON), "task_seed": SEEDS})

    def _gains_by_workers(self) -> bool:
        return self.obs == "pixels" or self.num_envs > 1

    def scoring(self) -> Scoring:
        """Return plain returns, where success is not what counts."""
        return Scoring(suite="MT1", task=self.task)

    def make(self, seed: int) -> "MT1Env":
        """Build the environment. Raises RuntimeError without OpenGL when pixels are asked for."""
        return MT1Env(self, seed)


class MT1Env(gymnasium.Env[Array, Array]):
    """One task under a new goal every episode; `truncated` at the horizon, never `terminated`.

    `info["success"]` is 1.0 on steps that solve the task (with action repeat: on one of them).
    """

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012
    render_mode = "rgb_array"

    def __init__(self, config: MT1, seed: int) -> None:
        self.config = config
        self.action_repeat = config.action_repeat
        self.frame_stack = config.frame_stack if config.obs == "pixels" else 1
        self._goals = goals((config.task,), config.task_seed)[config.task]
        self._simulator = Simulator(config.task, goal_visible=True, reward_version=config.reward_version)
        seconds = self._simulator.seconds * config.action_repeat
        self.metadata = {**type(self).metadata, "render_fps": max(1, round(1 / seconds))}
        self.action_space = spaces.Box(-1.0, 1.0, (ACTION_SIZE,), np.float32)
        shape = (3 * config.frame_stack, config.size, config.size)
        self._frames = np.zeros(shape if config.obs == "pixels" else (0,), np.uint8)
        self.observation_space = (
            spaces.Box(0, 255, shape, np.uint8)
            if config.obs == "pixels"
            else spaces.Box(-np.inf, np.inf, (OBS_SIZE,), np.float32)
        )
        self.reset(seed=seed)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Start an episode under a goal of its own; with `seed` it is the same episode whatever came before."""
        super().reset(seed=seed)
        self._goal, self._env_steps = int(self.np_random.integers(len(self._goals))), 0
        self._values = self._simulator.begin(self._goals[self._goal])
        if self.config.obs == "pixels":
            self._frames[:] = np.tile(self._frame(), (self.frame_stack, 1, 1))
        return self._observe(), {}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Repeat `action` `(4,)`, clipped to [-1, 1], for `action_repeat` env steps, fewer where the episode ends."""
        action = np.clip(np.asarray(action, np.float64), -1.0, 1.0)
        reward = success = 0.0
        for _ in range(min(self.action_repeat, self.config.horizon - self._env_steps)):
            self._values, gained, solved = self._simulator.step(action)
            reward, success = reward + gained, max(success, solved)
            self._env_steps += 1
        if self.config.obs == "pixels":
            self._frames[:-3] = self._frames[3:]
            self._frames[-3:] = self._frame()
        return self._observe(), reward, False, self._env_steps >= self.config.horizon, {"success": success}

    def render(self) -> Array:
        """Return the scene as RGB `(256, 256, 3)`, for states too. Raises RuntimeError without OpenGL."""
        return self._simulator.frame()

    def close(self) -> None:
        self._simulator.close()

    def labels(self) -> dict[str, float]:
        """Return what the newest frame shows, for probes: places of hand, object and target in metres, the grip."""
        names = ("hand_x", "hand_y", "hand_z", "grip", "object_x", "object_y", "object_z")
        seen = dict(zip(names, self._values.tolist(), strict=False))
        target = self._simulator.target().tolist()
        return {**seen, **dict(zip(("target_x", "target_y", "target_z"), target, strict=True))}

    def state(self) -> Tree:
        return {
            "random": self.np_random.bit_generator.state,
            "goal": self._goal,
            "env_steps": self._env_steps,
            "values": self._values.copy(),
            "frames": self._frames.copy(),
            "simulator": self._simulator.state(),
        }

    def load_state(self, state: Tree) -> Array:
        self.np_random.bit_generator.state = state["random"]
        self._goal, self._env_steps = state["goal"], state["env_steps"]
        self._simulator.load(self._goals[self._goal], state["simulator"])
        self._values = np.array(state["values"], np.float32)
        self._frames[:] = state["frames"]
        return self._observe()

    def _observe(self) -> Array:
        return np.array(self._frames if self.config.obs == "pixels" else self._values)

    def _frame(self) -> Array:
        frame = self._simulator.frame(self.config.size, self.config.camera, self.config.shadows)
        return np.moveaxis(frame, 2, 0)
