"""Where a time stands in its day and year: the one calendar arithmetic that forcings and climatologies share.

Times are ``datetime64`` in UTC on the proleptic Gregorian calendar. What takes ``times`` is vectorised over them.
"""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np

DAY_SECONDS = 86400.0

CALENDAR_DAYS = 366
"""Days of a table by day of year."""

_YEARS = range(1678, 2262)  # that nanoseconds since 1970 reach whole


def text(time: np.datetime64) -> str:
    """A time for messages: ``2013-01-01T06:00``."""
    return str(np.datetime_as_string(time, unit="m"))


def parse_instant(text: str) -> np.datetime64:
    """The instant of an ISO 8601 text in UTC, ``datetime64[ns]``; of a day its first, and a time zone is taken off.

    Raises:
      ValueError: it is none, or outside the years 1678 to 2261; the message says what is expected.
    """
    try:
        instant = datetime.fromisoformat(text)
        if instant.tzinfo is not None:
            instant = instant.astimezone(UTC).replace(tzinfo=None)
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is no time; write it like 2001-01-31 or 2001-01-31T06:00") from None
    if instant.year not in _YEARS:
        raise ValueError(f"{text!r} lies outside the years {_YEARS[0]} to {_YEARS[-1]}")
    return np.datetime64(instant, "ns")


def parse_last(text: str) -> np.datetime64:
    """The last instant of what is meant: of a day its last nanosecond, else as ``parse_instant``, which raises."""
    instant, whole_day = parse_instant(text), len(text) <= len("2001-01-31")
    return instant + np.timedelta64(1, "D") - np.timedelta64(1, "ns") if whole_day else instant


def day_of_year(times: np.ndarray) -> np.ndarray:
    """Day of the year on the actual calendar, 1 to 366, int64; 1 March is 60 or 61."""
    days = times.astype("datetime64[D]")
    return (days - times.astype("datetime64[Y]").astype("datetime64[D]")).astype(np.int64) + 1


def seconds_of_day(times: np.ndarray) -> np.ndarray:
    """Seconds since midnight UTC, float64."""
    return _seconds(times - times.astype("datetime64[D]"))


def year_fraction(times: np.ndarray) -> np.ndarray:
    """Elapsed share of the calendar year, in [0, 1), float64; leap years are as long as others."""
    years = times.astype("datetime64[Y]")
    start, end = years.astype("datetime64[D]"), (years + np.timedelta64(1, "Y")).astype("datetime64[D]")
    return _seconds(times - start) / _seconds(end - start)


def days_since_j2000(times: np.ndarray) -> np.ndarray:
    """Days since 2000-01-01 12:00 UTC, float64: the time variable of the Astronomical Almanac."""
    return _seconds(times - np.datetime64("2000-01-01T12:00:00", "ns")) / DAY_SECONDS


def _seconds(span: np.ndarray) -> np.ndarray:
    return np.asarray(span / np.timedelta64(1, "s"), dtype=np.float64)
