"""What is known of SPEEDY without building it, so that what it cannot do is said before its libraries are loaded."""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec

from data_prep.errors import ConfigError, DataError, how_to_install
from data_prep.grid import Grid

GAUSSIAN_ROWS = {21: 32, 31: 48, 42: 64, 63: 96, 85: 128}
"""Latitudes of the Gaussian grid of each truncation that SPEEDY's boundary files and time steps are tried for."""

LAYERS = {
    5: (0.035967, 0.190222, 0.488077, 0.791703, 0.95788),
    6: (0.025983, 0.129582, 0.34728, 0.629492, 0.854975, 0.969163),
    7: (0.07, 0.2, 0.34, 0.51, 0.685, 0.835, 0.95),
    8: (0.025, 0.095, 0.2, 0.34, 0.51, 0.685, 0.835, 0.95),
}
"""Sigma of the centres of so many layers, top first; 8 are SPEEDY's own."""

NEAR_SURFACE_TEMPERATURE = "2m_temperature"

YEARLY_BOUNDARY = {
    "sea_surface_temperature": "sea_surface_temperature",
    "sea_ice_cover": "sice_am",
    "soil_temperature": "stl_am",
    "soil_water": "soilw_am",
    "snow_depth": "snowc_am",
}
"""Yearly fields: canonical name to jcm's. Snow is SPEEDY's: depth over the 60 mm of water that cover a cell, so 1 is
covered. Each is defined everywhere: sea-surface temperature over land is what the packaged file carries on from the
coast, land temperature over sea likewise, and the land-sea mask says which one acts."""


def refuse_without_jcm() -> None:
    """Checks that the libraries that SPEEDY runs on are installed.

    Raises:
      ConfigError: they are not.
    """
    if find_spec("jcm") is None:
        raise ConfigError(f"the physics model needs jcm, the extra 'physics': {how_to_install('physics')}")


def default_time_step_minutes(truncation: int) -> int:
    """The longest step known to be stable: 30 minutes to T31, 20 at T42, 15 above."""
    if truncation <= 31:
        return 30
    return 20 if truncation <= 42 else 15


def precipitation_name(hours: int) -> str:
    """Canonical name of precipitation accumulated over so many hours before the time stamp."""
    return f"total_precipitation_{hours}hr"


@lru_cache
def truncation_of(grid: Grid) -> int:
    """The truncation whose Gaussian grid this is.

    Raises:
      DataError: it is none of those that SPEEDY runs on.
    """
    for truncation, rows in GAUSSIAN_ROWS.items():
        if Grid.gaussian(rows).matches(grid):
            return truncation
    shapes = ", ".join(f"T{truncation} {2 * rows} x {rows}" for truncation, rows in GAUSSIAN_ROWS.items())
    raise DataError(f"physics: the fields are on a grid of {grid.describe()}, expected a Gaussian grid ({shapes})")
