"""When the forecasts of another program begin and how far they reach."""

from __future__ import annotations

import logging
from typing import NamedTuple

import numpy as np
import xarray as xr

from data_prep import clock
from data_prep.errors import DataError
from data_prep.reading.instants import instants_of
from data_prep.reading.locations import Location
from data_prep.reading.units import convertible

logger = logging.getLogger(__name__)


class Wanted(NamedTuple):
    """How a coordinate is found: by the names in use, by CF's standard name, and by a name that may mean another."""

    names: tuple[str, ...]
    standard_name: str
    last_resort: tuple[str, ...] = ()


_INIT = Wanted(
    ("init_time", "forecast_reference_time", "reference_time", "initialization_time", "initial_time"),
    "forecast_reference_time",
    ("time",),
)
_LEAD = Wanted(
    ("lead_time", "prediction_timedelta", "step", "forecast_period", "leadtime", "lead", "forecast_hour"),
    "forecast_period",
)
MEMBER = Wanted(("realization", "number", "member", "ensemble_member", "ensemble", "sample"), "realization")

_VALID = Wanted(("valid_time",), "time", ("time",))

_LARGEST_HOUR = 1e9  # a lead without a unit that is larger counts nanoseconds, as NumPy does


def find_coordinate(raw: xr.Dataset, wanted: Wanted) -> str | None:
    """The dimension or coordinate that is wanted."""
    by_attribute = [str(c) for c, v in raw.coords.items() if v.attrs.get("standard_name") == wanted.standard_name]
    named = (n for n in (*wanted.names, *by_attribute, *wanted.last_resort) if n in raw.dims or n in raw.coords)
    return next(named, None)


def _coordinate(path: Location, raw: xr.Dataset, wanted: Wanted) -> xr.DataArray:
    found = find_coordinate(raw, wanted)
    what = wanted.standard_name.replace("_", " ")
    if found is None:
        there = ", ".join(map(str, raw.coords))
        derived = ", or give the initial time the name forecast_reference_time and valid times the standard_name time"
        raise DataError(
            f"{path}: no {what} found among its coordinates {there}; name it {wanted.names[0]}"
            f"{derived if wanted is _LEAD else ''}"
        )
    if found not in raw.coords or raw[found].ndim > 1:
        raise DataError(f"{path}: {found} has no one-dimensional values, by which the {what} of a forecast is known")
    return raw[found]


class _Times(NamedTuple):
    """Initial times and leads, and along which of the file's dimensions they run; a scalar along none."""

    init_times: np.ndarray
    lead_times: np.ndarray
    dims: dict[str, str]


def times_of_forecasts(path: Location, raw: xr.Dataset) -> _Times:
    """When forecasts begin and how far they reach.

    Where ``time`` is the valid time, the lead is taken off it. Where there is no lead, it is the valid time less the
    initial one.

    Raises:
      DataError: there is no initial time or lead, both run along one dimension, or valid times contradict them.
    """
    raw = _with_times_as_coordinates(raw)
    init = _coordinate(path, raw, _INIT)
    valid = raw[name] if (name := _valid_time_beside(raw, init)) is not None else None
    if valid is not None and find_coordinate(raw, _LEAD) not in raw.coords:
        lead = _lead_of(path, init, valid)
    else:
        lead = _coordinate(path, raw, _LEAD)
    starts, spans = instants_of(path, init), _spans(path, lead)
    if (lead.size == 1 or lead.dims == init.dims) and _may_be_valid_time(raw, init):
        if init.attrs.get("standard_name") == "time":
            starts = starts - spans
        elif "standard_name" not in init.attrs and spans.any():
            logger.warning(
                "%s: %s is taken for the initial time; if it is the valid time, give it the standard_name time",
                path,
                init.name,
            )
    begin, ahead = xr.Variable(init.dims, starts.reshape(init.shape)), xr.Variable(lead.dims, spans.reshape(lead.shape))
    _check_valid_times(path, raw, init, lead, begin + ahead)
    dims = {name: str(c.dims[0]) for name, c in (("init_time", init), ("lead_time", lead)) if c.ndim}
    if init.ndim and init.dims == lead.dims:
        if (starts == starts[0]).all():  # one forecast, or below one lead, along its valid time
            starts, dims = starts[:1], {"lead_time": dims["lead_time"]}
        elif (spans == spans[0]).all():
            spans, dims = spans[:1], {"init_time": dims["init_time"]}
        else:
            remedy = "give each a dimension of its own (xarray: set_index, then unstack)"
            if init.name in _INIT.last_resort and init.attrs.get("standard_name") != "time":
                remedy = f"if {init.name} is the valid time, give it the standard_name time, else {remedy}"
            raise DataError(
                f"{path}: initial times ({init.name}) and leads ({lead.name}) both vary along {init.dims[0]}; {remedy}"
            )
    return _Times(_unique(path, starts, str(init.name)), _unique(path, spans, str(lead.name)), dims)


