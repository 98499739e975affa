"""Reference values of WeatherBench-2 and WeatherBench-X, from ../shared/golden; tests that need them skip without."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from data_prep.grid import Grid

FOLDER = Path(__file__).parents[2] / "shared" / "golden"
VARIABLES = ("geopotential/500", "geopotential/850", "2m_temperature")
BOXES = ("tropics", "n_extratropics", "midlat_box")

needs_golden = pytest.mark.skipif(not FOLDER.is_dir(), reason="../shared/golden is not here")


@cache
def expected(grid: str, library: str) -> dict:
    return json.loads((FOLDER / "expected.json").read_text())[grid][library]


@cache
def inputs(grid: str) -> xr.Dataset:
    return xr.load_dataset(FOLDER / f"inputs_{grid}.nc", decode_timedelta=False)


def grid_of(grid: str) -> Grid:
    return Grid.from_arrays(inputs(grid)["latitude"], inputs(grid)["longitude"])


def fields(grid: str, variable: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ensemble (member, init, lead, lat, lon), truth and climatology (init, lead, lat, lon), float64."""
    data = inputs(grid)
    name, _, level = variable.partition("/")

    def select(kind: str) -> xr.DataArray:
        field = data[f"{kind}_{name}"]
        return field.sel(level=int(level)) if level else field

    valid = data["init_time"] + data["lead_time"].astype("timedelta64[h]").astype("timedelta64[ns]")
    climatology = select("climatology").sel(hour=valid.dt.hour, dayofyear=valid.dt.dayofyear)
    dims = ("init_time", "lead_time", "latitude", "longitude")
    arrays = (
        select("ensemble").transpose("realization", *dims),
        select("truth").transpose(*dims),
        climatology.transpose(*dims),
    )
    return tuple(a.values.astype(np.float64) for a in arrays)


def assert_matches(found, wanted, tolerance=1e-6):
    """To a part of the list's largest entry, as EVALUATION.md asks."""
    wanted = np.asarray(wanted, np.float64)
    assert np.shape(found) == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance * np.abs(wanted).max())
