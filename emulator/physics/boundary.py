"""The boundary fields that SPEEDY gets, as a yearly table and static fields on an output grid.

A network that races SPEEDY is given what SPEEDY is given: every field here is sampled through jcm's own selection by
date, so it is what the physics sees on that day, area-averaged to the output grid.
"""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import netCDF4
import numpy as np
import xarray as xr
from jax.typing import ArrayLike
from jax_datetime import Datetime
from jcm.date import DateData
from jcm.forcing import ForcingData

from data_prep.clock import CALENDAR_DAYS
from data_prep.spec import grid_coords, unit_attrs
from data_prep.variables import known
from emulator.physics import transfer
from emulator.physics.speedy import SpeedyModel, model_time
from emulator.speedy_facts import YEARLY_BOUNDARY

STATIC = ("geopotential_at_surface", "land_sea_mask", "albedo", "glacier_fraction")

_LONG_NAMES = {
    "snow_depth": "snow depth over the depth that covers a cell (60 mm of water)",
    "soil_water": "soil water available to evaporation, relative to field capacity",
    "sea_ice_cover": "share of the sea that is ice",
    "glacier_fraction": "share of the land that is glacier",
    "albedo": "albedo of bare land",
}

_DAY_OF_YEAR = (
    "dayofyear",
    np.arange(1, CALENDAR_DAYS + 1, dtype=np.int32),
    {"long_name": "day of the year", "units": "1"},
)
_COMMON_YEAR, _LEAP_YEAR = 1901, 1904


def boundary_dataset(model: SpeedyModel, output_truncation: int) -> xr.Dataset:
    """Yearly and static boundary fields of a model on the grid of an output truncation.

    Days of the year are those of the actual calendar (1 March is 60, in leap years 61). The table is that of a common
    year, with 31 December of a leap year as day 366: after February of a leap year it is one day ahead of what the
    physics sees, a thirtieth of the way from one month to the next.

    Returns:
      Dims ``(dayofyear, latitude, longitude)`` for the yearly fields (366 days), ``(latitude, longitude)`` for
      ``geopotential_at_surface`` (what the model really stands on, truncated to the output), ``land_sea_mask``,
      ``albedo`` and ``glacier_fraction``. Float32.
    """
    forcing, terrain = model.parts.forcing, model.parts.model.terrain

    @jax.jit
    def of_day(time: Datetime, forcing: ForcingData) -> dict[str, jax.Array]:
        selected = forcing.select(DateData.set_date(time))
        return {name: getattr(selected, field) for name, field in YEARLY_BOUNDARY.items()}

    common = np.datetime64(f"{_COMMON_YEAR}-01-01") + np.arange(365)
    days = [of_day(model_time(day), forcing) for day in (*common, np.datetime64(f"{_LEAP_YEAR}-12-31"))]

    def on_grid(field: ArrayLike) -> np.ndarray:
        turned = np.swapaxes(np.asarray(field), -1, -2)
        return np.asarray(transfer.with_kinks(turned, model.truncation, output_truncation), np.float32)

    data: dict[str, tuple[tuple[str, ...], np.ndarray]] = {
        name: (("dayofyear", "latitude", "longitude"), on_grid(np.stack([day[name] for day in days])))
        for name in YEARLY_BOUNDARY
    }
    glacier = jnp.zeros_like(terrain.fmask) if forcing.glacier_fraction is None else forcing.glacier_fraction
    surface = model.surface_geopotential_on(output_truncation)
    static = (surface, *map(on_grid, (terrain.fmask, forcing.alb0, glacier)))
    data |= {name: (("latitude", "longitude"), field) for name, field in zip(STATIC, static, strict=True)}
    dataset = xr.Dataset(data, coords=grid_coords(transfer.gaussian_grid(output_truncation)))
    dataset["dayofyear"] = _DAY_OF_YEAR
    for name in data:
        facts = known(name)
        attrs = unit_attrs(facts.units if facts else "1") | {"long_name": _LONG_NAMES.get(name, name.replace("_", " "))}
        if facts and facts.standard_name and name != "albedo":
            attrs["standard_name"] = facts.standard_name
        dataset[name].attrs = attrs
    dataset["land_sea_mask"].attrs["standard_name"] = "land_area_fraction"
    dataset = dataset.drop_encoding()
    for variable in dataset.variables.values():
        variable.encoding["_FillValue"] = None  # nothing is missing, and CF allows none in coordinates
    return dataset


def write_blank_boundary(path: Path, output_truncation: int) -> None:
    """Writes a file with the variables of ``boundary_dataset``, which hold no values."""
    coordinates = {"dayofyear": _DAY_OF_YEAR, **grid_coords(transfer.gaussian_grid(output_truncation))}
    with netCDF4.Dataset(path, "w") as file:
        for name, (dims, values, attrs) in coordinates.items():
            file.createDimension(name, values.size)
            file.createVariable(name, values.dtype, dims)[:] = values
            file[name].setncatts(attrs)
        for name in (*YEARLY_BOUNDARY, *STATIC):
            dims = ("latitude", "longitude") if name in STATIC else tuple(coordinates)
            facts = known(name)
            file.createVariable(name, np.float32, dims, fill_value=False)
            file[name].setncatts(unit_attrs(facts.units if facts else "1"))