def _with_times_as_coordinates(raw: xr.Dataset) -> xr.Dataset:
    """With initial times, leads and valid times as coordinates where no field names them as its own, as CF would."""

    def is_time(name: str, variable: xr.DataArray) -> bool:
        said = variable.attrs.get("standard_name")
        return variable.ndim < 2 and any(name in w.names or said == w.standard_name for w in (_INIT, _LEAD, _VALID))

    return raw.set_coords([name for name, variable in raw.data_vars.items() if is_time(str(name), variable)])


def _valid_time_beside(raw: xr.Dataset, init: xr.DataArray) -> str | None:
    """The coordinate of valid times, where there is one beside the initial time."""
    others = raw.drop_vars(str(init.name))
    found = find_coordinate(others, _VALID)
    return found if found is not None and found in others.coords else None


def _lead_of(path: Location, init: xr.DataArray, valid: xr.DataArray) -> xr.DataArray:
    """The lead along the dimension of valid times that is not the initial times', as these two tell it.

    Raises:
      DataError: forecasts from different initial times have different leads.
    """
    ahead = _instants(path, valid) - _instants(path, init)
    first = ahead.isel({d: 0 for d in init.dims if valid.dims != init.dims})
    if first.ndim > 1 or bool((ahead != first).any()):
        raise DataError(
            f"{path}: {valid.name} less {init.name} is no lead that all forecasts share; give leads a dimension of "
            "their own, lead_time, or each initial time a file of its own"
        )
    return xr.DataArray(first, name=str(valid.name))


def _instants(path: Location, times: xr.DataArray) -> xr.Variable:
    """Times of any shape as ``datetime64[ns]``."""
    flat = xr.DataArray(xr.Variable("all", times.values.ravel(), times.attrs, times.encoding), name=times.name)
    return xr.Variable(times.dims, instants_of(path, flat).reshape(times.shape))


def _may_be_valid_time(raw: xr.Dataset, init: xr.DataArray) -> bool:
    """Whether a last resort for the initial time is the valid time if CF's standard name says so, and nothing else is.

    ECMWF's reader gives that standard name to the initial time, beside a valid time; where that was left out, its long
    name tells.
    """
    is_initial = "initial" in str(init.attrs.get("long_name", ""))
    return init.name in _INIT.last_resort and not is_initial and "valid_time" not in raw.variables


def _check_valid_times(
    path: Location, raw: xr.Dataset, init: xr.DataArray, lead: xr.DataArray, expected: xr.Variable
) -> None:
    """Holds whatever gives valid times to initial time and lead, ``expected`` over the dimensions of both.

    Raises:
      DataError: one is another time; the first is named.
    """
    for name in raw.variables:
        valid = raw[name]
        is_called = name == "valid_time" or valid.attrs.get("standard_name") == "time"
        if not is_called or name in (init.name, lead.name) or valid.dtype.kind != "M":
            continue
        if not set(valid.dims) <= set(expected.dims):
            continue
        apart = _instants(path, valid) - expected
        if (wrong := np.argwhere(apart.values != np.timedelta64(0, "ns"))).size:
            at = dict(zip(apart.dims, wrong[0].tolist(), strict=True))
            meant = expected.isel({d: at[d] for d in expected.dims}).values.flat[0]
            raise DataError(
                f"{path}: {name} is {clock.text(meant + apart.values[tuple(wrong[0])])} where {init.name} and "
                f"{lead.name} make {clock.text(meant)}; mend the one that is wrong, or drop {name}"
            )


def _spans(path: Location, coordinate: xr.DataArray) -> np.ndarray:
    """Leads as ``timedelta64[ns]``, from time spans, numbers with a unit, or bare hours or nanoseconds."""
    values = np.atleast_1d(coordinate.values)
    if values.size == 0 or bool(coordinate.isnull().any()):
        raise DataError(f"{path}: {coordinate.name} is empty or lacks values")
    if values.dtype.kind == "m":
        return values.astype("timedelta64[ns]")
    units = coordinate.attrs.get("units")
    if values.dtype.kind not in "iuf":
        raise DataError(f"{path}: {coordinate.name} holds {values.dtype}, no time spans")
    if units is None:
        units = "hours" if np.abs(values).max() < _LARGEST_HOUR else "nanoseconds"
    unit = convertible(str(units), "s")
    if unit is None:
        raise DataError(f"{path}: {coordinate.name} is in {units!r}, which is no unit of time")
    seconds = np.rint(values.astype(np.float64) * unit.factor)  # whole ones, which float32 hours are not to the ns
    return seconds.astype("timedelta64[s]").astype("timedelta64[ns]")


def _unique(path: Location, values: np.ndarray, name: str) -> np.ndarray:
    if np.unique(values).size != values.size:
        raise DataError(f"{path}: values of {name} occur twice; keep one of them")
    return values
