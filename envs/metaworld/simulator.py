"""One of Meta-World's simulators: goal set by hand, state saved bit for bit, frames."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from rlrep.contract.env import Array, Tree

from ..render import gl
from ..render.renderer import Shadows, renderer_of
from .tasks import build

HORIZON = 500  # simulator steps after which the package refuses to go on
OBS_SIZE = 39
ACTION_SIZE = 4
VIDEO_SIZE = 256
CAMERA = "corner4"
STEPPED = ("curr_path_length", "pickCompleted", "placeCompleted", "reachCompleted", "_target_to_obj_init")
"""Attributes that the package's environments change in a step, beside the physics and the last observation."""


class Simulator:
    """An environment of Meta-World under one goal at a time.

    goal_visible: whether the target's place fills the last 3 numbers of the observation, or zeros do.
    """

    def __init__(self, name: str, *, goal_visible: bool, reward_version: str) -> None:
        self.name = name
        self._env = build(name, reward_version)
        self._env._partially_observable = not goal_visible
        vars(self._env).pop("sawyer_observation_space", None)  # computed for the other visibility
        self._env._get_state_rand_vec = self._give_goal
        self._env.touching_object = self._touches
        self._goal: Array = np.zeros(0)
        self._asked = 0
        self._renderers: dict[tuple[int, str, str], Any] = {}
        _turn_cameras(self._env.model)

    @property
    def seconds(self) -> float:
        """Simulated time of a step."""
        return float(self._env.dt)

    def begin(self, goal: Sequence[float]) -> Array:
        """Start an episode under `goal` (the package's `rand_vec`); return the observation, float32 `(39,)`.

        The episode is the same whatever came before. Raises ValueError for a goal that the environment rejects.
        """
        size = self._env._random_reset_space.low.size
        if len(goal) != size:
            raise ValueError(f"{self.name} has goals of {size} numbers, not {len(goal)}")
        self._goal, self._asked = np.array(goal, np.float64), 0
        return _float32(self._env.reset()[0])

    def step(self, action: Array) -> tuple[Array, float, float]:
        """Take `action` `(4,)` in [-1, 1]; return observation, reward and whether the task is solved just now."""
        obs, reward, _, _, info = self._env.step(action)
        return _float32(obs), float(reward), float(info["success"])

    def state(self) -> Tree:
        """Return what `load` needs beside the goal."""
        mujoco, env = gl.load_mujoco(), self._env
        kind = mujoco.mjtState.mjSTATE_INTEGRATION.value
        physics = np.empty(mujoco.mj_stateSize(env.model, kind))
        mujoco.mj_getState(env.model, env.data, physics, kind)
        stepped = {name: _plain(getattr(env, name)) for name in STEPPED if hasattr(env, name)}
        return {"physics": physics, "previous": env._prev_obs.copy(), "stepped": stepped}

    def load(self, goal: Sequence[float], state: Tree) -> None:
        """Return to a saved state of an episode under `goal`, bit for bit."""
        mujoco, env = gl.load_mujoco(), self._env
        kind = mujoco.mjtState.mjSTATE_INTEGRATION.value
        physics = np.array(state["physics"], np.float64)
        self.begin(goal)
        mujoco.mj_setState(env.model, env.data, physics, kind)
        mujoco.mj_forward(env.model, env.data)  # moves the solver's warm start, hence once more
        mujoco.mj_setState(env.model, env.data, physics, kind)
        env._prev_obs = np.array(state["previous"], np.float64)
        for name, value in state["stepped"].items():
            setattr(env, name, value)

    def target(self) -> Array:
        """Return where the target is, `(3,)` in metres."""
        return np.array(self._env._target_pos, np.float64)

    def frame(self, size: int = VIDEO_SIZE, camera: str = CAMERA, shadows: Shadows = "fast") -> Array:
        """Return the scene as RGB `(size, size, 3)`. Raises RuntimeError (one line, what to install) without OpenGL."""
        data = self._env.data
        before = data.site_xpos.copy()
        self._place_markers()
        pixels = self._renderer(size, camera, shadows).frame().copy()
        data.site_xpos[:] = before
        return np.asarray(pixels)

    def close(self) -> None:
        """Free the GL contexts; the simulation goes on."""
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers.clear()

    def _place_markers(self) -> None:
        """Put the target's markers where the package means them to be: its steps compute other places afterwards."""
        for name, place in self._env._target_site_config:
            marker = self._env.data.site(name)
            if not np.allclose(marker.xpos, self.target()):  # right already; of pick-out-of-hole, not what is meant
                marker.xpos = place[:3]

    def _give_goal(self) -> Array:
        """Stand in for the package's draw from numpy's global generator, which a reset asks for twice."""
        self._asked += 1
        if self._asked > 2:
            raise ValueError(f"{self.name} rejects the goal {self._goal.tolist()}: object and target are too near")
        self._env._last_rand_vec = self._goal.copy()
        return np.asarray(self._env._last_rand_vec)

    def _touches(self, geom: int) -> bool:
        """Stand in for the package's walk over all contacts, a quarter of a step: does the grip press on `geom`?"""
        data = self._env.data
        contacts = data.contact
        pairs, rows = contacts.geom, contacts.efc_address
        held = (pairs == geom).any(1)
        pads = (data.geom(name).id for name in ("leftpad_geom", "rightpad_geom"))
        return all(sum(data.efc_force[rows[held & (pairs == pad).any(1)]].tolist()) > 0 for pad in pads)

    def _renderer(self, size: int, camera: str, shadows: Shadows) -> Any:
        if (size, camera, shadows) not in self._renderers:
            model, data = self._env.model, self._env.data
            made = renderer_of(model, data, size, camera=model.camera(camera).id, shadows=shadows)
            self._renderers[size, camera, shadows] = made
        return self._renderers[size, camera, shadows]


def _turn_cameras(model: Any) -> None:
    """Turn the cameras that hang upside down, as most of the package's do, by 180° about their line of sight."""
    mujoco = gl.load_mujoco()
    for index in np.flatnonzero(model.cam_bodyid == 0):
        axes, turned = np.zeros(9), np.zeros(4)
        mujoco.mju_quat2Mat(axes, model.cam_quat[index])
        if axes[7] < -1e-6:  # height of its upward axis
            mujoco.mju_mulQuat(turned, model.cam_quat[index], np.array([0.0, 0.0, 0.0, 1.0]))
            model.cam_quat[index] = turned


def _float32(obs: Any) -> Array:
    return np.asarray(obs, np.float32)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
