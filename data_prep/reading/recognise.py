"""Which axis of a file is which, and which of its variables is which: by names that are in use and by CF attributes.

Names come first, because files that carry wrong attributes outnumber those that carry wrong names; what no name gives
away, cf-xarray finds by ``standard_name``, ``units``, ``axis`` and ``positive``. What cannot be a regular
latitude-longitude grid with instants is refused here, with the reason and the remedy.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import cf_xarray  # noqa: F401  (registers the accessor ``Dataset.cf``)
import cftime
import numpy as np
import xarray as xr

from data_prep.errors import DataError
from data_prep.reading.locations import Location
from data_prep.reading.units import can_become, convertible
from data_prep.variables import KNOWN, PRECIPITATION, Facts, is_accumulation, known

Kind = Literal["pressure", "sigma", "height", "other"]

# Names in use, matched whole and regardless of case: ECMWF and CF, COARDS, NCL (g0_lat_2, lv_ISBL1), THREDDS, GrADS.
_LATITUDE = re.compile(r"latitude|lat|nav_lat|xlat|g\d+_lat_\d+|lat_\d+|y", re.I)
_LONGITUDE = re.compile(r"longitude|lon|long|nav_lon|xlong|g\d+_lon_\d+|lon_\d+|x", re.I)
_TIME = re.compile(r"time\d*|valid_time|initial_time\d+_hours|forecast_time\d+", re.I)
_LEAD = re.compile(r"step|lead_time|leadtime|prediction_timedelta|forecast_(time|hour|period)\d*|lead", re.I)
_DAY_OF_YEAR = re.compile(r"dayofyear|day_of_year", re.I)
_LEVEL = re.compile(
    r"level(_\d+)?|plev\d*|isobaric\w*|pressure_level|pressure|air_pressure|lev(el)?s?|sigma|lv_ISBL\d+|lv_HTGL\d+"
    r"|height\w*|depth\w*|hybrid|model_level\w*|alt(itude)?|lv_\w+",
    re.I,
)
_ENSEMBLE = re.compile(r"number|member\w*|realization|ensemble\w*|ens|realisation", re.I)
_MONTHS = re.compile(r"months?|season|month_of_year|year|years", re.I)
_HEIGHT = re.compile(r"height\w*|lv_HTGL\d+", re.I)
_HIGHEST_HEIGHT = 100.0  # m, of fields such as wind near the ground
_NCL_SUFFIX = re.compile(r"_(GDS\d+|P\d+_L\d+)(_\w+)?$")
_PROJECTED = ("projection_x_coordinate", "projection_y_coordinate", "grid_latitude", "grid_longitude")
_INTERPOLATE = "interpolate the file to a regular latitude-longitude grid before"
_SPEED = re.compile(r"\b(speed|magnitude)\b", re.I)
_COMPONENT = re.compile(r"component|zonal|meridional|\b[uv]\b|east|north", re.I)
_ROTATED = re.compile(r"r(lat|lon)|south_north|west_east", re.I)


@dataclass(frozen=True)
class Axes:
    """Names of a file's axes.

    Attributes:
      latitude, longitude: Dimensions with one-dimensional coordinates.
      time: Dimension over instants, ``None`` where there is none.
      instants: Coordinate that holds the instants: along ``time``, or scalar; ``None`` where there is none.
      dayofyear: Dimension of a yearly table.
      expver: Dimension by which the Climate Data Store kept final and preliminary ERA5 apart.
    """

    latitude: str
    longitude: str
    time: str | None
    instants: str | None
    dayofyear: str | None
    expver: str | None


def find_axes(path: Location, data: xr.Dataset) -> Axes:
    """Recognises the axes of some variables of a file.

    Args:
      path: For messages.
      data: The variables of interest with their coordinates.

    Raises:
      DataError: projected, curvilinear or unstructured grids, more than one axis of a kind, or none.
    """
    latitude = _horizontal(path, data, "latitude", _LATITUDE)
    longitude = _horizontal(path, data, "longitude", _LONGITUDE)
    time = _time_dimension(path, data)
    dayofyear = next((str(d) for d in data.dims if _DAY_OF_YEAR.fullmatch(str(d))), None)
    expver = next((str(d) for d in data.dims if str(d) == "expver" and data.sizes[d] > 1), None)
    return Axes(latitude, longitude, time, _instants(data, time), dayofyear, expver)


def on_own_axes(data: xr.Dataset) -> xr.Dataset:
    """The file with latitudes and longitudes for axes where they lie beside ones that count or project: ``lat(y)``."""
    beside: dict[str, str] = {}
    for names in (_LATITUDE, _LONGITUDE):
        for name, values in data.variables.items():
            if names.fullmatch(str(name)) and values.ndim == 1 and name not in data.dims:
                dim = str(values.dims[0])
                if dim in beside or (names.fullmatch(dim) and len(dim) > 1):
                    return data  # a list of places, or an axis of its own
                beside[dim] = str(name)
    return data.set_coords(list(beside.values())).swap_dims(beside) if len(beside) == 2 else data


def without_single_leads(data: xr.Dataset) -> xr.Dataset:
    """The file without dimensions of one lead or one member; their coordinates stay, so that valid times have one axis.

    Of one initial time with many leads the dimension of the initial time goes.
    """
    single = [d for d in data.dims if data.sizes[d] == 1 and (is_lead(str(d)) or _ENSEMBLE.fullmatch(str(d)))]
    out = data.squeeze(single)
    valid = out.coords.get("valid_time")
    if valid is not None and valid.ndim == 2:
        out = out.squeeze([d for d in valid.dims if valid.sizes[d] == 1])
    return out


def refuse_initial_times(path: Location, data: xr.Dataset, axes: Axes) -> None:
    """Refuses a single lead beside times that may be initial ones.

    Raises:
      DataError: says what to add to what.
    """
    if axes.instants in (None, "valid_time") or data[axes.instants].attrs.get("standard_name") == "time":
        return
    for name, lead in data.coords.items():
        if is_lead(str(name)) and lead.ndim == 0 and lead.dtype.kind in "iufm" and lead.astype(np.float64) != 0:
            raise DataError(
                f"{path}: holds a lead, {name}, and no valid_time, so {axes.instants} may be the initial time; "
                f"add {name} to {axes.instants} where it is, and drop {name}"
            )


SIGNATURE = {"forecaster", "emulator_version"}
"""Global attributes of all forecasts that this program makes."""


def is_own_forecast(data: xr.Dataset) -> bool:
    """Whether a file is a forecast of this program along its valid time, which looks like analyses but for that."""
    lead = data.coords.get("lead_time")
    return lead is not None and lead.dims == ("time",) and data.attrs.keys() >= SIGNATURE


def is_lead(name: str) -> bool:
    """Whether a variable of this name is a lead."""
    return bool(_LEAD.fullmatch(name)) and not _TIME.fullmatch(name)


def refuse_other_dimensions(path: Location, data: xr.Dataset, axes: Axes) -> None:
    """Refuses variables over anything but time, level, latitude and longitude, and those without the latter two.

    Raises:
      DataError: says what the dimension is taken for and what to do with it.
    """
    own = {axes.latitude, axes.longitude, axes.time, axes.dayofyear, axes.expver}
    for name, variable in data.data_vars.items():
        if not {axes.latitude, axes.longitude} <= set(variable.dims):
            raise DataError(
                f"{path}: {name} is no field over latitude and longitude: it runs over "
                f"{', '.join(map(str, variable.dims)) or 'nothing'}; leave it out of the config"
            )
        vertical = level_coordinate(variable)
        for dim in (str(d) for d in variable.dims if d not in own and d != vertical and variable.sizes[d] > 1):
            n = variable.sizes[dim]
            if _ENSEMBLE.fullmatch(dim):
                what = f"the ensemble dimension {dim} of {n}; choose one member or average them before"
            elif _MONTHS.fullmatch(dim) and axes.instants is None:
                what = (
                    f"the dimension {dim}, and no time axis was found: {dim}s are no instants; "
                    "give it fields at instants, such as every six hours"
                )
            elif _LEAD.fullmatch(dim):
                what = f"the lead-time dimension {dim} beside {axes.time}; {_which_lead(data, str(axes.time), dim)}"
            else:
                hint = "" if axes.instants else ", and no time axis was found"
                what = (
                    f"the dimension {dim} beside time, level, latitude and longitude{hint}; "
                    "select one of its values before"
                )
            raise DataError(f"{path}: {name} has {what}")


def _which_lead(data: xr.Dataset, time: str, lead: str) -> str:
    """What is to be done with leads: what forecasts that follow each other have summed, such as ERA5's tp, is whole."""
    valid = data.coords.get("valid_time")
    if valid is None or set(valid.dims) != {time, lead} or np.unique(valid).size < valid.size:
        return "choose one initial time or one lead before"
    return (
        f"its valid times all differ, so make them one axis before (xarray: "
        f"data.stack(both=('{time}', '{lead}')).drop_vars(['both', '{time}', '{lead}']).swap_dims(both='valid_time'))"
    )


