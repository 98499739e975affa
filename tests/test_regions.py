"""Regions: which points belong, and how much each counts."""

import numpy as np
import pytest
import xarray as xr

from data_prep.errors import DataError
from data_prep.grid import Grid
from emulator.config import Box
from emulator.evaluation.regions import (
    CONTINENTS,
    SURFACES,
    WHOLE,
    Region,
    boxes,
    default_regions,
    read_mask,
    region_weights,
    scored_regions,
)

GRID = Grid.from_arrays(np.arange(-87.5, 90, 5.0), np.arange(0.0, 360.0, 5.0))


def test_a_regional_grid_has_one_region_and_extrapolated_edges():
    grid = Grid.from_arrays(np.arange(15.0, 76.0, 2.5), np.arange(200.0, 331.0, 2.5))
    assert [r.name for r in default_regions(grid)] == [WHOLE]
    weights = region_weights(grid, default_regions(grid))[0]
    assert weights.sum() == pytest.approx(1)
    cosine = np.cos(np.radians(grid.latitude))  # equal spacing: exact cell areas are proportional to the cosine
    np.testing.assert_allclose(weights.sum(axis=1), cosine / cosine.sum(), rtol=1e-12)


def test_continents_lie_where_they_are():
    europe, america = (r.mask(GRID) for r in CONTINENTS)
    longitudes = np.asarray(GRID.longitude)
    assert set(longitudes[europe.any(axis=0)]) == {350, 355, *range(0, 45, 5)}
    assert set(longitudes[america.any(axis=0)]) == set(range(240, 290, 5))
    assert set(np.asarray(GRID.latitude)[america.any(axis=1)]) == {27.5, 32.5, 37.5, 42.5, 47.5, 52.5, 57.5}
    coarse = Grid.from_arrays([-70.0, 0.0, 70.0], [0.0, 90.0, 180.0, 270.0])
    assert {r.name for r in default_regions(coarse)} == {
        "all", "tropics", "northern_extratropics", "southern_extratropics", "europe",
    }  # fmt: skip


def test_land_counts_by_its_share():
    land = np.zeros(GRID.shape)
    land[20, 3], land[20, 5] = 1.0, 0.25
    names = [r.name for r in default_regions(GRID, land)]
    assert names[-2:] == ["land", "sea"]
    on_land, at_sea = region_weights(GRID, SURFACES, land)
    assert on_land[20, 3] == pytest.approx(0.8) and on_land[20, 5] == pytest.approx(0.2)
    whole = region_weights(GRID, [Region(WHOLE)])[0]
    total = (whole * land).sum()
    np.testing.assert_allclose(total * on_land + (1 - total) * at_sea, whole, atol=1e-15)
    with pytest.raises(DataError, match="region land: needs land_sea_mask"):
        region_weights(GRID, SURFACES)


def test_boxes_of_a_config():
    found = boxes({
        "alps": Box(latitude=(44, 48), longitude=(5, 16)),
        "atlantic": Box(latitude=(0, 60), longitude=(-60, -10)),
        "belt": Box(latitude=(-5, 5)),
        "around": Box(longitude=(-180, 180)),
    })  # fmt: skip
    assert found[0] == Region("alps", (44, 48), (5, 16))
    assert found[1].longitude == (300.0, 350.0)
    assert found[2].mask(GRID).sum() == 2 * 72 and found[3].mask(GRID).all()
    with pytest.raises(ValueError, match="expected south and north end"):
        Box(latitude=(48, 44))
    with pytest.raises(DataError, match="nowhere: no point"):
        region_weights(GRID, [Region("nowhere", latitude=(1, 2))])


def test_the_ends_of_a_box_belong_to_it_on_both_sides_of_greenwich():
    """355.1 - 360 and 365.1 - 360 are not quite the numbers that a config names."""
    grid = Grid.from_arrays([40.0, 41.0], np.round(np.arange(350.0, 370.05, 0.1), 1))
    longitude = np.round(np.asarray(grid.longitude) - 360.0, 1)
    for west, east in ((-4.9, 5.1), (-9.9, 0.1), (0.3, 9.7), (-8.3, -0.1)):
        (region,) = boxes({"box": Box(longitude=(west, east))})
        inside = longitude[region.mask(grid)[0]]
        assert (inside[0], inside[-1]) == (west, east)


def test_a_default_region_without_points_is_left_out_and_its_name_is_free():
    """No row of four lies within 20 degrees of the equator."""
    coarse = Grid.from_arrays([-67.5, -22.5, 22.5, 67.5], np.arange(0.0, 360.0, 45.0))
    regions = scored_regions(coarse, {"tropics": Box(latitude=(-30, 30))})
    assert [r.name for r in regions] == ["all", "northern_extratropics", "southern_extratropics", "europe", "tropics"]
    with pytest.raises(DataError, match=r"^evaluate\.regions\.europe: .* choose another$"):
        scored_regions(coarse, {"europe": Box(latitude=(40, 70))})


def test_a_mask_takes_points_out_of_every_region(tmp_path):
    mask = np.ones(GRID.shape)
    mask[:30], mask[31, 2] = 0, np.nan
    field = xr.DataArray(mask, dims=("latitude", "longitude"), coords={"latitude": list(GRID.latitude)})
    field = field.assign_coords(longitude=list(GRID.longitude))
    file = xr.Dataset({"mask": field}).isel(latitude=slice(None, None, -1)).transpose("longitude", ...)
    file.to_netcdf(tmp_path / "mask.nc")
    read = read_mask(tmp_path / "mask.nc", GRID)
    assert read.sum() == 6 * 72 - 1 and not read[31, 2]
    west = file.assign_coords(longitude=(file["longitude"] + 180) % 360 - 180).sortby("longitude")
    west.to_netcdf(tmp_path / "west.nc")  # from -180 on, as shapes are usually drawn
    np.testing.assert_array_equal(read_mask(tmp_path / "west.nc", GRID), read)
    weights = region_weights(GRID, default_regions(GRID)[:1], mask=read)[0]
    assert (weights[~read] == 0).all() and weights.sum() == pytest.approx(1)
    with pytest.raises(DataError, match=r"tropics: no point that evaluate\.mask leaves"):
        region_weights(GRID, default_regions(GRID), mask=read)
    names = [r.name for r in scored_regions(GRID, {"arctic": Box(latitude=(66, 90))}, mask=read)]
    assert names == ["all", "northern_extratropics", "europe", "arctic"]
    with pytest.raises(DataError, match=r"region antarctic: no point that evaluate\.mask leaves"):
        scored_regions(GRID, {"antarctic": Box(latitude=(-90, -66))}, mask=read)
    with pytest.raises(DataError, match=r"region all: no point that evaluate\.mask leaves"):
        scored_regions(GRID, {}, mask=np.zeros(GRID.shape, bool))
    with pytest.raises(DataError, match="the mask's grid"):
        read_mask(tmp_path / "mask.nc", Grid.gaussian(8))
    field.rename("land").to_netcdf(tmp_path / "other.nc")
    with pytest.raises(DataError, match="expected a variable mask"):
        read_mask(tmp_path / "other.nc", GRID)
    with pytest.raises(DataError, match="not a readable NetCDF file"):
        read_mask(tmp_path / "absent.nc", GRID)
