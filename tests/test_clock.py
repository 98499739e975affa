"""What people write for a time: ISO 8601 with and without a zone, in every place of a config and of a command."""

import re
from types import SimpleNamespace

import numpy as np
import pytest

from data_prep.clock import parse_instant, parse_last
from data_prep.config import SplitConfig
from data_prep.preparation.splits import split_segments
from data_prep.reading.initial import _instant_of

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
