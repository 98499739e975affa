"""Records of thousands of files, and chunks of many times: what reading them costs is counted."""

import tracemalloc
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import zarr
from weather_files import GRID, HOURS_6, boundary, config, open_files, times_from, weather

from data_prep.errors import DataError
from data_prep.grid import Grid
from data_prep.preparation.blocks import Recipe, open_recipe
from data_prep.reading import inputs, sources
from data_prep.reading.inputs import open_canonical
from data_prep.reading.segments import cut_into_segments
from data_prep.reading.sources import open_source
from data_prep.reading.timelines import Mending, Timeline
from data_prep.spec import Variable


def test_thousands_of_files_are_compared_in_little_memory():
    n_files, per_file = 2000, 24
    source = open_source(weather(times_from("2001-01-01", 2)), {"temperature": ("temperature",)}, "pressure")
    times = times_from("2001-01-01", n_files * per_file)
    each = [np.arange(per_file)] * n_files
    timeline = Timeline(
        Variable("temperature", "prognostic", (500.0, 850.0), "K"),
        tuple(replace(source, times=part) for part in np.split(times, n_files)),
        times,
        np.repeat(np.arange(n_files), per_file),
        np.concatenate(each),
        Mending.none(times.size),
    )
    tracemalloc.start()
    try:
        segments = cut_into_segments({"temperature": timeline}, HOURS_6, GRID)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(segments) == 1 and peak < 2**24


def test_chunks_of_a_zarr_store_are_read_once_by_blocks_that_follow_each_other(tmp_path, monkeypatch):
    data = weather(times_from("2001-01-01", 40))[["temperature"]]
    data.to_zarr(tmp_path / "a.zarr", zarr_format=2, encoding={"temperature": {"chunks": (16, 1, 4, 8)}})
    reads: Counter[str] = Counter()
    get = zarr.storage.LocalStore.get

    async def count(self, key, *args, **kwargs):
        reads[key] += key.startswith("temperature/") and key[-1].isdigit()
        return await get(self, key, *args, **kwargs)

    source = open_source(tmp_path / "a.zarr", {"temperature": ("temperature",)}, "pressure")
    monkeypatch.setattr(zarr.storage.LocalStore, "get", count)

    def blocks(size: int, step: int = 1) -> np.ndarray:
        reads.clear()
        parts = [source.read("temperature", (850.0,), row, min(row + size, 40), step) for row in range(0, 40, size)]
        return np.concatenate(parts)[..., 0]

    wanted = data["temperature"].values[:, 1]
    for size in (3, 7, 40, 1):  # again and again from the beginning, across chunks
        np.testing.assert_array_equal(blocks(size), wanted)
        assert {n for n in reads.values() if n} == {1} and reads.total() == 3
    np.testing.assert_array_equal(blocks(6, 2), wanted[::2])
    assert reads.total() == 3
    source.release()
    monkeypatch.setattr(sources, "_KEPT_BYTES", 1)  # as of chunks that memory does not hold
    np.testing.assert_array_equal(blocks(7), wanted)
    assert reads.total() > 3
    told = source.slow_chunks("temperature", 1)
    assert told is not None and told.endswith(".chunk(time=1).to_zarr(OUT)")


def test_means_of_one_file_beside_instants_of_another_are_told(tmp_path, caplog):
    data = weather(times_from("2001-01-01", 20))[["temperature", "total_precipitation_6hr"]]
    data.isel(time=slice(10)).to_netcdf(tmp_path / "a.nc")
    for variable, method in (("temperature", "mean"), ("total_precipitation_6hr", "sum")):
        data[variable].attrs["cell_methods"] = f"time: {method}"
    data.isel(time=slice(10, None)).to_netcdf(tmp_path / "b.nc")
    variables = {"prognostic": {"temperature": {}}, "diagnostic": {"total_precipitation_6hr": {}}}
    open_canonical(sorted(tmp_path.glob("*.nc")), config(["x"], **variables, forcing={}, static={}))
    told = [r.getMessage() for r in caplog.records if "taken alike" in r.getMessage()]
    assert len(told) == 1
    assert "b.nc: temperature is a mean over intervals, that of" in told[0] and "a.nc of instants" in told[0]


