"""The 51 tasks of the DeepMind Control Suite (Tassa et al. 2018) as gymnasium environments."""

from dataclasses import dataclass
from typing import Any, Literal, cast

import gymnasium
import numpy as np
from gymnasium import spaces

from rlrep.contract.env import Array, Scoring, Tree
from rlrep.settings import hint

from ..options import COPIES, SIDE, SimulatorConfig, Workers
from ..render import gl

EPISODE_ENV_STEPS = 1000
VIDEO_SIZE = 256
SEEDED_MODELS = ("lqr",)  # domains whose masses and springs are drawn when the model is built


@dataclass(frozen=True)
class DMC(SimulatorConfig):
    """One suite task.

    obs: `pixels` gives uint8 `(3*frame_stack, size, size)`, oldest frame first; `state` float32 `(D,)`, never stacked.
    action_repeat: env steps per agent step; their rewards are summed.
    camera: index of the model's camera (0 is the suite's tracking or fixed view; DrQ-v2 uses 2 for quadruped).
    shadows: `exact` equals dm_control's own pixels, `fast` differs by some 0.01 of 255 (0.3 at most, on height fields).
    workers: simulators in processes of their own; `auto` = for pixels, and for states when there are several.
    """

    domain: str
    task: str
    obs: Literal["pixels", "state"] = "pixels"
    action_repeat: int = 1
    frame_stack: int = 3
    size: int = 84
    camera: int = 0
    shadows: Literal["exact", "fast", "off"] = "fast"
    num_envs: int = 1
    workers: Workers = "auto"

    def __post_init__(self) -> None:
        self._check_ranges({"action_repeat": COPIES, "frame_stack": COPIES, "size": SIDE, "num_envs": COPIES})

    def _gains_by_workers(self) -> bool:
        return self.obs == "pixels" or self.num_envs > 1

    def scoring(self) -> Scoring:
        """Return shares of what 1000 steps of reward 1 earn, the most in every task (Tassa et al. 2018)."""
        return Scoring(
            suite=f"DMC, {self.obs}",
            task=f"{self.domain}-{self.task}",
            scale="return / 1000",
            zero=0.0,
            one=float(EPISODE_ENV_STEPS),
            table=f"dmc_{self.obs}",
        )

    def make(self, seed: int) -> "DMCEnv":
        """Build the environment.

        Raises ValueError for an unknown task or camera, RuntimeError without OpenGL when pixels are asked for.
        """
        return DMCEnv(self, seed)


