"""The horizontal grid: latitudes, longitudes, what they bound, and how much each cell weighs.

Latitudes and longitudes are in degrees at every public edge; names that end in ``_rad`` are radians.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from data_prep.errors import DataError
from data_prep.grid_names import GridName

EARTH_RADIUS = 6.371e6
"""Mean radius of the Earth in metres."""

_TOLERANCE_DEG = 1e-3


@dataclass(frozen=True)
class Grid:
    """A rectilinear latitude-longitude grid, global or regional; hashable, so it may be jit-static.

    Attributes:
      latitude: Degrees north, strictly ascending, within [-90, 90].
      longitude: Degrees east, strictly ascending, the first within [0, 360), spanning less than 360.
        A region that crosses Greenwich runs past 360 (350, 355, 360, 365).

    Raises:
      DataError: at construction, when an invariant does not hold.
    """

    latitude: tuple[float, ...]
    longitude: tuple[float, ...]

    def __post_init__(self) -> None:
        lat, lon = np.asarray(self.latitude), np.asarray(self.longitude)
        for name, values in (("latitude", lat), ("longitude", lon)):
            if values.ndim != 1 or values.size < 2:
                raise DataError(f"grid: {name} needs at least two values in one dimension, got shape {values.shape}")
            if not np.isfinite(values).all():
                raise DataError(f"grid: {name} holds NaN or infinity")
            if (np.diff(values) <= 0).any():
                raise DataError(f"grid: {name} must ascend strictly (first values {values[:3].tolist()})")
        if lat[0] < -90 - 1e-6 or lat[-1] > 90 + 1e-6:
            raise DataError(f"grid: latitude must lie within [-90, 90], got {lat[0]:g} to {lat[-1]:g}")
        if not 0 <= lon[0] < 360:
            raise DataError(f"grid: the first longitude must lie within [0, 360), got {lon[0]:g}")
        if lon[-1] - lon[0] >= 360 - 1e-6:
            raise DataError(f"grid: longitude must span less than 360 degrees, got {lon[0]:g} to {lon[-1]:g}")

    @classmethod
    def from_arrays(cls, latitude: Any, longitude: Any) -> Grid:
        """Grid from array-likes in degrees, rounded to 1e-6 degrees so that float32 and float64 files agree."""
        lat, lon = (np.round(np.asarray(x, dtype=np.float64), 6) for x in (latitude, longitude))
        return cls(tuple(float(x) for x in lat), tuple(float(x) for x in lon))

    @classmethod
    def gaussian(cls, n_latitude: int) -> Grid:
        """Global Gaussian grid of ``n_latitude`` rows, twice as many columns from 0 E (T21: 32, T31: 48, T42: 64)."""
        nodes, _ = np.polynomial.legendre.leggauss(n_latitude)
        n_longitude = 2 * n_latitude
        return cls.from_arrays(np.degrees(np.arcsin(nodes)), np.arange(n_longitude) * 360.0 / n_longitude)

    @classmethod
    def named(cls, name: GridName) -> Grid:
        """A global grid by its counts and the layout of its rows, from 0 E."""
        if name.layout == "gaussian":
            return cls.gaussian(name.rows)
        latitude = np.linspace(-90.0, 90.0, name.rows)
        if name.layout == "centres":
            edges = np.linspace(-90.0, 90.0, name.rows + 1)
            latitude = (edges[1:] + edges[:-1]) / 2
        return cls.from_arrays(latitude, np.arange(name.columns) * (360.0 / name.columns))

    @property
    def shape(self) -> tuple[int, int]:
        """(latitudes, longitudes)."""
        return len(self.latitude), len(self.longitude)

    @cached_property
    def periodic(self) -> bool:
        """Whether the longitudes go round the globe with even spacing."""
        lon = np.asarray(self.longitude)
        spacing = 360.0 / lon.size
        closes = lon[0] + 360.0 - lon[-1] < 1.5 * spacing  # of a fine grid a column may be missing within the tolerance
        return bool(closes and np.allclose(np.diff(lon), spacing, atol=_TOLERANCE_DEG))

    @cached_property
    def unevenness(self) -> str | None:
        """In words, what is amiss with longitudes, which area means and networks take to be even; ``None`` if nothing.

        They may be uneven by more than a hundredth, or lack a column or two to go round the globe.
        """
        steps = np.diff(self.longitude)
        if np.allclose(steps, np.median(steps), rtol=0.01, atol=_TOLERANCE_DEG):
            gap = 360.0 - (self.longitude[-1] - self.longitude[0])
            almost = not self.periodic and gap < 3.5 * np.median(steps)
            return f"longitudes go round the globe but for a gap of {gap:g} degrees" if almost else None
        at = self.longitude[int(np.abs(steps - np.median(steps)).argmax())]
        return f"longitudes are {steps.min():g} to {steps.max():g} degrees apart, first beside {at:g}"

    @cached_property
    def has_poles(self) -> bool:
        """Whether both outer rows lie within one spacing of their pole."""
        lat = np.asarray(self.latitude)
        return bool(
            lat[0] + 90 <= lat[1] - lat[0] + _TOLERANCE_DEG and 90 - lat[-1] <= lat[-1] - lat[-2] + _TOLERANCE_DEG
        )

    @property
    def is_global(self) -> bool:
        """Whether the grid covers the sphere."""
        return self.periodic and self.has_poles

    @cached_property
    def latitude_bounds(self) -> np.ndarray:
        """Cell edges in degrees, shape ``(latitude + 1,)``: midpoints inside; outside the poles on a global grid,
        else half a spacing further out (not beyond the pole)."""
        lat = np.asarray(self.latitude)
        inner = (lat[1:] + lat[:-1]) / 2
        if self.is_global:
            south, north = -90.0, 90.0
        else:
            south = max(-90.0, lat[0] - (lat[1] - lat[0]) / 2)
            north = min(90.0, lat[-1] + (lat[-1] - lat[-2]) / 2)
        return np.concatenate([[south], inner, [north]])

    @cached_property
    def longitude_bounds(self) -> np.ndarray:
        """Cell edges in degrees east, shape ``(longitude + 1,)``: midpoints inside, half a spacing out at the ends."""
        lon = np.asarray(self.longitude)
        inner = (lon[1:] + lon[:-1]) / 2
        if self.periodic:
            half = 180.0 / lon.size
            return np.concatenate([[lon[0] - half], inner, [lon[0] - half + 360]])  # closes exactly
        return np.concatenate([[lon[0] - (lon[1] - lon[0]) / 2], inner, [lon[-1] + (lon[-1] - lon[-2]) / 2]])

    @cached_property
    def latitude_weights(self) -> np.ndarray:
        """Area weight of each row, mean 1, float64, ``(latitude,)``; WeatherBench-2's definition on a global grid."""
        edges = np.sin(np.radians(self.latitude_bounds))
        weights = np.diff(edges)
        return weights / weights.mean()

    @cached_property
    def cell_areas(self) -> np.ndarray:
        """Area of each cell in square metres, float64, shape ``(latitude, longitude)``; exact on the sphere."""
        dz = np.diff(np.sin(np.radians(self.latitude_bounds)))
        dlon_rad = np.diff(np.radians(self.longitude_bounds))
        return EARTH_RADIUS**2 * dz[:, None] * dlon_rad[None, :]

    def matches(self, other: Grid) -> bool:
        """Whether both grids hold the same points to a thousandth of a degree."""
        return self is other or (
            self.shape == other.shape
            and np.allclose(self.latitude, other.latitude, atol=_TOLERANCE_DEG)
            and np.allclose(self.longitude, other.longitude, atol=_TOLERANCE_DEG)
        )

    def describe(self) -> str:
        """One phrase for messages: ``36 x 18 global, latitude -85 to 85, longitude 0 to 350``."""
        kind = "global" if self.is_global else "regional"
        lat, lon = self.latitude, self.longitude
        rows, columns = self.shape
        return f"{columns} x {rows} {kind}, latitude {lat[0]:g} to {lat[-1]:g}, longitude {lon[0]:g} to {lon[-1]:g}"

    def to_dict(self) -> dict[str, list[float]]:
        """JSON form; ``from_dict`` is its inverse."""
        return {"latitude": list(self.latitude), "longitude": list(self.longitude)}

    @classmethod
    def from_dict(cls, data: dict[str, list[float]]) -> Grid:
        """Inverse of ``to_dict``."""
        return cls(tuple(data["latitude"]), tuple(data["longitude"]))
