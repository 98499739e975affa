"""A file for each level: seen as one with all of them, by preparation and by inspect."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from world_files import LEVELS, ON_LEVELS, TIMES, canonical, world, world_config

from data_prep.errors import DataError
from data_prep.inspection.report import inspect_files
from data_prep.preparation.pipeline import prepare
from data_prep.preparation.store import Store, open_store

SURFACE = ["2m_temperature", "mean_sea_level_pressure"]


def write_by_level(data: xr.Dataset, folder: Path, stretches: int = 2) -> list[Path]:
    """A file for each level and stretch of time, the last level's as a scalar, and one for all that has no levels."""
    ends = np.linspace(0, data.sizes["time"], stretches + 1).astype(int)
    for level in data["level"].values:
        row = [level] if level != data["level"].values[-1] else level
        for number, (first, last) in enumerate(pairwise(ends)):
            part = data[list(ON_LEVELS)].sel(level=row).isel(time=slice(first, last))
            part["level"].attrs["units"] = "hPa"
            part.to_netcdf(folder / f"upper_{level:g}_{number}.nc")
    data[SURFACE].to_netcdf(folder / "surface.nc")
    return sorted(folder.glob("*.nc"))


def prepared(paths: list[Path], folder: Path, **changes) -> Store:
    return open_store(prepare(world_config([str(p) for p in paths], **changes), folder / "store.zarr", folder))


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> list[Path]:
    return write_by_level(world(), tmp_path_factory.mktemp("levels"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    return canonical(world(), tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize(
    "changes", [{}, {"regrid": {"grid": "gaussian8"}}, {"repair": ["flipped_latitudes"]}], ids=["", "regrid", "repair"]
)
def test_the_store_is_that_of_one_file(files, whole, tmp_path, changes):
    assert len(files) == 2 * len(LEVELS) + 1
    found = prepared(files, tmp_path, **changes)
    (tmp_path / "whole").mkdir()
    wanted = prepared([whole], tmp_path / "whole", **changes)
    assert found.spec == wanted.spec and found.grid == wanted.grid
    np.testing.assert_array_equal(found.times, wanted.times)
    np.testing.assert_array_equal(found.read_state(0, TIMES.size), wanted.read_state(0, TIMES.size))
    np.testing.assert_array_equal(found.statistics.mean, wanted.statistics.mean)


def test_inspect_sees_one_file_and_proposes_the_same_section(files, whole):
    found, wanted = inspect_files(files), inspect_files([whole])
    assert found.refusal is None and found.findings == wanted.findings == ()
    assert len(found.files) == 3  # two stretches of time, and the surface
    assert "upper_500_0.nc and 1 more with other levels" in found.text
    assert sorted(found.section.pop("inputs")) == [str(p) for p in files]
    wanted.section.pop("inputs")
    assert set(found.section.pop("prognostic")) == set(wanted.section.pop("prognostic"))
    assert found.section == wanted.section


def test_levels_are_told_apart_by_a_few_at_a_time(tmp_path):
    """Three levels over two files, read in another order than that of the files."""
    three = world().isel(level=[0, 1, 1]).assign_coords(level=("level", [500.0, 700.0, 850.0], {"units": "hPa"}))
    three["temperature"].data[:, 1] += 1.0
    three[["temperature"]].isel(level=[2, 0]).to_netcdf(tmp_path / "a.nc")
    three[["temperature"]].isel(level=[1]).to_netcdf(tmp_path / "b.nc")
    store = prepared(
        [tmp_path / "b.nc", tmp_path / "a.nc"], tmp_path, prognostic={"temperature": {"levels": [500, 700, 850]}}
    )
    for level in (500, 700, 850):
        found = store.dataset(range(TIMES.size))["temperature"].sel(level=level)
        np.testing.assert_array_equal(found, three["temperature"].sel(level=level), err_msg=str(level))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (
            lambda d: d.isel(time=slice(1, None)),
            r"b.nc: no 2001-\S+, .*a.nc has it .*; files that hold temperature at levels",
        ),
        (lambda d: d.assign_coords(level=[LEVELS[0]]), "b.nc.*a.nc too; remove one of them"),
    ],
    ids=["other times", "same level"],
)
def test_what_is_no_stack_is_refused_in_a_line(tmp_path, spoil, said):
    data = world()[["temperature"]]
    data.isel(level=[0]).to_netcdf(tmp_path / "a.nc")
    lower = spoil(data.isel(level=[1]))
    lower["level"].attrs["units"] = "hPa"
    lower.to_netcdf(tmp_path / "b.nc")
    with pytest.raises(DataError, match=said) as error:
        prepared([tmp_path / "a.nc", tmp_path / "b.nc"], tmp_path, prognostic={"temperature": {}})
    assert "\n" not in str(error.value)


def test_a_level_that_one_stretch_lacks_is_named(files, tmp_path):
    some = [p for p in files if p.name != "upper_850_1.nc"]
    with pytest.raises(DataError, match=r"upper_500_1.nc: .* lacks level 850; it has 500"):
        prepared(some, tmp_path)


def test_other_levels_in_files_of_other_lengths_are_no_duplicates(tmp_path):
    """Which would be removed in vain: what is to be done is told by the refusal."""
    data = world()[["temperature"]]
    data.isel(level=[0], time=slice(20)).to_netcdf(tmp_path / "500_0.nc")
    data.isel(level=[0], time=slice(20, None)).to_netcdf(tmp_path / "500_1.nc")
    data.isel(level=[1]).to_netcdf(tmp_path / "850.nc")
    found = inspect_files(sorted(tmp_path.glob("*.nc")))
    assert found.findings == () and found.refusal is not None and "must hold the same times" in found.refusal


def test_files_at_other_intervals_are_told_what_to_do(tmp_path):
    data = world()
    data[["temperature"]].isel(time=slice(None, None, 4)).to_netcdf(tmp_path / "daily.nc")
    data[["2m_temperature"]].to_netcdf(tmp_path / "often.nc")
    said = "temperature comes every 24 h and 2m_temperature every 6 h: thin the finer one before"
    with pytest.raises(DataError, match=said):
        prepared(sorted(tmp_path.glob("*.nc")), tmp_path, prognostic={"temperature": {}, "2m_temperature": {}})
