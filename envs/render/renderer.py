"""Frames of a dm_control simulation, several times faster than `physics.render` on a software rasteriser.

What takes dm_control's time at 84 pixels, and what is done here:
- a 640x480 multisampled buffer, scene and camera made anew per frame: one buffer of the frame's size, made once;
- 1800 triangles per capsule, most of them smaller than a sample: meshes by size on screen (`lod.py`);
- a 2048x2048 shadow map of floors and of both sides of every solid: 1024, of sides facing the light, aimed at the half
  of the light's field where that holds all casters.
`exact` does only the first, which changes no pixel; `off` has the coarser meshes, too.
"""

import math
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from . import gl

Shadows = Literal["exact", "fast", "off"]

SHADOW_MAP = 1024
MAX_GEOMS = 1000
DECORATION, PLANE = 4, 0  # mjCAT_DECOR, mjGEOM_PLANE


class Renderer:
    """Renders one camera of `physics` at one size. Its GL context is known to dm_control, so both can be used."""

    def __init__(self, physics: Any, size: int, camera: int, shadows: Shadows) -> None:
        """Make the context.

        Raises ValueError for an unknown camera, RuntimeError (one line, what to install) without OpenGL.
        """
        import mujoco

        self._mujoco, self._physics, self._shadows = mujoco, physics, shadows
        model = physics.model.ptr
        if not -1 <= camera < model.ncam:
            raise ValueError(f"env.camera={camera} does not exist; this model has -1 (free) to {model.ncam - 1}")
        self._model = model
        self._camera = _make_camera(model, camera)
        self._scene, self._option = mujoco.MjvScene(model, MAX_GEOMS), mujoco.MjvOption()
        self._option.flags[mujoco.mjtVisFlag.mjVIS_RANGEFINDER] = False  # as dm_control does
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = shadows != "off"
        self._rect = mujoco.MjrRect(0, 0, size, size)
        self._pixels = np.empty((size, size, 3), np.uint8)
        self._gl, self._context = _make_contexts(physics, size, None if shadows == "exact" else SHADOW_MAP)
        self._simplifier: Any = None
        if shadows != "exact":
            from .lod import Simplifier

            self._simplifier = Simplifier(model, self._context.ptr, self._scene, size)
        self._clip, self._scale = self._context.ptr.shadowClip, self._context.ptr.shadowScale

    def frame(self) -> NDArray[np.uint8]:
        """Return the current frame `(size, size, 3)`: a view that the next call overwrites."""
        self._mujoco.mjv_updateScene(
            self._model,
            self._physics.data.ptr,
            self._option,
            None,
            self._camera,
            self._mujoco.mjtCatBit.mjCAT_ALL.value,
            self._scene,
        )
        with self._gl.make_current() as gl_thread:
            gl_thread.call(self._draw)
        return self._pixels[::-1]

    def reload(self) -> None:
        """Take over height fields that the task has redrawn (quadruped escape does, every episode)."""
        for index in range(self._model.nhfield):
            with self._gl.make_current() as gl_thread:
                gl_thread.call(self._mujoco.mjr_uploadHField, self._model, self._context.ptr, index)

    def close(self) -> None:
        """Free the GL context; the renderer cannot be used afterwards."""
        self._context.free()

    def _draw(self) -> None:
        context = self._context.ptr
        if self._simplifier is not None:
            if self._shadows == "fast":
                self._aim_lights(context)
            self._simplifier.apply()
        self._mujoco.mjr_render(self._rect, self._scene, context)
        self._mujoco.mjr_readPixels(self._pixels, None, self._rect, context)

    def _aim_lights(self, context: Any) -> None:
        """Narrow the shadow maps' field where it still holds every caster: at MuJoCo's own texels, in a smaller map."""
        lights = [light for light in self._scene.lights[: self._scene.nlight] if light.castshadow]
        # both maps leave a border of one texel; other shares would not lay texels on MuJoCo's, and differ more
        share = (SHADOW_MAP - 2) / (int(self._model.vis.quality.shadowsize) - 2)
        needed = max((_field(self._scene, light, self._clip, self._scale) for light in lights), default=0.0)
        if not needed <= share < 1:
            share = 1.0
        context.shadowClip = self._clip * share
        context.shadowScale = _narrow(lights, self._scale, share)


def renderer_of(model: Any, data: Any, size: int, *, camera: int = 0, shadows: Shadows = "fast") -> Renderer:
    """Return a renderer of MuJoCo's own model and data, which dm_control does not know. Raises RuntimeError."""
    gl.load_suite()  # dm_control brings the GL contexts
    from dm_control.mujoco import wrapper

    physics = SimpleNamespace(model=wrapper.MjModel(model), data=SimpleNamespace(ptr=data))
    return Renderer(physics, size, camera, shadows)


def _make_contexts(physics: Any, size: int, shadow_map: int | None) -> tuple[Any, Any]:
    """Return dm_control's GL context and MuJoCo's, made for this size; the model's own settings are put back."""
    from dm_control import _render
    from dm_control.mujoco.wrapper import MjrContext

    model = physics.model
    quality, screen = model.vis.quality, model.vis.global_
    before = quality.shadowsize, screen.offwidth, screen.offheight
    try:
        quality.shadowsize = min(before[0], shadow_map or before[0])
        screen.offwidth = screen.offheight = size
        context = _render.Renderer(size, size)
        return context, MjrContext(model, context)
    except Exception as error:
        raise gl.no_gl(error) from error
    finally:
        quality.shadowsize, screen.offwidth, screen.offheight = before


def _make_camera(model: Any, index: int) -> Any:
    import mujoco

    camera = mujoco.MjvCamera()
    camera.fixedcamid = index
    camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
    if index == -1:
        camera.type = mujoco.mjtCamera.mjCAMERA_FREE
        mujoco.mjv_defaultFreeCamera(model, camera)
    return camera


def _field(scene: Any, light: Any, clip: float, scale: float) -> float:
    """Return the share of the light's field that holds every caster. Planes cast nothing that could be seen."""
    origin, direction = light.pos.tolist(), light.dir.tolist()
    slope = math.tan(math.radians(min(light.cutoff * scale, 80.0)))
    needed = 0.0
    for geom in scene.geoms[: scene.ngeom]:
        if geom.category == DECORATION or geom.type == PLANE:
            continue
        radius = geom.modelrbound or math.hypot(*geom.size.tolist())
        offset = [p - o for p, o in zip(geom.pos.tolist(), origin, strict=True)]
        along = sum(p * d for p, d in zip(offset, direction, strict=True))
        aside = math.sqrt(max(0.0, sum(p * p for p in offset) - along * along)) + radius
        reach = clip if light.directional else slope * (along - radius)
        needed = max(needed, aside / reach if reach > 0 else math.inf)
    return needed


def _narrow(lights: list[Any], scale: float, share: float) -> float:
    """Return the cone scale whose tangent is `share` of the present one's (MuJoCo scales the angle)."""
    cones = [light.cutoff for light in lights if not light.directional]
    if not cones:
        return scale
    cone = float(cones[0])
    angle = math.radians(cone * scale)
    return math.degrees(math.atan(math.tan(angle) * share)) / cone
