"""Regions of the verification and the area weights that belong to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr

from data_prep.errors import DataError, one_line
from data_prep.grid import Grid
from data_prep.reading.positions import grid_of
from emulator.config import Box

WHOLE = "all"
"""Name of the region that is the whole grid."""


@dataclass(frozen=True)
class Region:
    """A latitude-longitude box, or the part of it that is land or sea.

    Attributes:
      name: As in score files.
      latitude: South and north end, degrees. A grid point belongs to the box if its centre lies inside, ends included.
      longitude: West and east end, degrees east in [0, 360]; west may exceed east across Greenwich.
      surface: ``land`` counts a point by its share of land, ``sea`` by the rest (WeatherBench-2).
    """

    name: str
    latitude: tuple[float, float] = (-90.0, 90.0)
    longitude: tuple[float, float] = (0.0, 360.0)
    surface: Literal["any", "land", "sea"] = "any"

    def mask(self, grid: Grid) -> np.ndarray:
        """Whether each point belongs to the box, bool ``(latitude, longitude)``."""
        lat, lon = np.asarray(grid.latitude), _eastward(np.asarray(grid.longitude))
        (south, north), (west, east) = self.latitude, self.longitude
        rows = (lat >= south) & (lat <= north)
        columns = (lon >= west) & (lon <= east) if west <= east else (lon >= west) | (lon <= east)
        return rows[:, None] & columns[None, :]

    def share(self, grid: Grid, land: np.ndarray | None) -> np.ndarray:
        """By how much each point belongs to the region, 0 to 1, ``(latitude, longitude)``.

        Args:
          grid: The grid.
          land: Share of land of each point; needed where ``surface`` is not ``any``.

        Raises:
          DataError: it is needed and ``None``.
        """
        inside = self.mask(grid).astype(np.float64)
        if self.surface == "any":
            return inside
        if land is None:
            raise DataError(f"region {self.name}: needs land_sea_mask; name it under data.static")
        return inside * (land if self.surface == "land" else 1 - land)


GLOBAL_REGIONS = (
    Region(WHOLE),
    Region("tropics", latitude=(-20.0, 20.0)),
    Region("northern_extratropics", latitude=(20.0, 90.0)),
    Region("southern_extratropics", latitude=(-90.0, -20.0)),
)
CONTINENTS = (
    Region("europe", latitude=(35.0, 75.0), longitude=(347.5, 42.5)),
    Region("north_america", latitude=(25.0, 60.0), longitude=(240.0, 285.0)),
)
"""ECMWF's boxes, as WeatherBench-2 has them."""

SURFACES = (Region("land", surface="land"), Region("sea", surface="sea"))


def default_regions(grid: Grid, land: np.ndarray | None = None, mask: np.ndarray | None = None) -> tuple[Region, ...]:
    """What a score file holds: the whole grid; on the globe the latitude belts and continents; land and sea if known.

    A part of it that no point falls into, of a coarse grid or of those that the mask leaves, is left out.
    """
    parts: tuple[Region, ...] = (*GLOBAL_REGIONS[1:], *CONTINENTS) if grid.is_global else ()
    parts += SURFACES if land is not None else ()
    verified = True if mask is None else mask
    return (GLOBAL_REGIONS[0], *(r for r in parts if (r.share(grid, land) * verified).any()))


def scored_regions(
    grid: Grid, own: Mapping[str, Box], land: np.ndarray | None = None, mask: np.ndarray | None = None
) -> tuple[Region, ...]:
    """The default regions and a config's own.

    Raises:
      DataError: one of its own has the name of a default one, or holds no point that is verified.
    """
    usual = default_regions(grid, land, mask)
    for name in own.keys() & {r.name for r in usual}:
        raise DataError(f"evaluate.regions.{name}: every evaluation here has a region of this name; choose another")
    regions = (*usual, *boxes(own))
    region_weights(grid, regions, land, mask)
    return regions


def region_weights(
    grid: Grid, regions: Sequence[Region], land: np.ndarray | None = None, mask: np.ndarray | None = None
) -> np.ndarray:
    """Area weights that sum to one over each region, float64 ``(region, latitude, longitude)``.

    The latitude weights are those of the full grid, not computed anew for the box (WeatherBench-2).

    Args:
      grid: The grid.
      regions: Which regions.
      land: Share of land of each point, where a region asks for it.
      mask: Points that are verified at all, bool ``(latitude, longitude)``; every point when left out.

    Raises:
      DataError: no grid point, or none that is verified, lies in a region.
    """
    out = np.empty((len(regions), *grid.shape))
    for weights, region in zip(out, regions, strict=True):
        weights[:] = grid.latitude_weights[:, None] * region.share(grid, land)
        if mask is not None:
            weights *= mask
        if not weights.any():
            what = "no point of the grid" if mask is None else "no point that evaluate.mask leaves"
            raise DataError(f"region {region.name}: {what} lies inside ({grid.describe()})")
        weights /= weights.sum()
    return out


def boxes(sections: Mapping[str, Box]) -> tuple[Region, ...]:
    """The regions of a config; longitudes may run from -180 to 180 or from 0 to 360."""
    out = []
    for name, box in sections.items():
        west, east = box.longitude
        round_the_globe = east - west >= 360
        out.append(Region(name, box.latitude, (0.0, 360.0) if round_the_globe else (_eastward(west), _eastward(east))))
    return tuple(out)


def _eastward(degrees: Any) -> Any:
    """Degrees east in [0, 360), as exact as a grid's: 365.1 is 5.1, though it is not for the last bit of the modulo."""
    return np.round(degrees % 360.0, 6) % 360.0


def read_mask(path: Path, grid: Grid) -> np.ndarray:
    """The field ``mask`` of a NetCDF file: True where there is something to verify, bool ``(latitude, longitude)``.

    Latitudes may run either way, longitudes from -180 or from 0.

    Raises:
      DataError: the file cannot be read, holds no such field, or is on another grid.
    """
    try:
        with xr.open_dataset(path) as dataset:
            if "mask" not in dataset or set(dataset["mask"].dims) != {"latitude", "longitude"}:
                raise DataError(
                    f"{path}: expected a variable mask(latitude, longitude), "
                    f"found {', '.join(map(str, dataset.data_vars))}"
                )
            field = dataset["mask"].transpose("latitude", "longitude").load()
    except (OSError, RuntimeError, ValueError) as error:
        raise DataError(f"{path}: not a readable NetCDF file ({one_line(error)})") from None
    found, latitude, longitude = grid_of(path, field["latitude"], field["longitude"])
    if not found.matches(grid):
        raise DataError(f"{path}: the mask's grid ({found.describe()}) is not the truth's ({grid.describe()})")
    values = np.asarray(field.values, np.float64)[latitude.rows[:, None], longitude.rows]
    return np.isfinite(values) & (values > 0.5)
