"""A robot of gymnasium's MuJoCo models under a family of tasks: simulation, exact state, rendering.

What is read after a step (body positions, forces) is what `mj_step` left, as in gymnasium and mujoco-py: of the last
stage of the integration. So it is kept with the state, where it counts: MuJoCo could not compute it again.
"""

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from rlrep.contract.env import Array, Tree

from ..render import gl
from ..render.renderer import renderer_of
from .base import TaskEnv, TaskFamily

VIDEO_SIZE = 256
ASSETS = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets"


@dataclass(frozen=True)
class Robot:
    """A model and how an episode of it begins.

    timestep: seconds of a simulation step, frame_skip of which make an agent step. An episode begins at the model's own
    pose plus uniform noise in ±`noise`; velocities are normal with that standard deviation where `normal_velocity`,
    else uniform, too. contact_forces: whether `cfrc_ext` is computed (it is read by observations or rewards).
    """

    model: str
    timestep: float
    frame_skip: int
    noise: float
    normal_velocity: bool = False
    contact_forces: bool = False

    @property
    def dt(self) -> float:
        """Seconds of an agent step."""
        return self.timestep * self.frame_skip

    def load(self) -> Any:
        """Return a new model."""
        model = gl.load_mujoco().MjModel.from_xml_path(str(ASSETS / self.model))
        model.opt.timestep = self.timestep
        return model


class RobotEnv(TaskEnv):
    """The robot's simulation. A subclass says what is observed, what is rewarded and when the robot has fallen."""

    robot: Robot
    obs_size: int

    def __init__(self, family: TaskFamily, seed: int) -> None:
        self._model = self.robot.load()
        self._mujoco: Any = gl.load_mujoco()
        self._data = self._mujoco.MjData(self._model)
        self._low, self._high = self._model.actuator_ctrlrange.T.copy()
        self._start = self._data.qpos.copy()
        self._place = np.zeros(0)
        self._video: Any = None
        self.metadata = {**type(self).metadata, "render_fps": round(1 / self.robot.dt)}
        super().__init__(family, seed, obs_size=self.obs_size, action_size=self._model.nu)

    def render(self) -> Any:
        """Return the scene from the model's tracking camera as RGB `(256, 256, 3)`. Raises RuntimeError without GL."""
        if self._video is None:
            self._video = renderer_of(self._model, self._data, VIDEO_SIZE)
        return self._video.frame().copy()

    def close(self) -> None:
        if self._video is not None:
            self._video.close()
            self._video = None

    def _begin(self) -> None:
        robot, data, random = self.robot, self._data, self.np_random
        self._mujoco.mj_resetData(self._model, data)
        data.qpos[:] = self._start + random.uniform(-robot.noise, robot.noise, self._model.nq)
        if robot.normal_velocity:
            data.qvel[:] = robot.noise * random.standard_normal(self._model.nv)
        else:
            data.qvel[:] = random.uniform(-robot.noise, robot.noise, self._model.nv)
        self._mujoco.mj_forward(self._model, data)
        self._place = self._position()

    def _advance(self, action: Array) -> tuple[float, bool, dict[str, Any]]:
        self._data.ctrl[:] = self._low + (action + 1.0) * 0.5 * (self._high - self._low)
        self._mujoco.mj_step(self._model, self._data, nstep=self.robot.frame_skip)
        if self.robot.contact_forces:
            self._mujoco.mj_rnePostConstraint(self._model, self._data)
        position = self._position()
        velocity = (position - self._place) / self.robot.dt
        self._place = position
        return float(self._reward(velocity)), self._fallen(), {}

    def _save(self) -> Tree:
        kind = self._mujoco.mjtState.mjSTATE_INTEGRATION
        state = np.empty(self._mujoco.mj_stateSize(self._model, kind))
        self._mujoco.mj_getState(self._model, self._data, state, kind)
        return {"integration": state, "place": self._place.copy()}

    def _load(self, state: Tree) -> None:
        mujoco, whole = self._mujoco, np.array(state["integration"], np.float64)
        mujoco.mj_setState(self._model, self._data, whole, mujoco.mjtState.mjSTATE_INTEGRATION)
        mujoco.mj_forward(self._model, self._data)  # for rendering; moves the solver's warm start, hence once more
        mujoco.mj_setState(self._model, self._data, whole, mujoco.mjtState.mjSTATE_INTEGRATION)
        self._place = np.array(state["place"], np.float64)

    def _position(self) -> NDArray[np.float64]:
        """Return a copy of the coordinates whose change over time is the velocity that is rewarded."""
        return np.array(self._data.qpos[:1])

    @abstractmethod
    def _reward(self, velocity: NDArray[np.float64]) -> float:
        """Return the reward of the step just simulated, in which `_position` changed by `velocity` per second."""

    def _fallen(self) -> bool:
        """Return whether the episode ends itself here."""
        return False


def flat(*parts: Any) -> Array:
    """Return arrays of any shapes as one observation, float32 `(D,)`."""
    return np.concatenate([np.ravel(part) for part in parts]).astype(np.float32, copy=False)
