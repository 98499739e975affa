"""Forcings: the sun against known values, clocks, tables and persistence."""

import numpy as np
import pytest

from data_prep.errors import DataError
from data_prep.forcing import (
    COMPUTED_FORCINGS,
    SOLAR_CONSTANT,
    ForcingBuilder,
    _sun,
    coordinate_fields,
    solar_radiation,
)
from data_prep.grid import Grid
from data_prep.spec import StateSpec, Variable

DAY = np.timedelta64(1, "D")
HOURS_6 = np.timedelta64(6, "h")


def at(*times: str) -> np.ndarray:
    return np.array(times, "datetime64[ns]")


def builder(grid: Grid) -> ForcingBuilder:
    spec = StateSpec(
        (
            Variable("sst", "forcing", known="persisted"),
            Variable("soil", "forcing", known="climatological"),
            *COMPUTED_FORCINGS["day_progress"],
            *COMPUTED_FORCINGS["year_progress"],
        )
    )
    table = np.broadcast_to(np.arange(1, 367, dtype=np.float32)[:, None, None, None], (366, *grid.shape, 1))
    return ForcingBuilder(grid, spec, HOURS_6, table)


def test_the_global_annual_mean_is_a_quarter_of_the_solar_constant():
    grid = Grid.gaussian(32)
    times = np.arange("2001-01-01", "2002-01-01", np.timedelta64(73, "h"), dtype="datetime64[ns]")
    rows = solar_radiation(grid, times, DAY).mean(axis=(0, 2))
    mean = float((rows * grid.latitude_weights).mean())
    assert mean == pytest.approx(SOLAR_CONSTANT / 4, rel=2e-3)


def test_equinox_noon_on_the_equator_is_overhead():
    grid = Grid.from_arrays([-60.0, 0.0, 60.0], [0.0, 180.0])
    # Equation of time on 20 March: -7.4 minutes, so the sun culminates at Greenwich at 12:07.
    flux = solar_radiation(grid, at("2001-03-20T12:07:30"), np.timedelta64(1, "m"))[0]
    assert flux[1, 0] == pytest.approx(SOLAR_CONSTANT / 0.99599**2, rel=1e-4)
    assert flux[0, 0] == pytest.approx(flux[1, 0] / 2, rel=2e-3)
    assert flux[:, 1].tolist() == [0.0, 0.0, 0.0]


def test_the_sun_comes_from_the_east():
    grid = Grid.from_arrays([-60.0, 0.0, 60.0], [90.0, 270.0])
    morning, evening = solar_radiation(grid, at("2001-03-20T06:07:30", "2001-03-20T18:07:30"), np.timedelta64(1, "m"))
    overhead = pytest.approx(SOLAR_CONSTANT / 0.99599**2, rel=1e-3)
    assert morning[1].tolist() == [overhead, 0.0] and evening[1].tolist() == [0.0, overhead]


def test_polar_night_and_midnight_sun():
    grid = Grid.from_arrays([-90.0, -80.0, 80.0, 90.0], [0.0, 90.0])
    june = solar_radiation(grid, at("2001-06-21T06", "2001-06-21T12", "2001-06-21T18", "2001-06-22T00"), HOURS_6)
    assert (june[:, :2] == 0).all()
    distance = 1.0163
    assert june[:, 3] == pytest.approx(SOLAR_CONSTANT / distance**2 * np.sin(np.radians(23.439)), rel=1e-3)


def test_daily_mean_insolation_follows_the_closed_form():
    grid = Grid.from_arrays([-60, -30, 0, 30, 60], [0.0, 120.0])
    found = solar_radiation(grid, at("2001-12-22T07:20"), DAY)[0, :, 0]  # the solstice is in the middle of this day
    declination, distance, lat = np.radians(-23.4387), 0.98370, np.radians(grid.latitude)
    h0 = np.arccos(np.clip(-np.tan(lat) * np.tan(declination), -1, 1))
    wanted = h0 * np.sin(lat) * np.sin(declination) + np.cos(lat) * np.cos(declination) * np.sin(h0)
    assert found == pytest.approx(SOLAR_CONSTANT / distance**2 / np.pi * wanted, rel=2e-4)


def test_the_mean_over_a_step_equals_the_mean_of_its_minutes():
    grid = Grid.from_arrays([-70.0, 10.0, 66.0], np.arange(0, 360, 45.0))
    end = at("2013-04-03T06")
    minutes = end - np.arange(360) * np.timedelta64(1, "m")
    fine = solar_radiation(grid, minutes, np.timedelta64(1, "m")).mean(axis=0)
    assert solar_radiation(grid, end, HOURS_6)[0] == pytest.approx(fine, abs=0.3)


