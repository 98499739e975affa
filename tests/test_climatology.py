"""Climatologies recover known cycles, choose their kind by the data, and refuse to guess."""

import numpy as np
import pytest
from climatology_oracle import ClimatologyFit

from data_prep.clock import day_of_year, seconds_of_day, year_fraction
from data_prep.errors import DataError
from data_prep.preparation.climatology import Climatology, Season, choose_kind

HOURS_12 = np.timedelta64(12, "h").astype("timedelta64[ns]")
HOURS_6 = np.timedelta64(6, "h").astype("timedelta64[ns]")
DAY = np.timedelta64(1, "D").astype("timedelta64[ns]")
SHAPE = (2, 3, 1)


def times_between(first: str, last: str, step: np.timedelta64 = HOURS_12) -> np.ndarray:
    return np.arange(np.datetime64(first, "ns"), np.datetime64(last, "ns"), step)


def fit(times: np.ndarray, values: np.ndarray, step: np.timedelta64 = HOURS_12, blocks: int = 3) -> Climatology:
    """``values`` of shape (time,) on every point, offset by the point's number."""
    points = np.arange(np.prod(SHAPE)).reshape(SHAPE)
    states = (values[:, None, None, None] + points).astype(np.float32)
    fitting = ClimatologyFit(times, step, SHAPE)
    for part in np.array_split(np.random.default_rng(0).permutation(times.size), blocks):
        fitting.update(times[part], states[part])
    return fitting.finish()


def cycle(times: np.ndarray) -> np.ndarray:
    angle = 2 * np.pi * year_fraction(times)
    return 280 + 15 * np.cos(angle - 3.5) + 2 * np.sin(2 * angle) + 4 * (seconds_of_day(times) > 0)


def test_one_year_recovers_harmonics_and_the_hour_exactly():
    times = times_between("2001-01-01", "2002-04-01")
    found = fit(times, cycle(times))
    assert found.kind == "annual_harmonics"
    later = times_between("2010-01-01", "2011-01-01", np.timedelta64(60, "h"))
    np.testing.assert_allclose(found.at(later)[:, 1, 2, 0], cycle(later) + 5, atol=1e-3)


def test_three_years_average_by_day_and_hour_and_smooth():
    times = times_between("2001-01-01", "2004-01-01")
    noise = np.random.default_rng(1).standard_normal(times.size)
    found = fit(times, cycle(times) + noise)
    assert found.kind == "day_of_year_hour"
    assert found.table.shape == (366, 2, *SHAPE)
    error = found.at(times)[:, 0, 0, 0] - cycle(times)
    # 61 triangular days of three years leave noise of 1 / sqrt(3 * 45.8); the window flattens the cycle by 1-2 %.
    assert np.abs(error).max() < 0.65
    assert error.std() < 0.25
    np.testing.assert_array_equal(found.table[365], found.table[364])


def test_smoothing_wraps_around_the_year_and_weights_are_triangular():
    times = times_between("2001-01-01", "2004-01-01", DAY)
    spike = (times.astype("datetime64[D]") - times.astype("datetime64[Y]").astype("datetime64[D]")).astype(int) == 0
    found = fit(times, spike.astype(float), DAY)
    profile = found.table[:365, 0, 0, 0, 0]
    triangle = np.maximum(0, 1 - np.abs((np.arange(365) + 182) % 365 - 182) / 31)
    np.testing.assert_allclose(profile, triangle / triangle.sum(), atol=1e-6)


def test_members_of_one_season_give_a_trend_over_the_calendar_not_over_the_years():
    members = [times_between(f"{2001 + 4 * m}-11-15", f"{2002 + 4 * m}-02-10", HOURS_6) for m in range(20)]
    times = np.concatenate(members)
    days = np.concatenate([(t - t[0]) / DAY for t in members])
    found = fit(times, 250 - 0.1 * days, HOURS_6)
    assert found.kind == "seasonal_trend"
    held_out = times_between("2101-11-15", "2102-02-10", HOURS_6)
    np.testing.assert_allclose(found.at(held_out)[:, 0, 0, 0], 250 - 0.1 * (held_out - held_out[0]) / DAY, atol=2e-3)


def test_a_date_outside_the_training_season_is_an_error():
    times = times_between("2001-10-01", "2001-12-01")
    found = fit(times, np.arange(times.size, dtype=float))
    assert found.at(np.array(["2005-12-28T12"], "datetime64[ns]")).shape == (1, *SHAPE)
    for date in ("2005-01-05T12", "2005-06-01T12", "2005-08-25T12"):
        with pytest.raises(DataError, match=f"no estimate at {date}"):
            found.at(np.array([date], "datetime64[ns]"))


def test_an_hour_that_training_lacks_is_an_error():
    times = times_between("2001-01-01", "2002-04-01")
    with pytest.raises(DataError, match=r"no estimate at 2001-01-01T06:00.*hours 0, 12 UTC"):
        fit(times, cycle(times)).at(np.array(["2001-01-01T06"], "datetime64[ns]"))


