"""However a file turns its axes, the fields come out the same; and what a store gives back is what went in."""

import tempfile
from pathlib import Path

import numpy as np
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from world_files import GRID, LEVELS, TIMES, world, world_config

from data_prep.grid import Grid
from data_prep.preparation.pipeline import prepare
from data_prep.preparation.store import open_store
from data_prep.reading.sources import open_source

DIMS = ("time", "level", "latitude", "longitude")


@st.composite
def grids(draw):
    """Even or Gaussian rows, all around the globe or not."""
    columns = draw(st.integers(4, 9))
    if draw(st.booleans()):
        rows = draw(st.integers(2, 6))
        latitude = Grid.gaussian(rows).latitude if draw(st.booleans()) else (np.arange(rows) + 0.5) * 180 / rows - 90
        return Grid.from_arrays(latitude, np.arange(columns) * 360 / columns)
    south, west = draw(st.integers(-70, 20)), draw(st.integers(0, 359))
    return Grid.from_arrays(south + 5.0 * np.arange(draw(st.integers(3, 6))), west + 4.0 * np.arange(columns))


def fields(grid, seed):
    values = np.random.default_rng(seed).normal(270, 10, (3, 2, *grid.shape)).astype("f4")
    return xr.Dataset(
        {"temperature": (DIMS, values, {"units": "K"})},
        {
            "time": TIMES[:3],
            "level": ("level", list(LEVELS), {"units": "hPa"}),
            "latitude": np.asarray(grid.latitude),
            "longitude": np.asarray(grid.longitude),
        },
    )


@settings(max_examples=60, deadline=None)
@given(grids(), st.permutations(DIMS), st.booleans(), st.booleans(), st.integers(0, 8), st.sampled_from((-180, 0, 123)))
def test_the_order_and_direction_of_axes_do_not_matter(grid, dims, from_north, from_below, shift, west):
    truth = fields(grid, shift)
    data = truth
    if grid.periodic:  # the circle may be cut anywhere, and counted from anywhere
        data = data.roll(longitude=shift, roll_coords=True)
        data = data.assign_coords(longitude=(data["longitude"] - west) % 360 + west).sortby("longitude")
    elif west < 0:
        data = data.assign_coords(longitude=data["longitude"] - 360)
    data = data.isel(
        latitude=slice(None, None, -1 if from_north else 1), level=slice(None, None, -1 if from_below else 1)
    )
    with tempfile.TemporaryDirectory() as folder:
        data.transpose(*dims).to_netcdf(Path(folder) / "file.nc")
        source = open_source(Path(folder) / "file.nc", {"temperature": ("temperature",)}, "pressure")
        found = source.read("temperature", LEVELS, 0, 3)
    assert source.grid.shape == grid.shape
    np.testing.assert_allclose(source.grid.latitude, grid.latitude)
    # a circle begins at its first meridian from Greenwich on, wherever the file begins it
    np.testing.assert_allclose(
        np.sort(np.asarray(source.grid.longitude) % 360), np.sort(np.asarray(grid.longitude) % 360)
    )
    order = [int(np.abs((np.asarray(grid.longitude) - x + 180) % 360 - 180).argmin()) for x in source.grid.longitude]
    wanted = truth["temperature"].transpose("time", "latitude", "longitude", "level").values[:, :, order]
    np.testing.assert_array_equal(found, wanted)


@settings(max_examples=4, deadline=None)
@given(st.integers(0, 2**16), st.permutations(DIMS), st.booleans())
def test_a_store_written_out_and_prepared_again_is_the_same_store(seed, dims, as_zarr):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        world(seed=seed).to_netcdf(folder / "first.nc")
        first = open_store(prepare(world_config([f"{name}/first.nc"]), folder / "first.zarr", folder))
        data = first.dataset(range(TIMES.size)).transpose(*dims)
        if as_zarr:
            data.to_zarr(folder / "again.zarr", consolidated=False)
        else:
            data.to_netcdf(folder / "again.nc")
        again = open_store(prepare(world_config([f"{name}/again.*"]), folder / "second.zarr", folder))
        assert again.grid == first.grid == GRID
        np.testing.assert_array_equal(again.read_state(0, TIMES.size), first.read_state(0, TIMES.size))
        for key, value in first.statistics.to_arrays().items():
            np.testing.assert_array_equal(again.statistics.to_arrays()[key], value)