class DMCEnv(gymnasium.Env[Array, Array]):
    """A suite task with actions in [-1, 1], raw rewards, and exact `state()` / `load_state()`.

    `terminated` means the task ended itself (discount 0), `truncated` the 1000-step limit; never both.
    """

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012
    render_mode = "rgb_array"

    def __init__(self, config: DMC, seed: int) -> None:
        self.config = config
        self.action_repeat = config.action_repeat
        self.frame_stack = config.frame_stack if config.obs == "pixels" else 1
        self._pixels: Any = None
        self._video: Any = None
        self._build(seed)
        seconds = self._suite_env.control_timestep() * config.action_repeat
        self.metadata = {**type(self).metadata, "render_fps": max(1, round(1 / seconds))}
        self.action_space = spaces.Box(-1.0, 1.0, self._low.shape, np.float32)
        self.observation_space = self._observation_space()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Start an episode; with `seed` it is the same episode whatever came before."""
        super().reset(seed=seed)
        if seed is not None:
            self._reseed(seed)
        self._begin(_copy_rng(self._random))
        self._frames[:] = self._render_frame() if self.config.obs == "pixels" else 0
        return self._observe(), {}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Repeat `action` `(A,)` for `action_repeat` env steps, fewer where the episode ends."""
        reward, terminated, truncated = self._advance(np.array(action, np.float32))
        if self.config.obs == "pixels":
            self._frames[:-1] = self._frames[1:]
            self._frames[-1] = self._render_frame()
        return self._observe(), reward, terminated, truncated, {}

    def render(self) -> Any:
        """Return the scene as RGB `(256, 256, 3)`, for states too."""
        if self._video is None:
            self._video = self._renderer(VIDEO_SIZE)
        return self._video.frame().copy()

    def close(self) -> None:
        for renderer in (self._pixels, self._video):
            if renderer is not None:
                renderer.close()
        self._pixels = self._video = None

    def labels(self) -> dict[str, float]:
        """Return the physics state that the newest frame shows, for probes: generalised positions and velocities."""
        data = self._suite_env.physics.data
        return {f"{kind}_{i}": float(x) for kind in ("qpos", "qvel") for i, x in enumerate(getattr(data, kind))}

    def state(self) -> Tree:
        """Return what `load_state` replays: the RNG at the episode's start and every action since."""
        return {
            "model_seed": self._model_seed,
            "rng_at_start": self._rng_at_start,
            "rng": _copy_rng(self._random),
            "actions": np.stack(self._actions) if self._actions else np.zeros((0, *self._low.shape), np.float32),
            "frames": self._frames.copy(),
        }

    def load_state(self, state: Tree) -> Array:
        """Return to a saved state bit for bit and return its observation.

        MuJoCo's own state vectors restore some tasks inexactly (targets live in the model, warm starts in the solver),
        so the episode is replayed from its first state, physics only.
        """
        if state["model_seed"] != self._model_seed:
            self.close()
            self._build(state["model_seed"])
        if state["rng_at_start"] is not None:
            self._random.set_state(state["rng_at_start"])
            self._begin(state["rng_at_start"])
            for action in state["actions"]:
                self._advance(np.asarray(action, np.float32))
        self._random.set_state(state["rng"])
        self._frames[:] = state["frames"]
        return self._observe()

    def _build(self, seed: int) -> None:
        config = self.config
        suite = gl.load_suite()
        _check_task(suite, config.domain, config.task)
        self._model_seed = seed
        self._random = np.random.RandomState(_bits(seed))
        self._suite_env = suite.load(config.domain, config.task, task_kwargs={"random": self._random})
        spec = self._suite_env.action_spec()
        bounded = np.abs(spec.minimum) < 1e9
        self._low = np.where(bounded, spec.minimum, -1.0)
        self._high = np.where(bounded, spec.maximum, 1.0)
        self._values = np.zeros(0, np.float32)
        self._env_steps = 0
        self._actions: list[Array] = []
        self._rng_at_start: Tree = None
        pixels = config.obs == "pixels"
        self._frames = np.zeros((config.frame_stack, 3, config.size, config.size) if pixels else (0,), np.uint8)
        if pixels:
            self._pixels = self._renderer(config.size)

    def _renderer(self, size: int) -> Any:
        from ..render.renderer import Renderer

        return Renderer(self._suite_env.physics, size, self.config.camera, self.config.shadows)

    def _reseed(self, seed: int) -> None:
        if self.config.domain in SEEDED_MODELS and seed != self._model_seed:
            self.close()
            self._build(seed)
        self._random.set_state(np.random.RandomState(_bits(seed)).get_state(legacy=False))

    def _begin(self, rng: Tree) -> None:
        self._rng_at_start, self._actions, self._env_steps = rng, [], 0
        try:
            self._values = _flatten(self._suite_env.reset().observation)
        except RuntimeError as error:
            if "OpenGL" not in str(error):
                raise
            raise gl.no_gl(error) from error  # quadruped escape makes a GL context of its own, even for states
        for renderer in (self._pixels, self._video):
            if renderer is not None:
                renderer.reload()

    def _advance(self, action: Array) -> tuple[float, bool, bool]:
        self._actions.append(action)
        control = self._low + (np.clip(action, -1.0, 1.0).astype(np.float64) + 1.0) * 0.5 * (self._high - self._low)
        reward = 0.0
        for _ in range(self.action_repeat):
            step = self._suite_env.step(control)
            self._env_steps += 1
            reward += float(step.reward or 0.0)
            ended = step.last() or self._env_steps >= EPISODE_ENV_STEPS
            if ended:
                break
        self._values = _flatten(step.observation)
        terminated = step.last() and step.discount == 0.0
        return reward, terminated, ended and not terminated

    def _render_frame(self) -> Array:
        return cast(Array, self._pixels.frame().transpose(2, 0, 1))

    def _observe(self) -> Array:
        if self.config.obs == "state":
            return self._values
        return np.array(self._frames.reshape(-1, self.config.size, self.config.size))

    def _observation_space(self) -> spaces.Box:
        if self.config.obs == "pixels":
            shape = (3 * self.frame_stack, self.config.size, self.config.size)
            return spaces.Box(0, 255, shape, np.uint8)
        spec = self._suite_env.observation_spec()
        return spaces.Box(-np.inf, np.inf, (sum(int(np.prod(part.shape)) for part in spec.values()),), np.float32)


def _flatten(observation: dict[str, Any]) -> Array:
    return np.concatenate([np.ravel(part) for part in observation.values()]).astype(np.float32)


def _bits(seed: int) -> np.random.MT19937:
    return np.random.MT19937(np.random.SeedSequence(seed))


def _copy_rng(random: np.random.RandomState) -> Tree:
    return random.get_state(legacy=False)


def _check_task(suite: Any, domain: str, task: str) -> None:
    tasks: dict[str, list[str]] = {}
    for known_domain, known_task in suite.ALL_TASKS:
        tasks.setdefault(known_domain, []).append(known_task)
    if domain not in tasks:
        raise ValueError(f"env.domain={domain} is unknown{hint(domain, tasks)}")
    if task not in tasks[domain]:
        raise ValueError(f"env.task={task} is unknown{hint(task, tasks[domain])}")
