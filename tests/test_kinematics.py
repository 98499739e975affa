"""Speed and vorticity of flows known in closed form."""

import numpy as np
import pytest
import xarray as xr

from data_prep.errors import DataError
from data_prep.grid import EARTH_RADIUS, Grid
from data_prep.kinematics import vorticity, wind_speed
from data_prep.vertical import derive

GLOBAL = Grid.from_arrays(np.linspace(-90, 90, 91), np.arange(0, 360, 2.0))
ONE_POLE = [
    Grid.from_arrays(np.linspace(-90, 90, 91)[rows], np.arange(0, 360, 2.0)) for rows in (slice(90), slice(1, 91))
]
REGIONAL = Grid.from_arrays(np.linspace(20, 60, 81), np.linspace(200, 280, 161))


def test_speed():
    assert wind_speed(np.array([3.0]), np.array([-4.0]))[0] == 5.0


@pytest.mark.parametrize("grid", [GLOBAL, Grid.gaussian(64), *ONE_POLE, REGIONAL])
def test_solid_body_rotation_has_twice_its_rate_everywhere(grid):
    rate = 1e-5
    lat = np.radians(grid.latitude)[:, None]
    u = rate * EARTH_RADIUS * np.cos(lat) * np.ones(grid.shape)
    expected = 2 * rate * np.sin(lat) * np.ones(grid.shape)
    found = vorticity(u, np.zeros_like(u), grid)
    rows = slice(None) if grid.is_global else slice(1, -1)  # one-sided, hence of first order, at a region's ends
    np.testing.assert_allclose(found[rows], expected[rows], atol=5e-3 * 2 * rate)


@pytest.mark.parametrize("grid", [GLOBAL, *ONE_POLE, REGIONAL])
def test_a_rossby_wave(grid):
    """Streamfunction a^2 w cos(lat)^3 cos(3 lon): an eigenfunction, vorticity = -12 / a^2 of it."""
    w, a = 1e-5, EARTH_RADIUS
    lat, lon = np.radians(grid.latitude)[:, None], np.radians(grid.longitude)[None, :]
    u = 3 * a * w * np.cos(lat) ** 2 * np.sin(lat) * np.cos(3 * lon)
    v = -3 * a * w * np.cos(lat) ** 2 * np.sin(3 * lon)
    expected = -12 * w * np.cos(lat) ** 3 * np.cos(3 * lon)
    found = vorticity(np.stack([u, 2 * u]), np.stack([v, 2 * v]), grid)
    inside = (slice(1, -1), slice(1, -1))
    np.testing.assert_allclose(found[0][inside], expected[inside], atol=0.01 * 12 * w)
    np.testing.assert_allclose(found[1], 2 * found[0], rtol=1e-12)
    if grid is GLOBAL:
        assert np.abs(found[0][[0, -1]]).max() < 1e-3 * 12 * w
    assert vorticity(u.astype(np.float32), v.astype(np.float32), grid).dtype == np.float32


@pytest.mark.parametrize("longitude", [np.arange(0, 360, 5.0), np.arange(0, 91, 5.0)])
def test_a_flow_straight_across_the_pole_does_not_turn(longitude):
    """Of a sector the mean along a row is no circulation."""
    grid = Grid.from_arrays(np.arange(60, 91, 2.5), longitude)
    u, v = (np.broadcast_to(-10 * f(np.radians(longitude)), grid.shape) for f in (np.sin, np.cos))
    assert np.abs(vorticity(u, v, grid)[-1]).max() < 3e-6


def test_of_a_sector_the_row_at_the_pole_turns_as_the_next_one():
    grid = Grid.from_arrays(np.arange(60, 91, 2.5), np.arange(0, 91, 5.0))
    u = 1e-5 * EARTH_RADIUS * np.cos(np.radians(grid.latitude))[:, None] * np.ones(grid.shape)
    found = vorticity(u, np.zeros_like(u), grid)
    np.testing.assert_array_equal(found[-1], found[-2])
    np.testing.assert_allclose(found[-1], 2e-5, rtol=0.05)


def test_derive_adds_them_on_the_levels_of_the_winds():
    dims = ("init_time", "level", "latitude", "longitude")
    rng = np.random.default_rng(0)
    u, v = rng.normal(size=(2, 2, 2, *REGIONAL.shape))
    level = ("level", [500.0, 850.0], {"standard_name": "air_pressure", "units": "hPa"})
    coords = {"level": level, "latitude": list(REGIONAL.latitude), "longitude": list(REGIONAL.longitude)}
    winds = xr.Dataset({"u_component_of_wind": (dims, u), "v_component_of_wind": (dims, v)}, coords)
    turned = winds.transpose("longitude", "latitude", ...)
    for levels, rows in ((None, [0, 1]), ([850], [1])):
        derived = derive(turned, levels, ("wind_speed", "vorticity"))
        assert derived["wind_speed"].attrs["units"] == "m s-1" and derived["vorticity"].attrs["units"] == "s-1"
        speed = derived["wind_speed"].transpose(*dims).values
        np.testing.assert_allclose(speed, np.hypot(u, v)[:, rows])
        np.testing.assert_allclose(
            derived["vorticity"].transpose(*dims).values, vorticity(u, v, REGIONAL)[:, rows], rtol=1e-10, atol=1e-15
        )
    with pytest.raises(DataError, match="lack v_component_of_wind"):
        derive(winds.drop_vars("v_component_of_wind"), None, ("vorticity",))