def level_coordinate(variable: xr.DataArray) -> str | None:
    """The vertical dimension of a variable: the one with a vertical name or CF attributes, the longest of several."""
    found = [d for d in map(str, variable.dims) if _LEVEL.fullmatch(d)]
    if not found:
        vertical = [*_cf(variable, "coordinates", "vertical"), *_cf(variable, "axes", "Z")]
        found = [d for d in map(str, variable.dims) if d in vertical]
    return max(found, key=lambda d: variable.sizes[d]) if found else None


def scalar_pressure(variable: xr.DataArray) -> str | None:
    """The scalar coordinate that says on which pressure surface a variable lies, if there is one."""
    scalars = (str(c) for c, v in variable.coords.items() if v.ndim == 0 and _LEVEL.fullmatch(str(c)))
    return next((c for c in scalars if vertical_kind(variable[c])[0] == "pressure"), None)


def single_level_pressure(variable: xr.DataArray) -> float | None:
    """The pressure of a field on one level, hPa; ``None`` where it has none, or what may be a height without a unit."""
    name = level_coordinate(variable) or scalar_pressure(variable)
    if name is None or name not in variable.coords:
        return None
    kind, values = vertical_kind(variable[name])
    has_unit = str(variable[name].attrs.get("units", "")) not in ("", "1")
    if kind != "pressure" or not (has_unit or values.max() > _HIGHEST_HEIGHT):
        return None
    return float(np.round(values.max(), 6))