def test_files_that_are_compared_at_a_shared_time_are_closed_again(tmp_path):
    data = weather(times_from("2001-01-01", 21))[["temperature"]]
    for number in range(10):
        data.isel(time=slice(2 * number, 2 * number + 3)).to_netcdf(tmp_path / f"{number}.nc")
    section = {"diagnostic": {}, "forcing": {}, "static": {}, "prognostic": {"temperature": {}}}
    opened = open_canonical(sorted(tmp_path.glob("*.nc")), config(["x"], **section, repair=["duplicates"]))
    assert opened.segments[0].times.size == 21 and not open_files(tmp_path)


def test_a_yearly_table_takes_little_more_memory_than_it_has(tmp_path, monkeypatch):
    """Converted, filled and clipped: day by day."""
    monkeypatch.setattr(inputs, "_TABLE_BYTES", 2**16)
    grid = Grid.gaussian(24)
    weather(times_from("2001-10-01", 8), grid).to_netcdf(tmp_path / "a.nc")
    data = boundary(grid)
    data["soil_temperature"] = (data["soil_temperature"] - 273.15).where(data["longitude"] > 20).astype("float32")
    data["soil_temperature"].attrs["units"] = "degC"
    data.to_netcdf(tmp_path / "boundary.nc", encoding={"soil_temperature": {"chunksizes": (1, *grid.shape)}})
    forcing = {"soil_temperature": {"known": "climatological", "minimum": 284.0}}
    section = config(["x"], forcing=forcing, nan="fill_mean", split={"segments": {}})
    paths = tmp_path / "a.nc", tmp_path / "boundary.nc"
    for _ in range(2):  # the first time modules are imported
        tracemalloc.start()
        table = open_recipe(Recipe(section.model_dump_json(), paths, (), str(tmp_path))).builder.table
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        open_recipe.cache_clear()
    wanted = data["soil_temperature"].values + np.float64(273.15)
    wanted = np.where(np.isnan(wanted), np.nanmean(wanted, axis=(1, 2), keepdims=True), wanted).astype("float32")
    np.testing.assert_allclose(table[..., 0], np.maximum(wanted, 284), rtol=1e-6)
    assert peak < 2 * table.nbytes


def test_files_on_one_grid_share_it(tmp_path):
    for number in range(2):
        weather(times_from(f"200{number + 1}-01-01", 2)).to_netcdf(tmp_path / f"{number}.nc")
    one, other = (open_source(tmp_path / f"{n}.nc", {"temperature": ("temperature",)}, "pressure") for n in (0, 1))
    assert one.grid is other.grid and one._latitude is other._latitude


def test_two_files_with_different_tables_or_static_fields_are_refused_once(tmp_path, monkeypatch):
    weather(times_from("2001-10-01", 8)).to_netcdf(tmp_path / "a.nc")
    for number, change in enumerate((0.0, 0.0, 3.0)):
        data = boundary()
        data["soil_temperature"] = data["soil_temperature"] + np.float32(change)
        data["soil_temperature"].attrs["units"] = "K"
        data.to_netcdf(tmp_path / f"boundary_{number}.nc")
    section = config(["x"])
    paths = [tmp_path / f"{name}.nc" for name in ("a", "boundary_0", "boundary_1", "boundary_2")]
    reads: list[str] = []
    read = sources.Source.read
    monkeypatch.setattr(sources.Source, "read", lambda self, name, *rest: reads.append(name) or read(self, name, *rest))
    open_canonical(paths[:3], section)
    assert {"soil_temperature", "geopotential_at_surface"} <= set(reads) and reads.count("soil_temperature") < 10
    with pytest.raises(DataError, match=r"boundary_2\.nc: soil_temperature differs from what .*boundary_0\.nc holds"):
        open_canonical([paths[0], paths[1], paths[3]], section)
    reads.clear()
    open_canonical(paths, section, {})  # as workers do, when the first process has looked
    assert not reads
