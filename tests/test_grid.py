"""Grids: invariants, weights and areas."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.errors import DataError
from data_prep.grid import EARTH_RADIUS, Grid


@settings(deadline=None)
@given(st.integers(2, 48))
def test_cells_of_a_global_grid_tile_the_sphere(n):
    grid = Grid.gaussian(n)
    assert grid.is_global
    assert grid.shape == (n, 2 * n)
    assert grid.cell_areas.sum() == pytest.approx(4 * np.pi * EARTH_RADIUS**2, rel=1e-12)
    assert grid.latitude_weights.mean() == pytest.approx(1.0)


def test_a_regional_grid_is_neither_periodic_nor_polar():
    grid = Grid.from_arrays(np.arange(15, 76, 2.5), np.arange(200, 331, 2.5))
    assert not grid.periodic and not grid.has_poles and not grid.is_global
    assert grid.latitude_bounds[[0, -1]].tolist() == [13.75, 76.25]
    band = 2 * np.pi * EARTH_RADIUS**2 * np.diff(np.sin(np.radians([13.75, 76.25])))[0]
    assert grid.cell_areas.sum() == pytest.approx(band * 132.5 / 360, rel=1e-12)


def test_outer_cells_of_an_uneven_region_reach_half_the_spacing_beside_them_and_not_beyond_the_pole():
    grid = Grid.from_arrays([-89.0, -80.0, -76.0], [10.0, 11.0, 15.0])
    assert grid.latitude_bounds.tolist() == [-90.0, -84.5, -78.0, -74.0]
    assert grid.longitude_bounds.tolist() == [9.5, 10.5, 13.0, 17.0]


@pytest.mark.parametrize("south", [True, False])
def test_half_a_globe_is_no_globe(south):
    latitude = np.arange(2.5, 90, 5.0)
    grid = Grid.from_arrays(np.sort(-latitude) if south else latitude, np.arange(0, 360, 10.0))
    assert grid.periodic and not grid.is_global
    assert grid.latitude_bounds[[0, -1]].tolist() == ([-90.0, 0.0] if south else [0.0, 90.0])


@pytest.mark.parametrize("spacing", [0.25, 0.5])
def test_a_fine_grid_without_its_last_columns_does_not_close_the_circle(spacing):
    latitude, longitude = np.linspace(-90, 90, 19), np.arange(0, 360, spacing)
    assert Grid.from_arrays(latitude, longitude).is_global
    assert not Grid.from_arrays(latitude, longitude[longitude <= 359]).periodic


def test_rows_on_the_poles_weigh_half_a_cell():
    grid = Grid.from_arrays(np.linspace(-90, 90, 19), np.arange(36) * 10.0)
    edges = np.sin(np.radians([85.0, 90.0]))
    assert grid.latitude_weights[-1] / grid.latitude_weights[9] == pytest.approx(
        np.diff(edges)[0] / (2 * np.sin(np.radians(5)))
    )


@pytest.mark.parametrize(
    ("latitude", "longitude", "what"),
    [
        ([10, 0], [0, 1], "latitude must ascend"),
        ([0, 0], [0, 1], "latitude must ascend"),
        ([0, 91], [0, 1], r"within \[-90, 90\]"),
        ([0, 1], [-1, 1], r"within \[0, 360\)"),
        ([0, 1], [0, 180, 360], "less than 360"),
        ([0, np.nan], [0, 1], "NaN"),
        ([0], [0, 1], "at least two"),
    ],
)
def test_what_is_no_grid_is_refused(latitude, longitude, what):
    with pytest.raises(DataError, match=what):
        Grid.from_arrays(latitude, longitude)


def test_float32_coordinates_make_the_same_grid():
    exact = Grid.gaussian(32)
    rounded = Grid.from_arrays(np.float32(exact.latitude), np.float32(exact.longitude))
    assert exact.matches(rounded)
    assert Grid.from_dict(exact.to_dict()) == exact
    assert not exact.matches(Grid.gaussian(16))