def vertical_kind(coordinate: xr.DataArray) -> tuple[Kind, np.ndarray]:
    """What a vertical coordinate measures, and its values: hPa for pressure, 1 for sigma, m for height.

    Names of hybrid levels outweigh the unit: CESM gives theirs the hPa that they would have over a standard surface.
    Where the unit is missing, values tell: to 1 they are sigma, beyond 1100 pascals, between hPa, and numbers that are
    counted one by one are those of model levels. What holds text or nothing is another kind, and NaN.
    """
    values = _numbers(coordinate)
    if values is None or values.size == 0:
        return "other", np.full(coordinate.size, np.nan)
    units = str(coordinate.attrs.get("units", "")).strip()
    named = f"{coordinate.name} {coordinate.attrs.get('standard_name', '')} {coordinate.attrs.get('long_name', '')}"
    if re.search("hybrid", named, re.I):
        return "other", values
    hectopascal = convertible(units, "hPa") if units not in ("", "1") else None
    if hectopascal is not None:
        return "pressure", values * hectopascal.factor
    if units not in ("", "1") and (metre := convertible(units, "m")) is not None:
        return "height", values * metre.factor
    if re.search(r"model.?level|soil|depth", named, re.I) or _HEIGHT.fullmatch(str(coordinate.name)):
        return "other", values
    if units in ("", "1", "sigma", "sigma_level", "level", "dimensionless"):
        if values.max() <= 1.0 + 1e-6:
            return "sigma", values
        counted = values.size > 2 and (np.diff(np.sort(values)) == 1.0).all()
        if not counted and "level" not in units:
            return "pressure", values / 100.0 if values.max() > 1100 else values
    return "other", values


