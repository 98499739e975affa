"""Where a file's columns, rows and levels lie, and in which order they become canonical.

Latitude ascends, longitude ascends from the first value in [0, 360), levels run from the top down.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from data_prep.errors import DataError
from data_prep.grid import Grid
from data_prep.reading.locations import Location

_FLOAT32_DEG = 3e-5
"""What float32 loses of a longitude near 360, in degrees."""

_RADIANS = re.compile(r"rad(ian)?s?", re.I)

_MOST_GAUSSIAN_ROWS = 1280  # finding the nodes of larger grids takes seconds


@dataclass(frozen=True, eq=False)
class Order:
    """An axis in canonical order.

    Attributes:
      rows: Positions on the file's axis, in canonical order.
      values: The coordinate there, degrees.
      repeated: Position on the file's axis of a last meridian that repeats the first one, ``None`` where none does.
    """

    rows: np.ndarray
    values: np.ndarray
    repeated: int | None = None


_grids: dict[tuple[Any, ...], tuple[Grid, Order, Order]] = {}  # a few: most files have those of others
_MOST_GRIDS = 8


def grid_of(path: Location, latitude: xr.DataArray, longitude: xr.DataArray) -> tuple[Grid, Order, Order]:
    """The grid of two coordinates, and their orders: the very same objects for the same coordinates.

    Raises:
      DataError: they are those of no grid; ``path`` is named.
    """
    both = latitude, longitude
    key = tuple((str(c.name), c.dtype.str, tuple(c.values.tolist()), str(sorted(c.attrs.items()))) for c in both)
    if key not in _grids:
        rows, columns = _latitude_order(path, latitude), _longitude_order(path, longitude)
        try:
            grid = Grid.from_arrays(rows.values, columns.values)
        except DataError as error:
            raise DataError(f"{path}: {error}") from None
        if len(_grids) >= _MOST_GRIDS:
            _grids.clear()
        _grids[key] = grid, rows, columns
    return _grids[key]


def pick(values: np.ndarray, rows: np.ndarray, axis: int) -> np.ndarray:
    """These positions along an axis of an array; a view where they are evenly spaced, as most axes are or reversed."""
    steps = np.diff(rows)
    if rows.size == 0 or (steps != steps[:1]).any() or (steps == 0).any():
        return np.take(values, rows, axis=axis)
    first, step = int(rows[0]), int(steps[0]) if steps.size else 1
    stop = first + step * rows.size
    return values[(slice(None),) * axis + (slice(first, stop if stop >= 0 else None, step),)]


def _latitude_order(path: Location, coordinate: xr.DataArray) -> Order:
    """Latitudes from south to north."""
    values = _degrees(path, coordinate)
    rows = np.arange(values.size) if values[0] <= values[-1] else np.arange(values.size)[::-1]
    return Order(rows, _exact_latitudes(values[rows], coordinate))


def _longitude_order(path: Location, coordinate: xr.DataArray) -> Order:
    """Longitudes eastward from the first one in [0, 360); a region across Greenwich runs past 360.

    The meridian that closes the circle (0 and 360, or -180 and 180) is left out.
    """
    degrees = _exact_spacing(_degrees(path, coordinate), coordinate)
    values = np.round(degrees % 360.0, 6) % 360.0
    kept = np.arange(values.size)
    repeated = None
    if values.size > 2 and abs(abs(degrees[-1] - degrees[0]) - 360.0) < 1e-6:
        repeated, kept = values.size - 1, kept[:-1]
    rows = kept[np.argsort(values[kept], kind="stable")]
    ascending = values[rows]
    holes = np.diff(ascending, append=ascending[0] + 360.0)
    spacing = float(np.median(holes))
    start = (int(holes.argmax()) + 1) % ascending.size if holes.max() > 1.5 * spacing else 0
    rows, ascending = np.roll(rows, -start), np.roll(ascending, -start)
    return Order(rows, np.where(ascending < ascending[0], ascending + 360.0, ascending), repeated)


def _degrees(path: Location, coordinate: xr.DataArray) -> np.ndarray:
    try:
        values = np.asarray(coordinate.values, dtype=np.float64)
    except (TypeError, ValueError):
        text = str(coordinate.values.flat[0])
        raise DataError(f"{path}: {coordinate.name} holds text such as {text!r}; give it numbers of degrees") from None
    if values.size == 0:
        raise DataError(f"{path}: the {coordinate.name} axis is empty")
    if not np.isfinite(values).all():
        raise DataError(f"{path}: {coordinate.name} holds NaN or infinity; mend the coordinate")
    units = str(coordinate.attrs.get("units", "")).strip()
    radians = _RADIANS.fullmatch(units) is not None
    counted = values.size > 1 and any(np.array_equal(values, np.arange(values.size) + first) for first in (0, 1))
    bare = str(coordinate.name).lower() in ("x", "y") and "standard_name" not in coordinate.attrs
    if bare and (radians or (counted and not units)):
        what = "is in radians, as the angles of a scanner are" if radians else "counts points"
        raise DataError(
            f"{path}: {coordinate.name} {what} ({values[0]:g} to {values[-1]:g}) and says nothing of latitude or "
            "longitude; give it its degrees, with the units degrees_north (y) or degrees_east (x)"
        )
    if radians:
        values = np.degrees(values)
    if np.abs(values).max() >= 720.0:  # a turn may begin anywhere in the first one
        raise DataError(
            f"{path}: {coordinate.name} reaches {np.abs(values).max():g}, which is no degrees; give it its degrees"
        )
    return values


def _exact_latitudes(ascending: np.ndarray, coordinate: xr.DataArray) -> np.ndarray:
    """What float32 latitudes were before they were rounded: those of a Gaussian grid, or evenly spaced ones.

    So that a file in single precision gives the grid that the same file in double precision gives.
    """
    even = _exact_spacing(ascending, coordinate)
    if coordinate.dtype != np.float32 or even is not ascending or ascending.size > _MOST_GAUSSIAN_ROWS:
        return even
    nodes = np.degrees(np.arcsin(np.polynomial.legendre.leggauss(ascending.size)[0]))
    return nodes if np.abs(ascending - nodes).max() < _FLOAT32_DEG else ascending


def _exact_spacing(values: np.ndarray, coordinate: xr.DataArray) -> np.ndarray:
    """Float32 degrees on the even grid that they were rounded from; as they are where there is none."""
    if coordinate.dtype != np.float32 or values.size < 2:
        return values
    first, last = (np.round(values[i], 4) for i in (0, -1))
    even = np.linspace(first, last, values.size)
    return even if np.abs(values - even).max() < _FLOAT32_DEG else values
