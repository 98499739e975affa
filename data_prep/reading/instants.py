"""The instants of a file's time axis, whatever its units, precision and calendar, as ``datetime64[ns]`` in UTC.

Calendars of climate models have no counterpart for every real day. Dates of ``noleap`` keep their label, so each 29
February is a gap. Years of ``360_day`` are laid on real years from 1 January on, so steps inside a year keep their
length and each year ends with a gap; the season is off by at most five days in December. Gaps begin new segments.
"""

from __future__ import annotations

import cftime
import numpy as np
import xarray as xr

from data_prep.errors import DataError
from data_prep.reading.locations import Location
from data_prep.reading.units import convertible

# Seconds between times of common records: a time stored too coarsely belongs to the roundest of these that it can be.
_ROUND_SECONDS = (86400, 43200, 21600, 10800, 3600, 1800, 900, 600, 300, 60, 1)
_FIRST_YEAR, _LAST_YEAR = 1678, 2261  # what datetime64[ns] holds
_REAL = ("standard", "gregorian", "proleptic_gregorian")
_BY_LABEL = ("noleap", "365_day", *_REAL)


def instants_of(path: Location, coordinate: xr.DataArray) -> np.ndarray:
    """Decoded values of a time coordinate.

    Args:
      path: For messages.
      coordinate: Scalar or ``(time,)``, as xarray decoded it, with its encoding.

    Returns:
      ``datetime64[ns]`` ``(time,)``, in the file's order.

    Raises:
      DataError: values that are no instants, or that the real calendar cannot hold.
    """
    name = coordinate.name
    values = np.atleast_1d(coordinate.values)
    if values.size == 0:
        raise DataError(f"{path}: the {name} axis is empty")
    if values.dtype == object:
        times = _from_cftime(path, str(name), values)
    elif values.dtype.kind == "M":
        if np.isnat(values).any():
            raise DataError(f"{path}: {name} has missing values; drop them from the file")
        _check_years(path, str(name), values.astype("datetime64[Y]").astype(np.int64) + 1970)
        times = values.astype("datetime64[ns]")
    else:
        units = coordinate.attrs.get("units")
        has = "no CF units" if units is None else f"the units {units!r}, no CF ones"
        are, remedy = f"{values.dtype} numbers", ""
        if values.dtype.kind == "U":
            are = f"text such as {values[0]!s:.30}"
        elif "%Y" in str(units):
            remedy = "; cdo -r copy IN OUT makes such"
        elif units is None:
            remedy = f"; say what they count: ncatted -a units,{name},c,c,'hours since 1900-01-01' FILE"
        raise DataError(f"{path}: {name} has {has} such as 'hours since 1900-01-01'; its values are {are}{remedy}")
    return _rounded(times, _resolution_seconds(coordinate))


def calendar_of(coordinate: xr.DataArray) -> str:
    """The calendar of a time coordinate where that is not the real one, as xarray decoded it; else empty."""
    first = coordinate.values.flat[0] if coordinate.size else None
    calendar = getattr(first, "calendar", "")
    return "" if calendar in _REAL else calendar


def exact(variable: xr.Variable) -> xr.Variable:
    """A decoded variable with its instants as they were before single precision rounded them; others as they are."""
    values = variable.values if variable.dtype.kind == "M" else np.empty(0, "datetime64[ns]")
    years = values.astype("datetime64[Y]").astype(np.int64) + 1970
    if not values.size or np.isnat(values).any() or years.min() < _FIRST_YEAR or years.max() > _LAST_YEAR:
        return variable
    times = _rounded(values.astype("datetime64[ns]"), _resolution_seconds(variable))
    return xr.Variable(variable.dims, times, variable.attrs)


def _from_cftime(path: Location, name: str, values: np.ndarray) -> np.ndarray:
    calendar = getattr(values.flat[0], "calendar", "unknown")
    if calendar not in (*_BY_LABEL, "360_day"):
        raise DataError(
            f"{path}: {name} is on the calendar {calendar!r}; known are the real one, noleap and 360_day: "
            "convert it (xarray: convert_calendar)"
        )
    _check_years(path, name, np.array([t.year for t in values]))
    if calendar == "360_day":
        years = np.array([f"{t.year:04d}" for t in values], "datetime64[ns]")
        into_year = [t - cftime.datetime(t.year, 1, 1, calendar=calendar) for t in values]
        return years + np.array(into_year, "timedelta64[us]")
    return np.array([t.isoformat() for t in values], "datetime64[ns]")


def _check_years(path: Location, name: str, years: np.ndarray) -> None:
    if years.min() < _FIRST_YEAR or years.max() > _LAST_YEAR:
        raise DataError(
            f"{path}: {name} runs from the year {years.min()} to {years.max()}, "
            f"outside {_FIRST_YEAR} to {_LAST_YEAR}; shift its reference date"
        )


def _resolution_seconds(coordinate: xr.DataArray | xr.Variable) -> float:
    """How far a stored number may lie from the time that was meant: the spacing of floats of its size."""
    encoding = coordinate.encoding
    dtype, units = np.dtype(encoding.get("dtype", "int64")), str(encoding.get("units", ""))
    word = convertible(units.split(" since ")[0].strip(), "s") if " since " in units else None
    if dtype.kind != "f" or word is None:
        return 0.0
    calendar = encoding.get("calendar", "standard")
    last = coordinate.values.flat[-1]
    moment = last if isinstance(last, cftime.datetime) else last.astype("datetime64[us]").item()
    number = abs(cftime.date2num(moment, units, calendar=calendar))
    # The rounding of the conversion itself is of the order of a microsecond where the reference date is long ago.
    return max(float(np.spacing(dtype.type(number))) * word.factor, 1e-4)


def _rounded(times: np.ndarray, resolution_seconds: float) -> np.ndarray:
    """Times on the roundest interval that all of them are within the resolution of; unchanged if there is none."""
    if resolution_seconds == 0.0:
        return times
    nanoseconds = times.astype(np.int64)
    for interval in _ROUND_SECONDS:
        if interval < 4 * resolution_seconds:
            break
        unit = interval * 1_000_000_000
        nearest = (nanoseconds + unit // 2) // unit * unit
        if np.abs(nanoseconds - nearest).max() <= resolution_seconds * 1e9:
            return nearest.astype("datetime64[ns]")
    return times