def _numbers(coordinate: xr.DataArray) -> np.ndarray | None:
    """Values of a coordinate, float64 with one dimension at least; ``None`` where it holds text that is no number."""
    try:
        return np.atleast_1d(np.asarray(coordinate.values, dtype=np.float64))
    except (TypeError, ValueError):
        return None


def _refuse_text_levels(path: Location, data: xr.Dataset) -> None:
    text = [str(d) for d in data.dims if d in data.coords and _numbers(data[d]) is None]
    for dim in text:
        on_it = [str(name) for name, v in data.data_vars.items() if dim in v.dims and level_coordinate(v) == dim]
        if on_it:
            raise DataError(
                f"{path}: {dim}, the level axis of {on_it[0]}, holds text such as {str(data[dim].values[0])!r}; "
                "give it numbers, and their unit as an attribute"
            )


_MEANINGS = KNOWN | {"total_precipitation": PRECIPITATION}


def canonical_name(variable: xr.DataArray) -> str | None:
    """The program's name for a variable of a file, ``None`` where it has none.

    A known name decides; where there is none, the CF standard name does. Variables on levels and at heights are told
    apart: ``air_temperature`` on pressure levels is ``temperature``, at 2 m ``2m_temperature``. An extreme of a day is
    another quantity than the field itself, and has none.
    """
    name = str(variable.name)
    if known(name) is not None:
        return name
    if over_interval(variable) in ("maximum", "minimum"):
        return None
    bare = _NCL_SUFFIX.sub("", name).lower()
    spelled = [c for c, facts in _MEANINGS.items() if bare in facts.spellings and _fits(variable, facts, bare)]
    if spelled:
        return spelled[0]
    standard_name = str(variable.attrs.get("standard_name", ""))
    if not standard_name:
        return None
    meant = [
        c
        for c, facts in _MEANINGS.items()
        if standard_name in (facts.standard_name, *facts.standard_names) and _fits(variable, facts, bare, strict=True)
    ]
    return meant[0] if len(meant) == 1 else None


def over_interval(variable: xr.DataArray) -> str:
    """``sum``, ``mean``, ``maximum``, ``minimum`` or ``point``, which the file says that values are over time.

    Empty where it says nothing. ecCodes calls monthly means of analyses ``avgua``, ``avgad`` and the like.
    """
    of_grib = {"accum": "sum", "avg": "mean", "max": "maximum", "min": "minimum", "instant": "point"}
    step_type = str(variable.attrs.get("GRIB_stepType", ""))
    methods = str(variable.attrs.get("cell_methods", ""))
    found = re.search(r"\b\w*time\w*: (sum|mean|maximum|minimum|point)\b", methods)
    return of_grib.get("avg" if step_type.startswith("avg") else step_type, "") or (found[1] if found else "")