def test_clocks_follow_the_local_sun_and_the_calendar():
    grid = Grid.from_arrays([0.0, 10.0], [0.0, 90.0, 180.0, 270.0])
    found = builder(grid).at(at("2001-01-01T06"), np.zeros((*grid.shape, 1), np.float32))[0, 0]
    np.testing.assert_allclose(found[:, 2], [1, 0, -1, 0], atol=1e-6)  # sine: 06, 12, 18, 24 local time
    np.testing.assert_allclose(found[:, 3], [0, -1, 0, 1], atol=1e-6)
    april = builder(grid).at(at("2001-04-02T06"), np.zeros((*grid.shape, 1), np.float32))[0, 0, 0]
    np.testing.assert_allclose(april[4:], [1, 0], atol=1e-6)
    july = builder(grid).at(at("2001-07-02T12"), np.zeros((*grid.shape, 1), np.float32))[0, 0, 0]
    np.testing.assert_allclose(july[4:], [0, -1], atol=1e-6)


def test_tables_are_read_by_day_of_year_and_persisted_fields_are_kept():
    grid = Grid.from_arrays([0.0, 10.0], [0.0, 90.0])
    sst = np.arange(4, dtype=np.float32).reshape(2, 2, 1)
    found = builder(grid).at(at("2001-03-01", "2004-03-01", "2004-12-31T18"), sst)
    assert found.dtype == np.float32
    assert found[:, 0, 0, 1].tolist() == [60.0, 61.0, 366.0]
    for row in found:
        np.testing.assert_array_equal(row[..., 0], sst[..., 0])
    each = builder(grid).at(at("2001-03-01", "2001-03-02"), np.stack([sst, sst + 1]))
    np.testing.assert_array_equal(each[1, ..., 0], sst[..., 0] + 1)


def test_missing_persisted_fields_are_named():
    grid = Grid.gaussian(2)
    with pytest.raises(DataError, match="the fields of sst"):
        builder(grid).at(at("2001-01-01"))
    with pytest.raises(DataError, match="given fields have shape"):
        builder(grid).at(at("2001-01-01"), np.zeros((4, 2, 1), np.float32))


def test_a_table_of_another_shape_is_refused():
    grid = Grid.gaussian(2)
    good = builder(grid)
    with pytest.raises(DataError, match="forcing table"):
        ForcingBuilder(grid, good.spec, HOURS_6, good.table[:365])
    with pytest.raises(DataError, match="no rule computes moonshine"):
        spec = StateSpec((Variable("moonshine", "forcing", known="computed"),))
        ForcingBuilder(grid, spec, HOURS_6, np.zeros((366, *grid.shape, 0)))


def test_coordinates_are_points_on_the_unit_sphere():
    xyz = coordinate_fields(Grid.gaussian(8)).astype(np.float64)
    np.testing.assert_allclose((xyz**2).sum(axis=-1), 1.0, atol=1e-6)
    axes = coordinate_fields(Grid.from_arrays([-45.0, 0.0, 90.0], [0.0, 90.0]))
    np.testing.assert_allclose(axes[1], [[0, 0, 1], [0, 1, 0]], atol=1e-7)  # Greenwich, and 90 E
    np.testing.assert_allclose(axes[2], [[1, 0, 0]] * 2, atol=1e-7)
    np.testing.assert_allclose(axes[0, 0], [-np.sqrt(0.5), 0, np.sqrt(0.5)], atol=1e-7)


def test_the_sun_stands_where_meeus_has_it():
    """13 October 1992, 0 h (Meeus 1998, Astronomical Algorithms, examples 25.a and 28.a)."""
    declination_rad, distance_au, equation_of_time_rad = _sun(np.array([2448908.5 - 2451545.0]))
    assert np.degrees(declination_rad[0]) == pytest.approx(-7.78507, abs=0.01)
    assert distance_au[0] == pytest.approx(0.99766, abs=1e-4)
    assert np.degrees(equation_of_time_rad[0]) == pytest.approx(3.427351, abs=0.01)


def test_the_sun_of_a_whole_day_is_the_same_at_all_longitudes_and_times_of_steps():
    """What models get whose sun does not rise and set: the mean over the day that ends."""
    grid = Grid.from_arrays([-60.0, 0.0, 60.0], [0.0, 90.0, 180.0])
    spec = StateSpec(COMPUTED_FORCINGS["daily_mean_toa_incident_solar_radiation"])
    times = at("2001-04-03T00", "2001-04-03T06")
    found = ForcingBuilder(grid, spec, HOURS_6, np.empty((366, *grid.shape, 0), np.float32)).at(times)[..., 0]
    for longitude in range(3):
        expected = solar_radiation(grid, times, DAY)[..., 0]
        np.testing.assert_allclose(found[..., longitude], expected, rtol=1e-6)


def test_every_channel_has_its_own_table():
    grid = Grid.from_arrays([0.0, 10.0], [0.0, 90.0])
    spec = StateSpec(tuple(Variable(name, "forcing", known="climatological") for name in ("soil", "albedo")))
    table = np.zeros((366, *grid.shape, 2), np.float32) + np.array([1.0, 2.0], np.float32)
    found = ForcingBuilder(grid, spec, HOURS_6, table).at(at("2001-03-01"))
    np.testing.assert_array_equal(found[0], table[0])