def test_the_kind_follows_coverage_of_the_calendar_not_length_alone():
    for last, kind in (("08-20", "seasonal_trend"), ("09-01", "annual_cycle")):
        summers = np.concatenate([times_between(f"{y}-06-01", f"{y}-{last}") for y in range(2001, 2021)])
        assert choose_kind(summers, HOURS_12) == kind
    assert choose_kind(times_between("2001-01-01", "2001-03-25"), HOURS_12) == "seasonal_trend"
    for last in ("2001-04-05", "2001-10-28"):
        assert choose_kind(times_between("2001-01-01", last), HOURS_12) == "annual_cycle"
    for last in ("2001-11-01", "2001-11-20"):
        assert choose_kind(times_between("2001-01-01", last), HOURS_12) == "annual_harmonics"
    gap_years = np.concatenate([times_between(f"{y}-01-01", f"{y}-11-20") for y in range(2001, 2006)])
    assert choose_kind(gap_years, HOURS_12) == "annual_harmonics"  # a smoothed table would have a hole
    assert choose_kind(times_between("2001-01-01", "2001-12-25"), HOURS_12) == "annual_harmonics"
    assert choose_kind(times_between("2001-01-01", "2002-01-01"), HOURS_12) == "annual_harmonics"
    assert choose_kind(times_between("2001-01-01", "2003-12-01"), HOURS_12) == "annual_harmonics"
    assert choose_kind(times_between("2001-01-01", "2004-01-01"), HOURS_12) == "day_of_year_hour"
    of_360_days = np.concatenate([times_between(f"{y}-01-01", f"{y}-12-27") for y in (2001, 2002, 2003)])
    assert choose_kind(of_360_days, HOURS_12) == "day_of_year_hour"


@pytest.mark.parametrize(("last", "amplitude"), [("2001-07-05", 0.0), ("2001-09-01", 0.0), ("2001-11-01", 1.5)])
def test_the_year_is_followed_from_half_of_it_and_no_further_than_a_month(last, amplitude):
    """A line over ten months would miss midsummer by six degrees and the weeks that follow by sixteen."""

    def climate(t):
        angle = 2 * np.pi * year_fraction(t)
        return 280 + 10 * np.cos(angle - 0.3) + amplitude * np.cos(2 * angle)

    times = times_between("2001-01-01", last)
    found = fit(times, climate(times))
    beyond = times_between(last, str(np.datetime64(last) + np.timedelta64(29, "D")))
    for t in (times, beyond):
        np.testing.assert_allclose(found.at(t)[:, 0, 0, 0], climate(t), atol=2e-2)
    if last < "2001-11":
        with pytest.raises(DataError, match="no estimate at"):
            found.at(beyond + np.timedelta64(4, "D"))


@pytest.mark.parametrize(("days", "followed"), [(40, 0), (85, 0), (100, 0), (150, 15), (200, 29)])
def test_outside_a_short_season_the_estimate_stays_as_it_is_at_the_edge(days, followed):
    """Its trend is half weather."""
    times = np.datetime64("2001-03-01", "ns") + DAY * np.arange(days)
    found = fit(times, cycle(times), DAY)
    for edge, outwards in ((times[-1], DAY), (times[0], -DAY)):
        values = found.at(edge + outwards * np.arange(30))[:, 0, 0, 0]
        moves = np.abs(np.diff(values)) > 1e-3
        assert moves[:followed].sum() >= followed - 2  # but where the cycle turns
        assert not moves[followed:].any()


def test_a_months_climatology_forecasts_the_next_month_better_than_a_line_that_goes_on():
    """Over weather that lasts some days, on a thousand planets without a season."""
    rng, states = np.random.default_rng(0), [np.zeros((10, 10, 10))]
    for _ in range(68):
        states.append(0.8 * states[-1] + 0.6 * rng.standard_normal((10, 10, 10)))
    times = np.datetime64("2001-03-01", "ns") + DAY * np.arange(68)
    fitting = ClimatologyFit(times[:40], DAY, (10, 10, 10))
    fitting.update(times[:40], np.stack(states[1:41]))
    found = fitting.finish()
    error = np.std(found.at(times[40:]) - np.stack(states[41:]))
    line = np.polyfit(np.arange(40), np.stack(states[1:41]).reshape(40, -1), 1)
    goes_on = np.std(np.outer(np.arange(40, 68), line[0]) + line[1] - np.stack(states[41:]).reshape(28, -1))
    assert error < 0.85 * goes_on


@pytest.mark.parametrize("left_out", [slice(1), slice(300, 340), slice(720, None)])
def test_a_year_that_lacks_some_steps_keeps_its_cycle(left_out):
    """A line over all of it would have January 15 K too warm."""
    times = np.delete(times_between("2001-01-01", "2002-01-01"), left_out)
    later = times_between("2010-01-01", "2011-01-01")
    np.testing.assert_allclose(fit(times, cycle(times)).at(later)[:, 0, 0, 0], cycle(later), atol=2e-3)


def test_a_season_may_wrap_around_new_year():
    season = Season.of(times_between("2001-12-01", "2002-02-01"))
    assert season.position(np.array(["2010-12-31T12"], "datetime64[ns]"))[0] == pytest.approx(0.0, abs=1.0)
    assert season.half_width == pytest.approx(31, abs=1)
    assert not season.whole_year


@pytest.mark.parametrize("last", ["2001-03-01", "2002-04-01", "2004-02-01"])
def test_climatologies_survive_their_arrays(last):
    times = times_between("2001-01-01", last)
    found = fit(times, cycle(times))
    again = Climatology.from_arrays(found.to_arrays())
    assert again.kind == found.kind
    np.testing.assert_array_equal(again.at(times[:9]), found.at(times[:9]))


def test_too_few_times_are_refused():
    times = times_between("2001-01-01", "2001-01-02")
    with pytest.raises(DataError, match="too few times"):
        fit(times, np.zeros(times.size), blocks=1)


def test_the_last_day_of_a_leap_year_counts_with_the_day_before_it():
    times = times_between("2001-01-01", "2005-01-01", DAY)
    found = fit(times, 365.0 * (day_of_year(times) == 366), DAY)
    assert found.kind == "day_of_year_hour" and found.table[:365, 0, 0, 0, 0].argmax() == 364
