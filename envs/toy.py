"""A one-dimensional chase with a known optimal return, as states or as tiny frames: learned by SAC in seconds.

The agent starts in the middle of a line; the target is on one of its two sides. Every step spent at the target pays 1.
"""

from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from rlrep.contract.env import Array, Scoring, Tree

from .options import COPIES, SIDE, SimulatorConfig, Workers

STRIDE = 0.25  # distance of a full action
TARGET = 0.75  # distance of the target from the start: three full actions
REACH = 0.2  # how near counts as there
EPISODE_STEPS = 20


class Chase(SimulatorConfig):
    """What both kinds of observation have in common."""

    terminates: bool = False

    def __post_init__(self) -> None:
        self._check_ranges({"num_envs": COPIES})

    def _gains_by_workers(self) -> bool:
        return False  # a step takes microseconds

    def scoring(self) -> Scoring:
        """Return plain returns, and that of the best policy, whichever side the target is on."""
        return Scoring(references={"optimal": optimal_return(terminates=self.terminates)})


@dataclass(frozen=True)
class ToyState(Chase):
    """The chase as float32 `(2,)`: the agent's and the target's position.

    terminates: the episode ends (terminated) with the first reward, instead of by truncation after 20 steps.
    """

    terminates: bool = False
    num_envs: int = 1
    workers: Workers = "auto"

    def make(self, seed: int) -> "ToyEnv":
        return ToyEnv(seed, terminates=self.terminates, size=None, frame_stack=1)


@dataclass(frozen=True)
class ToyPixels(Chase):
    """The chase as uint8 `(3*frame_stack, size, size)`, oldest frame first: red the agent, green the target.

    terminates: the episode ends (terminated) with the first reward, instead of by truncation after 20 steps.
    """

    size: int = 16
    frame_stack: int = 3
    terminates: bool = False
    num_envs: int = 1
    workers: Workers = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_ranges({"size": (4, SIDE[1]), "frame_stack": COPIES})

    def make(self, seed: int) -> "ToyEnv":
        return ToyEnv(seed, terminates=self.terminates, size=self.size, frame_stack=self.frame_stack)


def optimal_return(*, terminates: bool) -> float:
    """Full speed to the target, then rest there: every step from the one that arrives pays 1."""
    steps_before = int(np.ceil((TARGET - REACH) / STRIDE)) - 1
    return 1.0 if terminates else float(EPISODE_STEPS - steps_before)


class ToyEnv(gymnasium.Env[Array, Array]):
    """The chase itself; `size=None` gives states. One action in [-1, 1]: the step to take, in units of `STRIDE`."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012
    render_mode = "rgb_array"
    action_repeat = 1

    def __init__(self, seed: int, *, terminates: bool, size: int | None, frame_stack: int) -> None:
        self.frame_stack = frame_stack
        self.optimal_return = optimal_return(terminates=terminates)
        self._terminates, self._size = terminates, size
        self._random = np.random.default_rng(seed)
        self._agent, self._target, self._steps = 0.0, TARGET, 0
        self._frames = np.zeros((frame_stack, 3, size or 0, size or 0), np.uint8)
        self.action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.observation_space = (
            spaces.Box(-1.0, 1.0, (2,), np.float32)
            if size is None
            else spaces.Box(0, 255, (3 * frame_stack, size, size), np.uint8)
        )

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Start an episode; with `seed` it is the same episode whatever came before."""
        super().reset(seed=seed)
        if seed is not None:
            self._random = np.random.default_rng(seed)
        self._agent, self._steps = 0.0, 0
        self._target = TARGET if self._random.random() < 0.5 else -TARGET
        self._frames[:] = _draw(self._agent, self._target, self._size or 0)
        return self._observe(), {}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Move by `action` `(1,)`."""
        self._agent = float(np.clip(self._agent + STRIDE * float(np.clip(action[0], -1.0, 1.0)), -1.0, 1.0))
        self._steps += 1
        self._frames[:-1] = self._frames[1:]
        self._frames[-1] = _draw(self._agent, self._target, self._size or 0)
        there = abs(self._agent - self._target) <= REACH
        terminated = there and self._terminates
        return self._observe(), float(there), terminated, self._steps >= EPISODE_STEPS and not terminated, {}

    def render(self) -> Any:
        """Return the line as RGB `(64, 64, 3)`."""
        return np.ascontiguousarray(_draw(self._agent, self._target, 64).transpose(1, 2, 0))

    def labels(self) -> dict[str, float]:
        """Return what the newest frame shows, for probes: both positions."""
        return {"agent": self._agent, "target": self._target}

    def state(self) -> Tree:
        return {
            "random": self._random.bit_generator.state,
            "agent": self._agent,
            "target": self._target,
            "steps": self._steps,
            "frames": self._frames.copy(),
        }

    def load_state(self, state: Tree) -> Array:
        self._random.bit_generator.state = state["random"]
        self._agent, self._target, self._steps = state["agent"], state["target"], state["steps"]
        self._frames[:] = state["frames"]
        return self._observe()

    def _observe(self) -> Array:
        if self._size is None:
            return np.array([self._agent, self._target], np.float32)
        return np.array(self._frames.reshape(-1, self._size, self._size))


def _draw(agent: float, target: float, size: int) -> NDArray[np.uint8]:
    """Return `(3, size, size)`: each a bar whose brightness over the columns tells the position below the pixel."""
    columns = np.arange(size)
    frame = np.zeros((3, size, size), np.uint8)
    for channel, position in enumerate((agent, target)):
        centre = 0.5 * (position + 1.0) * (size - 1)
        frame[channel] = np.round(255 * np.clip(1.5 - np.abs(columns - centre), 0.0, 1.0)).astype(np.uint8)
    return frame
