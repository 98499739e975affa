"""A mesh of nearly even triangles on the sphere, and its edges at all refinements (Lam et al. 2023's multi-mesh)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_TURN_RAD = 1.0


@dataclass(frozen=True, eq=False)
class Icosphere:
    """An icosahedron whose triangles were split in four a number of times.

    Attributes:
      vertices: On the unit sphere, float64 ``(vertex, 3)``: ``10 * 4^r + 2`` of them. The middles of two triangles lie
        at the poles, so that no vertex ever does.
      faces: Vertices of the finest triangles, ``(20 * 4^r, 3)``.
      edges: Both ends of every edge of every refinement from the icosahedron on, each once, ``(edge, 2)``: the long
        edges of the coarse meshes carry messages far in one step.
    """

    vertices: np.ndarray
    faces: np.ndarray
    edges: np.ndarray

    @classmethod
    def of(cls, refinement: int) -> Icosphere:
        """The mesh after so many refinements."""
        vertices, faces = _icosahedron()
        edges = [_edges(faces)]
        for _ in range(refinement):
            vertices, faces = _refine(vertices, faces)
            edges.append(_edges(faces))
        return cls(vertices, faces, np.concatenate(edges))

    @property
    def longest_edge(self) -> float:
        """Chord of the longest edge of the finest mesh, in radii."""
        ends = self.vertices[_edges(self.faces)]
        return float(np.linalg.norm(ends[:, 0] - ends[:, 1], axis=-1).max())


def _icosahedron() -> tuple[np.ndarray, np.ndarray]:
    """Vertices ``(12, 3)`` and faces ``(20, 3)``, with the middle of a face at each pole.

    Turned about the poles by an angle that no grid has: a point of a symmetric grid would else lie exactly between two
    vertices, and which of them is nearer would be a matter of rounding.
    """
    from scipy.spatial import ConvexHull  # slow to import, and other networks do without it

    golden = (1 + np.sqrt(5)) / 2
    corners = np.array([(0, a, b * golden) for a in (-1, 1) for b in (-1, 1)])
    vertices = np.concatenate([np.roll(corners, i, axis=1) for i in range(3)]) / np.hypot(1, golden)
    faces = ConvexHull(vertices).simplices
    up = vertices[faces[0]].sum(axis=0)
    up /= np.linalg.norm(up)
    towards = vertices[faces[0, 0]] - up * (up @ vertices[faces[0, 0]])
    towards /= np.linalg.norm(towards)
    aside = np.cross(up, towards)
    east = np.cos(_TURN_RAD) * towards + np.sin(_TURN_RAD) * aside
    return vertices @ np.stack([east, np.cross(up, east), up], axis=1), faces


def _refine(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Splits every triangle in four at the middles of its edges."""
    edges = _edges(faces)
    middles = vertices[edges].sum(axis=1)
    middles /= np.linalg.norm(middles, axis=1, keepdims=True)
    number = {(int(a), int(b)): i for i, (a, b) in enumerate(edges, start=len(vertices))}
    finer = []
    for a, b, c in faces.tolist():
        ab, bc, ca = (number[min(e), max(e)] for e in ((a, b), (b, c), (c, a)))
        finer += [(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)]
    return np.concatenate([vertices, middles]), np.array(finer)


def _edges(faces: np.ndarray) -> np.ndarray:
    """The edges of triangles, each once with its smaller end first, ``(edge, 2)``."""
    sides = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    return np.unique(np.sort(sides, axis=1), axis=0)
