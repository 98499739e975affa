"""Where a time stands in its day and year: the one calendar arithmetic that forcings and climatologies share.

Times are ``datetime64`` in UTC on the proleptic Gregorian calendar. What takes ``times`` is vectorised over them.
"""

from __future__ import annotations

import numpy as np

from data_prep.iso_time import is_day, parse_iso

DAY_SECONDS = 86400.0

CALENDAR_DAYS = 366
"""Days of a table by day of year."""


def text(time: np.datetime64) -> str:
    """A time for messages: ``2013-01-01T06:00``."""
    return str(np.datetime_as_string(time, unit="m"))


def hours(span: np.timedelta64) -> float:
    """A time span in hours."""
    return float(span / np.timedelta64(1, "h"))


def parse_instant(text: str) -> np.datetime64:
    """The instant of an ISO 8601 text in UTC, ``datetime64[ns]``; raises as ``parse_iso``."""
    return np.datetime64(parse_iso(text), "ns")


def parse_last(text: str) -> np.datetime64:
    """The last instant of what is meant: of a day its last nanosecond, else as ``parse_instant``, which raises."""
    instant = parse_instant(text)
    return instant + np.timedelta64(1, "D") - np.timedelta64(1, "ns") if is_day(text) else instant


def day_of_year(times: np.ndarray) -> np.ndarray:
    """Day of the year on the actual calendar, 1 to 366, int64; 1 March is 60 or 61."""
    days = times.astype("datetime64[D]")
    return (days - times.astype("datetime64[Y]").astype("datetime64[D]")).astype(np.int64) + 1


def seconds_of_day(times: np.ndarray) -> np.ndarray:
    """Seconds since midnight UTC, float64."""
    return _seconds(times - times.astype("datetime64[D]"))


def sample(times: np.ndarray, most: int) -> np.ndarray:
    """Which of these times, at most so many, may stand for all; int64, ascending.

    Each of as many equal parts of the record gives one, by chance (the same every time) among those at the hours of the
    day that were taken least before. Even steps could be whole days, and see one hour alone, or beat with the year.
    """
    count = times.size
    if count <= most:
        return np.arange(count)
    hour = np.unique(seconds_of_day(times), return_inverse=True)[1]
    taken, chance = np.zeros(hour.max() + 1, np.int64), np.random.default_rng(0)
    chosen = np.empty(most, np.int64)
    for i in range(most):
        part = np.arange(i * count // most, (i + 1) * count // most)
        before = taken[hour[part]]
        chosen[i] = chance.choice(part[before == before.min()])
        taken[hour[chosen[i]]] += 1
    return chosen


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
