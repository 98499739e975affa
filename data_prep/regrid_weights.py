"""Weights by which fields move between latitude-longitude grids, axis by axis.

On such grids the overlap of two cells is that of their bands of latitude times that of their sectors of longitude, so
a regridding is a matrix for each axis: ``R_latitude @ field @ R_longitude.T``. Both are sparse, and exact to rounding:
where one grid's cell edges cut the other's, the pieces are measured, not sampled.

Conservative: the mean over a target cell of the field that is constant in each source cell (first order; Jones 1999,
https://doi.org/10.1175/1520-0493(1999)127<2204:FASOCR>2.0.CO;2), with the cell edges of ``Grid``: midway between
points, the poles outside. It is what WeatherBench-2 calls conservative. Bilinear: linear in degrees between the four
points around.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from data_prep.grid import Grid

SLACK = 1e-3
"""Share of a cell, or of a spacing, that counts as rounding of coordinates: neither missing nor touched."""

_FULL_CIRCLE = 360.0


@dataclass(frozen=True, eq=False)
class AxisWeights:
    """How the points of a target axis follow from those of a source axis.

    Attributes:
      matrix: Sparse ``(target, source)``, float64; rows add up to 1, less ``polar``, or to 0 outside the source.
      touched: Sparse ``(target, source)`` of ones: the source points that a target point depends on.
      coverage: Share of each target cell that the source covers, 0 to 1 ``(target,)``; of a point it is 0 or 1.
      polar: Weight of the southern and northern pole's value, which is the zonal mean of the source's outer row,
        float64 ``(target, 2)``; zero but for rows that are interpolated between the outermost source row and the pole.
    """

    matrix: sparse.csr_array
    touched: sparse.csr_array
    coverage: np.ndarray
    polar: np.ndarray


def conservative_latitude(source: Grid, target: Grid) -> AxisWeights:
    """Overlaps of bands of latitude; their areas go with the sine of their edges."""
    from_edges, to_edges = (np.sin(np.radians(grid.latitude_bounds)) for grid in (source, target))
    return _from_overlaps([from_edges], to_edges)


def conservative_longitude(source: Grid, target: Grid) -> AxisWeights:
    """Overlaps of sectors of longitude on the circle."""
    edges = source.longitude_bounds
    turns = []
    for turn in (-2, -1, 0, 1, 2):  # edges lie between -360 and 1080
        shifted = edges + _FULL_CIRCLE * turn
        if source.periodic:
            shifted[-1] = edges[0] + _FULL_CIRCLE * (turn + 1)  # so that turns meet without a gap of rounding
        turns.append(shifted)
    return _from_overlaps(turns, target.longitude_bounds)


def bilinear_latitude(source: Grid, target: Grid) -> AxisWeights:
    """Linear between rows; between the outermost row and a pole that the source covers, to the row's zonal mean."""
    latitude = np.asarray(source.latitude)
    reaches = source.periodic & np.isclose(source.latitude_bounds[[0, -1]], [-90.0, 90.0], atol=1e-6)
    south, north = reaches & (np.abs(latitude[[0, -1]]) < 90.0)  # a row on the pole is the pole's value itself
    points = np.concatenate([[-90.0][: int(south)], latitude, [90.0][: int(north)]])
    weights = _between(points, np.asarray(target.latitude))
    polar = np.zeros((len(target.latitude), 2))
    if south:
        polar[:, 0] = weights.matrix[:, [0]].toarray()[:, 0]
    if north:
        polar[:, 1] = weights.matrix[:, [-1]].toarray()[:, 0]
    rows = slice(int(south), int(south) + latitude.size)
    return AxisWeights(weights.matrix[:, rows], weights.touched[:, rows], weights.coverage, polar)


def bilinear_longitude(source: Grid, target: Grid) -> AxisWeights:
    """Linear between columns, across the seam of a source that goes round the globe."""
    longitude = np.asarray(source.longitude)
    # In the turn that begins with the source's first column; rounding must not send a point a whole turn on.
    first = longitude[0] - SLACK * (longitude[1] - longitude[0])
    wanted = np.asarray(target.longitude)
    wanted = wanted - _FULL_CIRCLE * np.floor((wanted - first) / _FULL_CIRCLE)
    if not source.periodic:
        return _between(longitude, wanted)
    weights = _between(np.append(longitude, longitude[0] + _FULL_CIRCLE), wanted)
    points = np.arange(longitude.size + 1)
    fold = sparse.csr_array((np.ones(points.size), (points, points % longitude.size)))  # the last is the first again
    return AxisWeights(weights.matrix @ fold, weights.touched @ fold, weights.coverage, weights.polar)


def _from_overlaps(sources: Sequence[np.ndarray], target: np.ndarray) -> AxisWeights:
    """From the edges of cells: those of the source in all places where they may meet the target's."""
    shape = (target.size - 1, sources[0].size - 1)
    pieces = sum((_overlaps(edges, target, shape) for edges in sources), sparse.csr_array(shape)).tocoo()
    widths_source, widths_target = np.diff(sources[0]), np.diff(target)
    row, column = pieces.coords
    real = pieces.data > SLACK * np.minimum(widths_target[row], widths_source[column])
    touched = sparse.csr_array((np.ones(real.sum()), (row[real], column[real])), shape)
    covered = np.asarray(pieces.sum(axis=1))
    matrix = sparse.csr_array((pieces.data / covered[row], (row, column)), shape)
    coverage = np.divide(covered, widths_target, out=np.zeros_like(covered), where=widths_target > 0)
    return AxisWeights(matrix, touched, np.minimum(coverage, 1.0), np.zeros((shape[0], 2)))


def _overlaps(source: np.ndarray, target: np.ndarray, shape: tuple[int, int]) -> sparse.csr_array:
    """Lengths of the pieces into which each set of edges cuts the other, ``(target, source)``."""
    edges = np.unique(np.concatenate([source, target]))
    middle = (edges[1:] + edges[:-1]) / 2
    row, column = (np.searchsorted(e, middle, side="right") - 1 for e in (target, source))
    inside = (row >= 0) & (row < shape[0]) & (column >= 0) & (column < shape[1])
    return sparse.csr_array((np.diff(edges)[inside], (row[inside], column[inside])), shape)


def _between(source: np.ndarray, target: np.ndarray) -> AxisWeights:
    """Linear interpolation between ascending points; rounding beyond the ends is forgiven."""
    below = (np.searchsorted(source, target, side="right") - 1).clip(0, source.size - 2)
    share = (target - source[below]) / (source[below + 1] - source[below])
    inside = (share >= -SLACK) & (share <= 1 + SLACK)
    share = share.clip(0.0, 1.0)
    rows = np.flatnonzero(inside)
    shape = (target.size, source.size)
    place = (np.tile(rows, 2), np.concatenate([below[rows], below[rows] + 1]))
    values = np.concatenate([1 - share[rows], share[rows]])
    matrix = sparse.csr_array((values, place), shape)
    touched = sparse.csr_array(((values > SLACK).astype(np.float64), place), shape)
    return AxisWeights(matrix, touched, inside.astype(np.float64), np.zeros((target.size, 2)))
