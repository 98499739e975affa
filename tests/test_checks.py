"""Every defect is refused with its place named."""

import numpy as np
import pytest
from weather_files import times_from

from data_prep.errors import DataError, percent
from data_prep.reading import checks
from data_prep.spec import StateSpec, Variable

SPEC = StateSpec(
    (
        Variable("temperature", "prognostic", (500.0, 850.0), "K"),
        Variable("specific_humidity", "prognostic", (), "kg kg-1"),
    ),
    "pressure",
)
TIMES = times_from("2001-01-01", 4)


def good() -> np.ndarray:
    values = np.full((4, 3, 5, 3), 270.0, np.float32)
    values[..., 2] = 1e-3
    return values


def check(values: np.ndarray) -> None:
    checks.check_values(values, SPEC.state_channels, SPEC, TIMES, "a.nc")


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.0, "0.0%"), (1e-9, "<0.1%"), (0.001, "0.1%"), (0.5, "50.0%"), (0.99999, ">99.9%"), (1.0, "100.0%")],
)
def test_what_is_little_is_not_told_as_nothing(share, text):
    assert percent(share) == text


def test_good_values_pass():
    check(good())


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_named_with_its_first_time(value):
    values = good()
    values[2:, 1, 1, 1] = value
    with pytest.raises(
        DataError,
        match=r"a.nc: temperature@850 has NaN or infinity in 6.7% of its points at 2001-01-01T12:00; .*data.exclude",
    ):
        check(values)


@pytest.mark.parametrize(
    ("value", "points", "remedy"),
    [(np.nan, 1, "set data.nan: fill_mean"), (np.nan, None, "leave those times"), (np.inf, 1, "leave those times")],
)
def test_filling_is_advised_where_it_helps(value, points, remedy):
    spec = StateSpec((Variable("sea_surface_temperature", "forcing", (), "K", known="persisted"),))
    values = np.full((TIMES.size, 3, 5, 1), 280.0, np.float32)
    values[1, :points, :points] = value
    with pytest.raises(DataError, match=f"fill them before, or {remedy}"):
        checks.check_values(values, spec.forcing_channels, spec, TIMES, "a.nc")
    with pytest.raises(DataError, match=r"fill them before, or choose another time$"):  # a forecast has no such key
        checks.check_values(values, spec.forcing_channels, spec, TIMES, "a.nc", "choose another time")


@pytest.mark.parametrize(
    ("channel", "value", "what"),
    [
        (0, 49.0, r"temperature@500 ranges from 49 to 270 K at 2001-01-01T06:00, possible are 50 to 400"),
        (1, 401.0, r"temperature@850 ranges from 270 to 401 K"),
        (2, 0.2, r"specific_humidity ranges from 0.001 to 0.2 kg kg-1.*look like g kg-1"),
        (2, -0.02, r"specific_humidity ranges from -0.02"),
    ],
)
def test_impossible_values_are_named_with_their_range(channel, value, what):
    values = good()
    values[1, 0, 0, channel] = value
    with pytest.raises(DataError, match=what):
        check(values)


def test_gaps_are_multiples_of_the_interval_and_anything_else_is_irregular():
    times = times_from("2001-01-01", 6)
    assert checks.interval_of(times[[0, 1, 4, 5]], "a.nc") == times[1] - times[0]
    times[3] += np.timedelta64(1, "h")
    with pytest.raises(DataError, match=r"irregular time step: 6 h after 2001-01-01T00:00, elsewhere 5 h"):
        checks.interval_of(times, "a.nc")
    with pytest.raises(DataError, match="one time only"):
        checks.interval_of(times[:1], "a.nc")


def test_filling_uses_the_same_field_only():
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2)
    holes = values.copy()
    holes[0, 0, :, 1] = np.nan
    filled = checks.fill_with_mean(holes)
    assert filled[0, 0, 0, 1] == pytest.approx(values[0, 1:, :, 1].mean())
    np.testing.assert_array_equal(filled[1], values[1])
    np.testing.assert_array_equal(filled[..., 0], values[..., 0])
    holes[1, ..., 0] = np.nan
    assert np.isnan(checks.fill_with_mean(holes)[1, ..., 0]).all()
