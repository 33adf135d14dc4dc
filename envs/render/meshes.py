"""Triangle meshes of MuJoCo's round shapes with as few triangles as their size on screen needs.

MuJoCo draws every capsule with some 1800 triangles. In a frame of 84 pixels most of them cover no sample, yet a
software rasteriser pays for each. The coarser meshes keep MuJoCo's 28 slices, so that shading and outline stay.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Mesh(NamedTuple):
    """Vertices and unit normals `(V, 3)`, counter-clockwise triangles `(T, 3)`."""

    vertices: Floats
    normals: Floats
    triangles: NDArray[np.int64]


class Ring(NamedTuple):
    """`slices` vertices around the z axis; a single one is a pole."""

    radius: float
    z: float
    normal_radius: float
    normal_z: float
    slices: int


def capsule(radius: float, half_length: float, slices: int, rows: int, stacks: int) -> Mesh:
    """Return a capsule along z whose cylinder part has half length `half_length`; `rows` per hemisphere."""
    cap = _hemisphere(radius, half_length, slices, rows)
    body = _lathe(_cylinder_rings(radius, half_length, slices, stacks))
    return _join(cap, body, _mirror(cap))


def sphere(slices: int, rows: int) -> Mesh:
    """Return the unit sphere with `rows` per hemisphere."""
    half = _hemisphere(1.0, 0.0, slices, rows)
    return _join(half, _mirror(half))


def cylinder(slices: int, stacks: int) -> Mesh:
    """Return the closed cylinder of radius 1 between z = -1 and z = 1."""
    lid = _lathe([Ring(1.0, 1.0, 0.0, 1.0, slices), Ring(0.0, 1.0, 0.0, 1.0, 1)])
    return _join(lid, _lathe(_cylinder_rings(1.0, 1.0, slices, stacks)), _mirror(lid))


def thread(slices: int, reference: int) -> Mesh:
    """Return an open unit cylinder for shapes under a pixel wide, as thick on average as one of `reference` slices."""
    radius = float(np.sqrt(reference * np.sin(2 * np.pi / reference) / (slices * np.sin(2 * np.pi / slices))))
    return _lathe(_cylinder_rings(radius, 1.0, slices, 1))


def _cylinder_rings(radius: float, half_length: float, slices: int, stacks: int) -> list[Ring]:
    return [Ring(radius, z, 1.0, 0.0, slices) for z in np.linspace(-half_length, half_length, stacks + 1)]


def _hemisphere(radius: float, centre: float, slices: int, rows: int) -> Mesh:
    """Rows at equal elevations from the equator up, with half the slices near the pole."""
    rings = []
    for row in range(rows):
        elevation = 0.5 * np.pi * row / rows
        wide, high = float(np.cos(elevation)), float(np.sin(elevation))
        count = slices if wide > 0.35 or slices % 2 else slices // 2
        rings.append(Ring(radius * wide, centre + radius * high, wide, high, count))
    return _lathe([*rings, Ring(0.0, centre + radius, 0.0, 1.0, 1)])


def _lathe(rings: list[Ring]) -> Mesh:
    """Join consecutive rings; a ring's slices are a multiple of the next one's."""
    vertices = np.concatenate([_circle(ring.radius, ring.z, ring.slices) for ring in rings])
    normals = np.concatenate([_circle(ring.normal_radius, ring.normal_z, ring.slices) for ring in rings])
    starts = np.cumsum([0, *(ring.slices for ring in rings)])
    bands = [
        _band(int(starts[i]), rings[i].slices, int(starts[i + 1]), rings[i + 1].slices) for i in range(len(rings) - 1)
    ]
    return Mesh(vertices, normals, np.concatenate(bands))


def _circle(radius: float, z: float, count: int) -> Floats:
    angle = 2 * np.pi * np.arange(count) / count
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), np.full(count, z)], axis=1)


def _band(low: int, low_count: int, high: int, high_count: int) -> NDArray[np.int64]:
    """Triangles between two rings, wound for `high` above `low`; quads are cut as OpenGL cuts them."""
    if high_count == 1:
        return np.array([(low + j, low + (j + 1) % low_count, high) for j in range(low_count)])
    step = low_count // high_count
    triangles: list[tuple[int, int, int]] = []
    for j in range(high_count):
        near, far = high + j, high + (j + 1) % high_count
        edge = [low + (j * step + k) % low_count for k in range(step + 1)]
        turn = (step + 1) // 2
        triangles += [(edge[k], edge[k + 1], near) for k in range(turn)]
        triangles.append((edge[turn], far, near))
        triangles += [(edge[k], edge[k + 1], far) for k in range(turn, step)]
    return np.array(triangles)


def _mirror(mesh: Mesh) -> Mesh:
    """Return the part upside down: its triangles, diagonals included, are then cut as MuJoCo cuts the lower half's."""
    down = np.array([1.0, 1.0, -1.0])
    return Mesh(mesh.vertices * down, mesh.normals * down, mesh.triangles[:, ::-1])


def _join(*parts: Mesh) -> Mesh:
    starts = np.cumsum([0, *(len(part.vertices) for part in parts)])
    return Mesh(
        np.concatenate([part.vertices for part in parts]),
        np.concatenate([part.normals for part in parts]),
        np.concatenate([part.triangles + start for part, start in zip(parts, starts[:-1], strict=True)]),
    )
