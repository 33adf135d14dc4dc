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

CAPSULE = int(mujoco.mjtGeom.mjGEOM_CAPSULE)
CYLINDER = int(mujoco.mjtGeom.mjGEOM_CYLINDER)
SPHERES = (int(mujoco.mjtGeom.mjGEOM_SPHERE), int(mujoco.mjtGeom.mjGEOM_ELLIPSOID))
ROUND = (CAPSULE, CYLINDER, *SPHERES)
MESH = int(mujoco.mjtGeom.mjGEOM_MESH)
TEXTURE_ROLES, RGB_ROLE = int(mujoco.mjtTextureRole.mjNTEXROLE), int(mujoco.mjtTextureRole.mjTEXROLE_RGB)

COMPILE, VERTEX_ARRAY, NORMAL_ARRAY = 0x1300, 0x8074, 0x8075
TRIANGLES, FLOAT, UNSIGNED_INT = 0x0004, 0x1406, 0x1405

THREAD_PIXELS = 0.5  # radius below which a capsule is drawn as a thread
THREAD_SLICES = 14
STACK_PIXELS = 5.0  # length of a cylinder's stacks, which carry the shading along it
ROW_PIXELS = 0.012  # how far an outline may lie inside MuJoCo's


class Simplifier:
    """Replaces round geoms of `scene` by display lists of its own, as geoms of type mesh.

    The choice depends on the current scene only: equal scenes give equal pixels. Textured geoms stay as they are.
    Must be used with the GL context of `context` current.
    """

    def __init__(self, model: Any, context: Any, scene: Any, size: int) -> None:
        self._scene, self._size = scene, size
        self._base_mesh = int(context.baseMesh)
        self._slices = int(model.vis.quality.numslices)
        self._rows = int(model.vis.quality.numstacks) // 2
        self._textures = context.mat_texid[RGB_ROLE::TEXTURE_ROLES].tolist()
        self._lists: dict[tuple[float, ...], int] = {}

    def apply(self) -> None:
        """Simplify what `mjv_updateScene` has just filled in."""
        camera = self._scene.camera[0]
        focal = self._size * camera.frustum_near / (camera.frustum_top - camera.frustum_bottom)
        eye, forward = camera.pos.tolist(), camera.forward.tolist()
        for geom in self._scene.geoms[: self._scene.ngeom]:
            if geom.type in ROUND and (geom.matid < 0 or self._textures[geom.matid] < 0):
                depth = sum((p - e) * f for p, e, f in zip(geom.pos.tolist(), eye, forward, strict=True))
                self._replace(geom, focal / max(depth, camera.frustum_near))

    def _replace(self, geom: Any, scale: float) -> None:
        """Turn a round geom seen at `scale` pixels per metre into a mesh."""
        x, y, z = geom.size.tolist()
        pixels = max(x, y) * scale
        key: tuple[float, ...]
        stacks = max(1, math.ceil(2 * z * scale / STACK_PIXELS))
        if geom.type == CAPSULE and pixels >= THREAD_PIXELS:
            if x != y:
                return
            key = (CAPSULE, x, z, self._rows_for(pixels), min(stacks, 2 * self._rows))
        else:
            if geom.type in SPHERES:
                key = (geom.type, self._rows_for(pixels))
            else:
                key = (geom.type, min(stacks, 2 * self._rows) if geom.type == CYLINDER else 1)
            geom.mat[:] *= geom.size
        geom.type, geom.dataid = MESH, self._list(key)

    def _rows_for(self, pixels: float) -> int:
        for rows in (2, 4):
            if rows < self._rows and pixels * (1 - math.cos(math.pi / (4 * rows))) < ROW_PIXELS:
                return rows
        return self._rows

    def _list(self, key: tuple[float, ...]) -> int:
        if key not in self._lists:
            self._lists[key] = _compile(self._mesh(key)) - self._base_mesh
        return self._lists[key]

    def _mesh(self, key: tuple[float, ...]) -> meshes.Mesh:
        kind = key[0]
        if kind == CAPSULE and len(key) == 5:
            return meshes.capsule(key[1], key[2], self._slices, int(key[3]), int(key[4]))
        if kind == CAPSULE:
            return meshes.thread(THREAD_SLICES, self._slices)
        if kind == CYLINDER:
            return meshes.cylinder(self._slices, int(key[1]))
        return meshes.sphere(self._slices, int(key[1]))


def _compile(mesh: meshes.Mesh) -> int:
    """Return a new display list that draws `mesh`."""
    vertices = np.ascontiguousarray(mesh.vertices, np.float32)
    normals = np.ascontiguousarray(mesh.normals, np.float32)
    indices = np.ascontiguousarray(mesh.triangles, np.uint32)
    for array in (VERTEX_ARRAY, NORMAL_ARRAY):
        GL_1_1.glEnableClientState(array)
    GL_1_1.glVertexPointer(3, FLOAT, 0, _address(vertices))
    GL_1_1.glNormalPointer(FLOAT, 0, _address(normals))
    name = int(GL_1_0.glGenLists(1))
    GL_1_0.glNewList(name, COMPILE)
    GL_1_1.glDrawElements(TRIANGLES, indices.size, UNSIGNED_INT, _address(indices))
    GL_1_0.glEndList()
    for array in (VERTEX_ARRAY, NORMAL_ARRAY):
        GL_1_1.glDisableClientState(array)
    return name


def _address(array: Any) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)
