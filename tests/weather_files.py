"""Small synthetic weather and the NetCDF flavours that tests of the data path read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from data_prep.config import DataConfig
from data_prep.grid import Grid

SHARED = Path(__file__).parents[2] / "shared" / "data"
LEVELS = (500.0, 850.0)
GRID = Grid.gaussian(4)
HOUR = np.timedelta64(1, "h")
HOURS_6 = np.timedelta64(6, "h").astype("timedelta64[ns]")


def times_from(start: str, n: int, step: np.timedelta64 = HOURS_6) -> np.ndarray:
    return np.datetime64(start, "ns") + np.arange(n) * step


def weather(times: np.ndarray, grid: Grid = GRID, seed: int = 0) -> xr.Dataset:
    """Canonical weather: temperature on two levels, pressure, 6-hourly rain and a sea surface that all vary."""
    rng = np.random.default_rng(seed)
    shape = (times.size, *grid.shape)
    levels = (times.size, len(LEVELS), *grid.shape)
    dims, level_dims = ("time", "latitude", "longitude"), ("time", "level", "latitude", "longitude")
    data = {
        "temperature": (level_dims, 260 + 10 * rng.standard_normal(levels), {"units": "K"}),
        "surface_pressure": (dims, 1e5 + 500 * rng.standard_normal(shape), {"units": "Pa"}),
        "total_precipitation_6hr": (dims, 1e-3 * rng.gamma(1.0, 1.0, shape), {"units": "m"}),
        "sea_surface_temperature": (dims, 285 + rng.standard_normal(shape), {"units": "K"}),
    }
    coords: dict[str, Any] = {
        "time": times,
        "level": ("level", list(LEVELS), {"units": "hPa"}),
        "latitude": ("latitude", np.asarray(grid.latitude), {"units": "degrees_north"}),
        "longitude": ("longitude", np.asarray(grid.longitude), {"units": "degrees_east"}),
    }
    return xr.Dataset(data, coords).astype("float32", keep_attrs=True)


def boundary(grid: Grid = GRID, seed: int = 9) -> xr.Dataset:
    """Constant fields and a yearly table, as a nature run writes them to ``boundary.nc``."""
    rng = np.random.default_rng(seed)
    return xr.Dataset(
        {
            "geopotential_at_surface": (
                ("latitude", "longitude"),
                1e4 * rng.random(grid.shape),
                {"units": "m2 s-2"},
            ),
            "soil_temperature": (
                ("dayofyear", "latitude", "longitude"),
                280 + 5 * rng.random((366, *grid.shape)),
                {"units": "K"},
            ),
        },
        {
            "dayofyear": np.arange(1, 367),
            "latitude": np.asarray(grid.latitude),
            "longitude": np.asarray(grid.longitude),
        },
    ).astype("float32", keep_attrs=True)


def config(inputs: list[str], **changes: Any) -> DataConfig:
    """A data section that reads ``weather`` and ``boundary``; keyword arguments replace its keys."""
    raw: dict[str, Any] = {
        "inputs": inputs,
        "vertical": "pressure",
        "prognostic": {"temperature": {}, "surface_pressure": {}},
        "diagnostic": {"total_precipitation_6hr": {"minimum": 0.0}},
        "forcing": {
            "sea_surface_temperature": {"known": "persisted"},
            "soil_temperature": {"known": "climatological"},
        },
        "static": {"geopotential_at_surface": {}},
        "split": {"segments": {"validation": [1], "test": [2]}},
    }
    return DataConfig.model_validate({**raw, **changes})


def write_members(folder: Path, n_times: int = 24, members: int = 3) -> list[str]:
    """Members of one season relabelled by four years each, and their boundary file; the globs that find them."""
    folder.mkdir(parents=True, exist_ok=True)
    for m in range(members):
        weather(times_from(f"{2001 + 4 * m}-10-01", n_times), seed=m).to_netcdf(folder / f"member_{m:03d}.nc")
    boundary().to_netcdf(folder / "boundary.nc")
    return [f"{folder}/*.nc"]


def open_files(folder: Path) -> set[str]:
    """Names of the files below a folder that this process holds open."""
    links = [link.readlink() for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return {link.name for link in links if link.parent == folder}
