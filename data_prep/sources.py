"""Any CF-like NetCDF file or Zarr store, seen under canonical names, units and orientation.

The one door for all that a user hands to the program: preparation and the forecast command read through ``Source``. A
file is opened lazily and its coordinates are understood once; fields are read in blocks of rows, and come out in SI
units, latitude and longitude ascending, levels top first.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal

import cf_xarray  # noqa: F401  (registers the accessor ``Dataset.cf``)
import numpy as np
import xarray as xr

from data_prep import checks
from data_prep.errors import DataError
from data_prep.grid import Grid
from data_prep.spec import StateSpec, Vertical, unstack_channels
from data_prep.units import Conversion, conversion

logger = logging.getLogger(__name__)

Axis = Literal["time", "dayofyear", "level", "latitude", "longitude"]
Extent = Literal["time", "dayofyear", "constant"]

_NAMES: dict[Axis, tuple[str, ...]] = {
    "time": ("time", "valid_time", "initial_time0_hours"),
    "dayofyear": ("dayofyear", "day_of_year"),
    "level": (
        "level",
        "plev",
        "isobaricInhPa",
        "pressure_level",
        "lev",
        "pressure",
        "sigma",
        "lv_ISBL0",
        "lv_ISBL1",
        "air_pressure",
    ),
    "latitude": ("latitude", "lat", "g0_lat_1", "g0_lat_2", "lat_0"),
    "longitude": ("longitude", "lon", "g0_lon_2", "g0_lon_3", "lon_0"),
}
_CF_KEYS: dict[Axis, str] = {"time": "time", "level": "vertical", "latitude": "latitude", "longitude": "longitude"}

_PASCAL = ("Pa", "pascal", "pascals")
_HECTOPASCAL = ("hPa", "mb", "mbar", "millibar", "millibars")
_SIGMA = ("1", "sigma", "sigma_level", "level", "dimensionless", "")


@dataclass(frozen=True)
class FoundField:
    """A variable as a file holds it.

    Attributes:
      name: Canonical name.
      raw_name: Name in the file.
      extent: Whether it runs over ``time`` or ``dayofyear``, or is ``constant``.
      levels: Its levels, top first; empty for a surface field.
      level_rows: Positions of ``levels`` on the file's own axis.
      to_si: From the file's values to SI.
    """

    name: str
    raw_name: str
    extent: Extent
    levels: tuple[float, ...]
    level_rows: tuple[int, ...]
    to_si: Conversion


@dataclass(frozen=True, eq=False)
class Source:
    """One file under canonical names; make it with ``open_source``.

    Attributes:
      path: Where it lies.
      grid: Its grid, canonical orientation.
      times: ``datetime64[ns]`` ``(time,)``, strictly ascending; empty where the file has no time.
      fields: The asked variables that the file holds, by canonical name.
      contents: Names of all variables of the file, for messages.
    """

    path: Path
    grid: Grid
    times: np.ndarray
    fields: Mapping[str, FoundField]
    contents: tuple[str, ...]
    _raw: xr.Dataset = field(repr=False)
    _axes: Mapping[Axis, str] = field(repr=False)
    _latitude_rows: np.ndarray = field(repr=False)
    _longitude_rows: np.ndarray = field(repr=False)

    def read(self, name: str, levels: Sequence[float], start: int = 0, stop: int = 1, step: int = 1) -> np.ndarray:
        """Reads one variable.

        Args:
          name: Canonical name, one of ``fields``.
          levels: Level values, top first; empty for a surface field.
          start, stop, step: Rows of the time (or ``dayofyear``) axis; a constant field has one.

        Returns:
          SI, float32, shape ``(row, latitude, longitude, level)``; a surface field has one level.

        Raises:
          DataError: a level is missing, or the file cannot be read.
        """
        found = self.fields[name]
        rows = self.level_rows(found.name, levels)
        variable = self._raw[found.raw_name]
        level_axis = self._axes.get("level")
        row_axis = self._axes.get("dayofyear" if found.extent == "dayofyear" else "time")
        selection: dict[str, slice] = {}
        if level_axis in variable.dims:
            # One hull instead of a list of rows: the backend reads slices fast and lists slowly.
            selection[str(level_axis)] = slice(min(rows), max(rows) + 1)
            rows = [r - min(rows) for r in rows]
        if row_axis in variable.dims:
            selection[str(row_axis)] = slice(start, stop, step)
        try:
            block = variable.isel(selection).compute()  # in the file's order: transposing unread data reads it slowly
        except (OSError, RuntimeError, ValueError) as error:
            raise DataError(
                f"{self.path}: {found.raw_name} cannot be read ({_one_line(error)}); the file may be damaged"
            ) from None
        order = [d for d in (row_axis, self._axes["latitude"], self._axes["longitude"], level_axis) if d in block.dims]
        values = block.transpose(*order).values.astype(np.float32, copy=False)
        if row_axis not in block.dims:
            values = values[None]
        values = values[..., rows] if level_axis in block.dims else values[..., None]
        values = values[:, self._latitude_rows[:, None], self._longitude_rows]
        if found.to_si != Conversion(found.to_si.units):
            values = values * np.float32(found.to_si.factor) + np.float32(found.to_si.offset)
        return values

    def level_rows(self, name: str, levels: Sequence[float]) -> list[int]:
        """Where these levels lie on the file's own axis.

        Raises:
          DataError: a level is missing, or a variable with several levels was asked for as a surface field.
        """
        found = self.fields[name]
        if not levels:
            if len(found.levels) > 1:
                raise DataError(
                    f"{self.path}: {found.raw_name} has {len(found.levels)} levels, but a surface field was asked for"
                )
            return list(found.level_rows[:1])
        have = np.asarray(found.levels)
        hits = [np.flatnonzero(np.isclose(have, level, rtol=1e-4, atol=0)) for level in levels]
        missing = [f"{level:g}" for level, hit in zip(levels, hits, strict=True) if hit.size != 1]
        if missing:
            there = ", ".join(f"{x:g}" for x in have) or "none"
            raise DataError(f"{self.path}: {found.raw_name} lacks level {', '.join(missing)}; it has {there}")
        return [found.level_rows[int(hit[0])] for hit in hits]


def open_source(path: str | Path, names: Mapping[str, Sequence[str]], vertical: Vertical | None) -> Source:
    """Opens a file lazily and understands its coordinates.

    Args:
      path: A NetCDF file or a Zarr folder.
      names: Canonical name to the names it may have in the file, for every variable of interest; those that the file
        lacks are left out.
      vertical: The vertical coordinate that variables with levels must have.

    Raises:
      DataError: one line on what the file lacks or what is wrong with it.
    """
    path = Path(path)
    everything = _open(path)
    contents = tuple(str(v) for v in everything.data_vars)
    wanted = {name: next((n for n in candidates if n in contents), None) for name, candidates in names.items()}
    present = {name: raw_name for name, raw_name in wanted.items() if raw_name is not None}
    if not present:
        asked = ", ".join(" or ".join(dict.fromkeys(candidates)) for candidates in names.values())
        raise DataError(f"{path}: holds none of {asked}; it holds {', '.join(contents) or 'no variables'}")
    raw = everything[list(dict.fromkeys(present.values()))]
    axes = _find_axes(path, raw)
    _refuse_other_dimensions(path, raw, axes)
    latitude_rows, latitude = _latitude(path, raw, axes)
    longitude_rows, longitude = _longitude(path, raw, axes)
    try:
        grid = Grid.from_arrays(latitude, longitude)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    times = _times(path, raw, axes)
    levels, level_rows = _levels(path, raw, axes, vertical)
    found = {
        name: _found_field(path, raw[raw_name], name, axes, levels, level_rows) for name, raw_name in present.items()
    }
    squeezed = raw.squeeze([d for d in raw.dims if d not in axes.values()], drop=True)
    return Source(path, grid, times, found, contents, squeezed, axes, latitude_rows, longitude_rows)


def read_initial(
    path: str | Path,
    spec: StateSpec,
    grid: Grid,
    time: np.datetime64 | str | None = None,
    names: Mapping[str, str] | None = None,
    *,
    fill_nan: bool = False,
) -> xr.Dataset:
    """Initial conditions for a forecast, from any file that holds the model's variables on its grid.

    Args:
      path: A NetCDF file or a Zarr folder.
      spec: What the model needs: prognostic variables and persisted forcings; diagnostic ones are taken along where the
        file holds all their levels, for the references that need them.
      grid: The model's grid.
      time: Which time of the file, ISO 8601 if text; its last one by default.
      names: Canonical name to name in the file, where they differ; either name is accepted.
      fill_nan: Fill NaN in forcings as training did (``data.nan: fill_mean``); otherwise they are refused.

    Returns:
      Canonical fields with dims ``(time, [level,] latitude, longitude)``: one time, in memory, finite and possible.

    Raises:
      DataError: one line on what is missing or wrong.
    """
    path = Path(path)
    needed = (*spec.with_role("prognostic"), *(v for v in spec.with_role("forcing") if v.known == "persisted"))
    variables = (*needed, *spec.with_role("diagnostic"))
    source = open_source(path, {v.name: ((names or {}).get(v.name, v.name), v.name) for v in variables}, spec.vertical)
    missing = [v.name for v in needed if v.name not in source.fields]
    if missing:
        raise DataError(f"{path}: missing {', '.join(missing)}; it holds {', '.join(source.contents)}")
    if not source.grid.matches(grid):
        raise DataError(
            f"{path}: its grid is {source.grid.describe()}, the model's {grid.describe()}; interpolate the file first"
        )
    if source.times.size == 0:
        raise DataError(f"{path}: no time coordinate; give the initial time as a coordinate named time")
    row = _row_of(path, source.times, time)
    logger.info("initial time %s of %s", np.datetime_as_string(source.times[row], unit="m"), path)
    out = xr.Dataset()
    for variable in variables:
        found = source.fields.get(variable.name)
        if found is None or (variable.role == "diagnostic" and not set(variable.levels) <= set(found.levels)):
            continue
        field_values = clip_to_minimum(source.read(variable.name, variable.levels, row, row + 1), variable.minimum)
        if fill_nan and variable.role == "forcing":
            field_values = checks.fill_with_mean(field_values)
        channels = tuple(c for c in spec.channels(variable.role) if c.variable == variable.name)
        checks.check_values(field_values, channels, spec, source.times[row : row + 1], str(path))
        coords = {"time": ("time", source.times[row : row + 1], {"standard_name": "time", "axis": "T"})}
        part = unstack_channels(field_values, spec, channels, grid, coords)
        out = out.merge(_on_own_level_axis(part, out))
    return out


def clip_to_minimum(values: np.ndarray, minimum: float | None) -> np.ndarray:
    """The lower bound of ``Variable.minimum``, one function for truth and inputs."""
    return values if minimum is None else np.maximum(values, np.float32(minimum))


def _on_own_level_axis(part: xr.Dataset, whole: xr.Dataset) -> xr.Dataset:
    """Renames ``level`` where the whole already uses it for other levels, like ``unstack_channels``."""
    if "level" not in part.dims:
        return part
    axes = sorted(str(d) for d in whole.dims if str(d).startswith("level"))
    for axis in axes:
        if np.array_equal(whole[axis].values, part["level"].values):
            return part if axis == "level" else part.rename(level=axis)
    return part if not axes else part.rename(level=f"level_{len(axes) + 1}")


def _row_of(path: Path, times: np.ndarray, time: np.datetime64 | str | None) -> int:
    if time is None:
        return times.size - 1
    try:
        instant = np.datetime64(datetime.fromisoformat(time) if isinstance(time, str) else time)
    except ValueError:
        raise DataError(f"{path}: {time!r} is no time; write it like 2001-01-31T06:00") from None
    rows = np.flatnonzero(times == instant.astype("datetime64[ns]"))
    if rows.size == 0:
        span = " to ".join(np.datetime_as_string(t, unit="m") for t in times[[0, -1]])
        raise DataError(f"{path}: no time {time}; it holds {times.size} from {span}")
    return int(rows[0])


def _open(path: Path) -> xr.Dataset:
    if not path.exists():
        raise DataError(f"{path}: no such file")
    if path.is_file() and path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty")
    try:
        with warnings.catch_warnings():
            # Old files earn remarks on their encoding; whatever matters of it is checked after decoding.
            warnings.simplefilter("ignore", xr.SerializationWarning)
            if path.is_dir():
                return xr.open_zarr(path, chunks=None, consolidated=False, decode_timedelta=False)
            return xr.open_dataset(path, engine="netcdf4", chunks=None, decode_timedelta=False)
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        kind = "Zarr store" if path.is_dir() else "NetCDF file"
        raise DataError(f"{path}: cannot be read as a {kind} ({_one_line(error)})") from None


def _find_axes(path: Path, raw: xr.Dataset) -> dict[Axis, str]:
    """Which name of the file is which axis: recognised names first, CF attributes for the rest."""
    axes: dict[Axis, str] = {}
    for axis, names in _NAMES.items():
        hits = [n for n in names if n in raw.dims or n in raw.coords]
        if not hits and axis in _CF_KEYS:
            hits = [str(n) for n in raw.cf.coordinates.get(_CF_KEYS[axis], []) if raw[n].ndim <= 1]
        dims = [n for n in hits if n in raw.dims]
        if len(dims) > 1:
            raise DataError(f"{path}: {' and '.join(dims)} may both be {axis}; drop one of them from the file")
        if hits:
            axes[axis] = (dims or hits)[0]
    return axes


def _refuse_other_dimensions(path: Path, raw: xr.Dataset, axes: Mapping[Axis, str]) -> None:
    for axis in ("latitude", "longitude"):
        if axis not in axes or axes[axis] not in raw.dims:
            where = f"dimensions {', '.join(str(d) for d in raw.dims) or 'none'}"
            raise DataError(
                f"{path}: no one-dimensional {axis} axis found among its {where}; "
                f"known names: {', '.join(_NAMES[axis])}"
            )
    for name, variable in raw.data_vars.items():
        other = [str(d) for d in variable.dims if d not in axes.values() and variable.sizes[d] > 1]
        if other:
            hint = "" if "time" in axes else ", and no time axis was found"
            raise DataError(
                f"{path}: {name} has the dimension {', '.join(other)} beside time, level, latitude and "
                f"longitude{hint}; select one of its values before"
            )


def _latitude(path: Path, raw: xr.Dataset, axes: Mapping[Axis, str]) -> tuple[np.ndarray, np.ndarray]:
    values = _axis_values(path, raw, axes["latitude"])
    rows = np.arange(values.size) if values[0] <= values[-1] else np.arange(values.size)[::-1]
    return rows, values[rows]


def _longitude(path: Path, raw: xr.Dataset, axes: Mapping[Axis, str]) -> tuple[np.ndarray, np.ndarray]:
    """Columns in ascending order from the first one in [0, 360); a region across Greenwich runs past 360."""
    values = np.round(_axis_values(path, raw, axes["longitude"]) % 360.0, 6) % 360.0
    rows = np.argsort(values, kind="stable")
    ascending = values[rows]
    holes = np.diff(ascending, append=ascending[0] + 360.0)
    spacing = float(np.median(holes))
    start = (int(holes.argmax()) + 1) % values.size if holes.max() > 1.5 * spacing else 0
    rows, ascending = np.roll(rows, -start), np.roll(ascending, -start)
    return rows, np.where(ascending < ascending[0], ascending + 360.0, ascending)


def _axis_values(path: Path, raw: xr.Dataset, name: str) -> np.ndarray:
    if name not in raw.coords:
        raise DataError(f"{path}: the dimension {name} has no coordinate values")
    return np.asarray(raw[name].values, dtype=np.float64)


def _times(path: Path, raw: xr.Dataset, axes: Mapping[Axis, str]) -> np.ndarray:
    if "time" not in axes:
        return np.empty(0, "datetime64[ns]")
    name = axes["time"]
    if name not in raw.coords:
        raise DataError(f"{path}: the dimension {name} has no coordinate values")
    values = np.atleast_1d(raw[name].values)
    if values.dtype == object:
        calendar = getattr(values.flat[0], "calendar", "unknown")
        raise DataError(
            f"{path}: {name} is on the calendar {calendar!r}, or out of range; only the real (Gregorian) calendar works"
        )
    if not np.issubdtype(values.dtype, np.datetime64):
        raise DataError(
            f"{path}: {name} has no CF units such as 'hours since 1900-01-01'; its values are {values.dtype} numbers"
        )
    times = values.astype("datetime64[ns]")
    if times.size == 0:
        raise DataError(f"{path}: the {name} axis is empty")
    checks.check_time_axis(times, str(path))
    return times


def _levels(
    path: Path, raw: xr.Dataset, axes: Mapping[Axis, str], vertical: Vertical | None
) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Level values top first (hPa or sigma) and their rows; empty where the file has no levels of the asked kind."""
    name = axes.get("level")
    if name is None or name not in raw.coords:
        return (), (0,)
    values = np.atleast_1d(np.asarray(raw[name].values, dtype=np.float64))
    units = str(raw[name].attrs.get("units", "")).strip()
    if units in _PASCAL:
        kind, values = "pressure", values / 100.0
    elif units in _HECTOPASCAL:
        kind = "pressure"
    elif units in _SIGMA:
        kind = "sigma" if values.max() <= 1.0 + 1e-6 else "pressure"
    else:
        kind = "other"
    if vertical is None or kind != vertical:
        if values.size > 1:
            asked = f"data.vertical is {vertical}" if vertical else "data.vertical is not set"
            raise DataError(f"{path}: {name} holds {values.size} levels of kind {kind} (unit {units!r}), but {asked}")
        return (), (0,)
    rows = np.argsort(values)
    return tuple(float(np.round(v, 6)) for v in values[rows]), tuple(int(r) for r in rows)


def _found_field(
    path: Path,
    variable: xr.DataArray,
    name: str,
    axes: Mapping[Axis, str],
    levels: tuple[float, ...],
    level_rows: tuple[int, ...],
) -> FoundField:
    has_levels = axes.get("level") in variable.dims
    time = axes.get("time")
    extent: Extent = "constant"
    if axes.get("dayofyear") in variable.dims:
        extent = "dayofyear"
    elif time in variable.dims or (time in variable.coords and variable.coords[time].ndim == 0):
        extent = "time"  # a scalar time says that the whole file belongs to it
    return FoundField(
        name=name,
        raw_name=str(variable.name),
        extent=extent,
        levels=levels if has_levels else (),
        level_rows=level_rows if has_levels else (0,),
        to_si=conversion(name, variable.attrs.get("units"), f"{path}: {variable.name}"),
    )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
