"""What people write for a time: ISO 8601 with and without a zone, in every place of a config and of a command."""

import re
from pathlib import Path
from types import SimpleNamespace

import cftime
import numpy as np
import pytest
import xarray as xr

from data_prep.clock import day_of_year, parse_instant, parse_last, sample, year_fraction
from data_prep.config import DataConfig, SplitConfig
from data_prep.preparation.splits import split_segments
from data_prep.reading.initial import _instant_of
from data_prep.reading.instants import instants_of

pytestmark = pytest.mark.filterwarnings("error")


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("2001-01-31", "2001-01-31T00:00", "2001-01-31T23:59:59.999999999"),
        ("2001-01-31T06", "2001-01-31T06:00", "2001-01-31T06:00"),
        ("2001-01-31T06:00Z", "2001-01-31T06:00", "2001-01-31T06:00"),
        ("2001-01-01T00:30+01:00", "2000-12-31T23:30", "2000-12-31T23:30"),
    ],
)
def test_a_zone_is_taken_off_and_a_day_has_an_end(text, first, last):
    assert parse_instant(text) == np.datetime64(first, "ns")
    assert parse_last(text) == np.datetime64(last, "ns")
    assert parse_instant(text).dtype == parse_last(text).dtype == np.dtype("datetime64[ns]")


@pytest.mark.parametrize("text", ["NaT", "now", "today", "yesterday", "", "2001-02-29", "0001-01-01T00:00+12:00"])
def test_what_is_no_time_is_told_the_form(text):
    with pytest.raises(ValueError, match=re.escape(f"'{text}' is no time; write it like 2001-01-31 or 2001-01")):
        parse_instant(text)


def test_what_nanoseconds_cannot_hold_is_refused():
    for text in ("1500-01-01", "1677-12-31T23:00", "2262-01-01"):
        with pytest.raises(ValueError, match=f"'{text}' lies outside the years 1678 to 2261"):
            parse_instant(text)


def test_a_sample_sees_all_hours_of_the_day_and_all_of_the_record():
    """In even steps one record length in a hundred, of small samples one in twenty, sees one hour of four hardly ever,
    as 1023 times do of which 256 are taken: all of them at midnight."""
    for most in (8, 32, 256):
        for count in (*range(most, 1100, 7), 1023, 1461, 2043):
            times = np.datetime64("2001-01-01", "ns") + np.arange(count) * np.timedelta64(6, "h")
            chosen = sample(times, most)
            assert chosen.size == most and (np.diff(chosen) > 0).all()
            edges = np.arange(most + 1) * count // most
            assert ((edges[:-1] <= chosen) & (chosen < edges[1:])).all()  # one of every equal part
            of_hour = np.bincount(chosen % 4, minlength=4)
            assert of_hour.min() >= (most // 8 if count >= 2 * most else most // 8 - 1), (most, count)
    assert sample(times[:5], 8).tolist() == [0, 1, 2, 3, 4]
    whole_days = np.datetime64("2001-01-01", "ns") + np.arange(8 * 365) * np.timedelta64(24, "h")
    seasons = day_of_year(whole_days[sample(whole_days, 32)])  # eight years: even steps would see four days of the year
    assert len(set(seasons.tolist())) > 20


def test_splits_and_initial_times_may_have_a_zone():
    times = np.datetime64("2001-01-01", "ns") + np.arange(40) * np.timedelta64(6, "h")
    split = SplitConfig(
        train=["2001-01-01", "2001-01-03T00:00Z"],
        validation=["2001-01-04T01:00+01:00", "2001-01-05"],
        test=["2001-01-07T00Z", "2001-01-09T01:00+01:00"],
        gap_days=0.5,
    )
    pieces = split_segments([SimpleNamespace(name="a", times=times)], split)
    assert [(p.start, p.stop) for p in pieces] == [(0, 9), (12, 20), (24, 33)]
    assert _instant_of("a.nc", times, "2001-01-01T07:00+01:00", {}) == times[1]


def test_a_leap_year_is_as_long_as_any_other():
    times = np.array(["2003-12-31T12", "2004-12-31T12", "2004-07-02"], "datetime64[ns]")
    np.testing.assert_allclose(year_fraction(times), [364.5 / 365, 365.5 / 366, 183 / 366])


def test_years_of_360_days_each_begin_on_1_january():
    times = [cftime.Datetime360Day(2001, 12, 30), cftime.Datetime360Day(2002, 1, 1), cftime.Datetime360Day(2003, 3, 1)]
    found = instants_of(Path("a.nc"), xr.DataArray(times, dims="time", name="time"))
    assert found.astype("datetime64[D]").astype(str).tolist() == ["2001-12-26", "2002-01-01", "2003-03-02"]


def test_what_is_left_out_or_split_may_be_one_day_or_the_rest_of_one():
    days = {name: [f"2001-01-0{i}"] * 2 for i, name in enumerate(("train", "validation", "test"), 1)}
    given = {"inputs": ["a.nc"], "prognostic": {"temperature": {}}, "split": days}
    assert DataConfig.model_validate({**given, "exclude": [["2001-01-03T12", "2001-01-03"]]}).split.test == days["test"]
    backwards = {"split": {**days, "test": ["2001-01-04", "2001-01-03"]}}
    for wrong in ({"exclude": [["2001-01-03T12", "2001-01-03T06"]]}, backwards):
        with pytest.raises(ValueError, match=r"2001-01-0\S+ is after 2001-01-03"):
            DataConfig.model_validate(given | wrong)
