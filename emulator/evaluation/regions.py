"""Regions of the verification and the area weights that belong to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data_prep.errors import DataError
from data_prep.grid import Grid

WHOLE = "all"
"""Name of the region that is the whole grid."""


@dataclass(frozen=True)
class Region:
    """A latitude-longitude box. A grid point belongs to it if its centre lies inside, ends included.

    Attributes:
      name: As in score files.
      latitude: South and north end, degrees.
      longitude: West and east end, degrees east in [0, 360]; west may exceed east across Greenwich.
    """

    name: str
    latitude: tuple[float, float] = (-90.0, 90.0)
    longitude: tuple[float, float] = (0.0, 360.0)

    def mask(self, grid: Grid) -> np.ndarray:
        """Whether each point belongs to the region, bool ``(latitude, longitude)``."""
        lat, lon = np.asarray(grid.latitude), np.asarray(grid.longitude) % 360.0
        (south, north), (west, east) = self.latitude, self.longitude
        rows = (lat >= south) & (lat <= north)
        columns = (lon >= west) & (lon <= east) if west <= east else (lon >= west) | (lon <= east)
        return rows[:, None] & columns[None, :]


GLOBAL_REGIONS = (
    Region(WHOLE),
    Region("tropics", latitude=(-20.0, 20.0)),
    Region("northern_extratropics", latitude=(20.0, 90.0)),
    Region("southern_extratropics", latitude=(-90.0, -20.0)),
)


def default_regions(grid: Grid) -> tuple[Region, ...]:
    """What a score file holds: the whole grid, and on the globe the tropics and both extratropics."""
    return GLOBAL_REGIONS if grid.is_global else (Region(WHOLE),)


def region_weights(grid: Grid, regions: Sequence[Region]) -> np.ndarray:
    """Area weights that sum to one over each region, float64 ``(region, latitude, longitude)``.

    The latitude weights are those of the full grid, not computed anew for the box (WeatherBench-2).

    Raises:
      DataError: no grid point lies in a region.
    """
    out = np.empty((len(regions), *grid.shape))
    for weights, region in zip(out, regions, strict=True):
        mask = region.mask(grid)
        if not mask.any():
            raise DataError(f"region {region.name}: no point of the grid lies inside ({grid.describe()})")
        weights[:] = grid.latitude_weights[:, None] * mask
        weights /= weights.sum()
    return out