def find_variables(path: Location, data: xr.Dataset, asked: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Names in the file of the asked variables.

    Args:
      path: For messages.
      data: The whole file.
      asked: Canonical name to the names it may have. Where the canonical name is among them, any spelling that
        ``canonical_name`` understands will do; an explicit name alone is taken literally.

    Returns:
      Canonical name to name in the file; what the file lacks is left out.

    Raises:
      DataError: two variables may be meant, or a level axis holds text.
    """
    names = tuple(map(str, data.data_vars))
    found: dict[str, str] = {}
    _refuse_text_levels(path, data)
    meanings = {name: canonical_name(data[name]) for name in names if data[name].ndim >= 2}
    for canonical, candidates in asked.items():
        literal = next((n for n in candidates if n in names), None)
        if literal is not None:
            found[canonical] = literal
        elif canonical in candidates:
            stem = "total_precipitation" if is_accumulation(canonical) else canonical
            hits = [n for n, meaning in meanings.items() if meaning == stem]
            if len(hits) > 1:
                raise DataError(
                    f"{path}: {' and '.join(hits)} may all be {canonical}; say which by 'source', "
                    f"e.g. {canonical}: {{source: {hits[0]}}}"
                )
            if hits:
                found[canonical] = hits[0]
    return found


def _fits(variable: xr.DataArray, facts: Facts, spelling: str, *, strict: bool = False) -> bool:
    """Whether a variable lies where the facts say: on levels, at the height, at the surface.

    ``strict`` asks for the height even where a spelling such as ``t2m`` would say it. A standard name and a unit that
    both speak against it outweigh a name: ``w`` in m s-1 is ``upward_air_velocity``. So does a standard name by itself
    of shares (CMIP's ``ci`` is no ice) and of potential temperatures, and what is called the speed of a wind (CAM's
    ``U10``).
    """
    stated, units, told = (str(variable.attrs.get(key, "")) for key in ("standard_name", "units", "long_name"))
    other = stated not in ("", "unknown", facts.standard_name, *facts.standard_names)
    by_itself = (facts.units == "1" and len(spelling) < 3) or "potential_temperature" in stated
    if other and (by_itself or (units and not can_become(units, facts.units))):
        return False
    if facts.standard_name.endswith("ward_wind") and _SPEED.search(told) and not _COMPONENT.search(told):
        return False
    dim = level_coordinate(variable)
    kind = vertical_kind(variable[dim])[0] if dim is not None and dim in variable.coords else None
    on_levels = kind in ("pressure", "sigma") or (kind is None and scalar_pressure(variable) is not None)
    if facts.on_levels:
        return on_levels
    if kind in ("pressure", "sigma") or (dim is not None and variable.sizes[dim] > 1):
        return False
    if facts.height is None:
        return True  # a height that rides along as a scalar coordinate says nothing of a surface field
    shared = sum(spelling in other.spellings for other in KNOWN.values()) > 1  # t, u: the height must be given
    height = _height(variable)
    return height == facts.height if strict or shared else height in (None, facts.height)


def _height(variable: xr.DataArray) -> float | None:
    """Metres above ground that a variable's coordinates or attributes give."""
    given = variable.attrs.get("height_above_ground_m")
    if isinstance(given, int | float | np.number):
        return float(given)
    for name, coordinate in variable.coords.items():
        if coordinate.size == 1 and (_LEVEL.fullmatch(str(name)) or coordinate.attrs.get("standard_name") == "height"):
            kind, values = vertical_kind(coordinate)
            if kind == "height" or _HEIGHT.fullmatch(str(name)):
                return float(values[0])
    return None


def _horizontal(
    path: Location, data: xr.Dataset, axis: Literal["latitude", "longitude"], names: re.Pattern[str]
) -> str:
    """The dimension of latitude or longitude."""
    named = [str(n) for n in (*data.dims, *data.coords) if names.fullmatch(str(n))]
    attributed = _cf(data, "coordinates", axis)
    hits = list(dict.fromkeys([*named, *attributed]))
    dims = [n for n in hits if n in data.dims and not _is_projected(data, n)]
    sure = [n for n in dims if len(n) > 1 or n in attributed]  # x and y are a last resort
    dims = sure or dims
    if len(dims) > 1:
        raise DataError(f"{path}: {' and '.join(dims)} may both be {axis}; drop one of them from the file")
    two = [n for n in hits if n in data.coords and data[n].ndim == 2]
    if two and not sure:
        raise DataError(
            f"{path}: {axis} is two-dimensional ({two[0]} over {', '.join(map(str, data[two[0]].dims))}), so the grid "
            f"is curvilinear or projected; {_INTERPOLATE}"
        )
    projected = [str(d) for d in data.dims if _is_projected(data, str(d))]
    if not dims and projected:
        raise DataError(f"{path}: the grid is projected or rotated (axes {', '.join(projected)}); {_INTERPOLATE}")
    shared = [n for n in hits if n in data.coords and data[n].ndim == 1 and n not in data.dims]
    if not dims and shared:
        raise DataError(
            f"{path}: no one-dimensional {axis} axis: {shared[0]} runs along {data[shared[0]].dims[0]}, "
            f"an unstructured grid or a list of places; {_INTERPOLATE}"
        )
    if not dims:
        where = f"dimensions {', '.join(map(str, data.dims)) or 'none'}"
        raise DataError(
            f"{path}: no one-dimensional {axis} axis found among its {where}; name it {axis} or give it "
            f"the units degrees_{'north' if axis == 'latitude' else 'east'}"
        )
    if dims[0] not in data.coords:
        raise DataError(
            f"{path}: the dimension {dims[0]} has no coordinate values; add its degrees as a variable "
            f"{dims[0]}({dims[0]})"
        )
    return dims[0]


def _is_projected(data: xr.Dataset, dim: str) -> bool:
    if dim not in data.coords:
        return bool(_ROTATED.fullmatch(dim))
    attributes = data[dim].attrs
    units = str(attributes.get("units", ""))
    return (
        bool(_ROTATED.fullmatch(dim))
        or attributes.get("standard_name") in _PROJECTED
        or (units not in ("", "1") and convertible(units, "m") is not None and not _LEVEL.fullmatch(dim))
    )


def _time_dimension(path: Location, data: xr.Dataset) -> str | None:
    """The dimension that instants run along: a named one, that of a coordinate of instants (GRIB's ``step``), or of
    anything that holds dates."""
    along = {str(v.dims[0]) for c, v in data.coords.items() if v.ndim == 1 and _is_time(data, c)}
    dims = [str(d) for d in data.dims if str(d) in along or _TIME.fullmatch(str(d))]
    dims = dims or [str(d) for d in data.dims if any(v.dims == (d,) and _holds_dates(v) for v in data.coords.values())]
    long = [d for d in dims if data.sizes[d] > 1]
    if len(long) > 1:
        raise DataError(
            f"{path}: {' and '.join(long)} may both be time; choose one of their values, or one file for each, before"
        )
    return next(iter(long or dims), None)


def _instants(data: xr.Dataset, dim: str | None) -> str | None:
    """The coordinate that holds the instants of validity: GRIB's ``valid_time`` rather than its initial time."""
    wanted = () if dim is None else (dim,)
    there = [str(c) for c, v in data.coords.items() if v.dims == wanted]
    fitting = [c for c in there if c == dim or _is_time(data, c)]
    for preferred in ("valid_time", dim, "time"):
        if preferred in fitting:
            return preferred
    return next(iter(fitting or [c for c in there if dim is not None and _holds_dates(data[c])]), None)


def _is_time(data: xr.Dataset, coordinate: Hashable) -> bool:
    """Whether name or attributes say that a coordinate holds instants."""
    return bool(_TIME.fullmatch(str(coordinate))) or coordinate in _cf(data, "coordinates", "time")


def _holds_dates(coordinate: xr.DataArray) -> bool:
    """Whether units such as ``hours since`` have made dates of it, on any calendar, and not those of initial times."""
    if re.search("init|reference|run", f"{coordinate.name} {coordinate.attrs.get('standard_name', '')}", re.I):
        return False
    first = coordinate.values.flat[:1]
    return coordinate.dtype.kind == "M" or (first.size > 0 and isinstance(first[0], cftime.datetime))


def _cf(data: xr.Dataset | xr.DataArray, table: Literal["coordinates", "axes"], key: str) -> tuple[str, ...]:
    """What cf-xarray finds by attributes alone, which files of a folder have alike."""
    attributes = ((str(c), tuple((k, str(v)) for k, v in x.attrs.items())) for c, x in data.coords.items())
    return _found_by_cf(tuple(attributes), table, key)


@lru_cache(maxsize=1024)
def _found_by_cf(
    attributes: tuple[tuple[str, tuple[tuple[str, str], ...]], ...], table: Literal["coordinates", "axes"], key: str
) -> tuple[str, ...]:
    """``_cf`` of coordinates with these attributes.

    It looks at a skeleton without values: its accessor and the data it is asked of hold each other, which would keep
    the file open.
    """
    bones = {name: xr.Variable((), 0, dict(attrs)) for name, attrs in attributes}
    return tuple(map(str, getattr(xr.Dataset(coords=bones).cf, table).get(key, ())))


def numeric_fields(data: xr.Dataset) -> Iterator[str]:
    """Names of the variables that are fields: numbers over two dimensions or more, and no bounds of cells."""
    bounds = {str(v.attrs.get(key)) for v in data.variables.values() for key in ("bounds", "climatology")}
    for name, variable in data.data_vars.items():
        if variable.ndim >= 2 and variable.dtype.kind in "fiub" and str(name) not in bounds:
            yield str(name)
