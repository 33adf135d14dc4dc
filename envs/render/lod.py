"""Coarser meshes for the round geoms of a MuJoCo scene, chosen by their size on screen."""

import ctypes
import importlib
import math
from typing import Any

import mujoco
import numpy as np

from . import meshes

GL_1_0 = importlib.import_module("OpenGL.raw.GL.VERSION.GL_1_0")  # PyOpenGL has no types
GL_1_1 = importlib.import_module("OpenGL.raw.GL.VERSION.GL_1_1")
GL_1_5 = importlib.import_module("OpenGL.raw.GL.VERSION.GL_1_5")

CAPSULE = int(mujoco.mjtGeom.mjGEOM_CAPSULE)
CYLINDER = int(mujoco.mjtGeom.mjGEOM_CYLINDER)
SPHERES = (int(mujoco.mjtGeom.mjGEOM_SPHERE), int(mujoco.mjtGeom.mjGEOM_ELLIPSOID))
ROUND = (CAPSULE, CYLINDER, *SPHERES)
MESH, PLANE = int(mujoco.mjtGeom.mjGEOM_MESH), int(mujoco.mjtGeom.mjGEOM_PLANE)
DECORATION = int(mujoco.mjtCatBit.mjCAT_DECOR)
TEXTURE_ROLES, RGB_ROLE = int(mujoco.mjtTextureRole.mjNTEXROLE), int(mujoco.mjtTextureRole.mjTEXROLE_RGB)

ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER = 0x8892, 0x8893
COMPILE, VERTEX_ARRAY, NORMAL_ARRAY = 0x1300, 0x8074, 0x8075
ENABLE_BIT, CULL_FACE = 0x2000, 0x0B44
TRIANGLES, FLOAT, UNSIGNED_INT = 0x0004, 0x1406, 0x1405

THREAD_PIXELS = 0.5  # radius below which a capsule is drawn as a thread
THREAD_SLICES = 14
ROW_PIXELS = 0.012  # how far an outline may lie inside MuJoCo's
# stacks carry the shading along a cylinder: their length at most so many pixels, and distances to the nearest lamp
STACK_PIXELS, STACK_LAMPS = 20.0, 0.03


class Simplifier:
    """Replaces round geoms of `scene` by display lists of its own, as geoms of type mesh.

    The choice depends on the current scene only: equal scenes give equal pixels. Textured geoms stay as they are.
    Made and used with the scene's GL context current.
    """

    def __init__(self, model: Any, context: Any, scene: Any, size: int) -> None:
        self._scene, self._size = scene, size
        self._base_mesh = int(context.baseMesh)
        self._slices = int(model.vis.quality.numslices)
        self._max_stacks = int(model.vis.quality.numstacks)
        self._textures = context.mat_texid[RGB_ROLE::TEXTURE_ROLES].tolist()
        self._lists: dict[tuple[float, ...], int] = {}

    def apply(self) -> None:
        """Simplify what `mjv_updateScene` has just filled in."""
        camera = self._scene.camera[0]
        focal = self._size * camera.frustum_near / (camera.frustum_top - camera.frustum_bottom)
        eye, forward = camera.pos.tolist(), camera.forward.tolist()
        lamps = [lamp.pos.tolist() for lamp in self._scene.lights[: self._scene.nlight] if not lamp.directional]
        for geom in self._scene.geoms[: self._scene.ngeom]:
            if geom.type == PLANE:
                geom.category = DECORATION  # casts no shadow then: it would fall where nothing is seen
            elif geom.type in ROUND and (geom.matid < 0 or self._textures[geom.matid] < 0):
                place = geom.pos.tolist()
                depth = sum((p - e) * f for p, e, f in zip(place, eye, forward, strict=True))
                lamp = min((math.dist(place, lamp) for lamp in lamps), default=math.inf)
                self._replace(geom, focal / max(depth, camera.frustum_near), lamp)

    def _replace(self, geom: Any, scale: float, lamp: float) -> None:
        """Turn a round geom, `scale` pixels a metre and `lamp` metres from the nearest lamp, into a mesh."""
        x, y, z = geom.size.tolist()
        pixels = max(x, y) * scale
        stacks = math.ceil(2 * z / min(STACK_PIXELS / scale, STACK_LAMPS * lamp))
        stacks = min(max(stacks, 1), self._max_stacks)
        if geom.type == CAPSULE and pixels >= THREAD_PIXELS:
            if x == y:
                geom.type, geom.dataid = MESH, self._list((CAPSULE, x, z, self._rows_for(pixels), stacks))
            return
        detail = {CAPSULE: 0, CYLINDER: stacks}.get(geom.type) or self._rows_for(pixels)
        geom.mat[:] *= geom.size  # these meshes are of unit size
        geom.type, geom.dataid = MESH, self._list((geom.type, detail))

    def _rows_for(self, pixels: float) -> int:
        rows = self._max_stacks // 2
        for fewer in (2, 4):
            if fewer < rows and pixels * (1 - math.cos(math.pi / (4 * fewer))) < ROW_PIXELS:
                return fewer
        return rows

    def _list(self, key: tuple[float, ...]) -> int:
        if key not in self._lists:
            self._lists[key] = _compile(self._mesh(*key)) - self._base_mesh
        return self._lists[key]

    def _mesh(self, kind: float, *detail: float) -> meshes.Mesh:
        if kind == CAPSULE and len(detail) == 4:
            radius, half_length, rows, stacks = detail
            return meshes.capsule(radius, half_length, self._slices, int(rows), int(stacks))
        if kind == CAPSULE:
            return meshes.thread(THREAD_SLICES, self._slices)
        if kind == CYLINDER:
            return meshes.cylinder(self._slices, int(detail[0]))
        return meshes.sphere(self._slices, int(detail[0]))


def _compile(mesh: meshes.Mesh) -> int:
    """Return a new display list that draws `mesh`."""
    vertices = np.ascontiguousarray(mesh.vertices, np.float32)
    normals = np.ascontiguousarray(mesh.normals, np.float32)
    indices = np.ascontiguousarray(mesh.triangles, np.uint32)
    for buffer in (ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER):
        GL_1_5.glBindBuffer(buffer, 0)  # MuJoCo leaves those of skins bound
    for array in (VERTEX_ARRAY, NORMAL_ARRAY):
        GL_1_1.glEnableClientState(array)
    GL_1_1.glVertexPointer(3, FLOAT, 0, _address(vertices))
    GL_1_1.glNormalPointer(FLOAT, 0, _address(normals))
    name = int(GL_1_0.glGenLists(1))
    GL_1_0.glNewList(name, COMPILE)
    GL_1_0.glPushAttrib(ENABLE_BIT)
    GL_1_0.glEnable(CULL_FACE)  # for the shadow maps, which MuJoCo draws unculled: the far side of a solid is hidden
    GL_1_1.glDrawElements(TRIANGLES, indices.size, UNSIGNED_INT, _address(indices))
    GL_1_0.glPopAttrib()
    GL_1_0.glEndList()
    for array in (VERTEX_ARRAY, NORMAL_ARRAY):
        GL_1_1.glDisableClientState(array)
    return name


def _address(array: Any) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)
