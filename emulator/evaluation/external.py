"""Forecast files that other programs wrote, seen in our own form: WeatherBench-2's stores, ECMWF's, hindcasts.

Known are the names that are in use for initial time, lead and member, and CF's standard names for them; variables,
levels, units and orientation are recognised as everywhere (``data_prep.reading.recognise``). Whatever order dimensions
have, whichever way latitudes run: fields come out as ``(init_time, lead_time[, realization][, level], latitude,
longitude)``, in SI. Nothing is interpolated. A file is read block by block, and only what is asked for. What would be
scored as other forecasts than it is (valid times for initial ones, another unit) is understood or refused.

Precipitation accumulated from the start of a forecast (ECMWF's ``tp``) is not that of the last interval, so it is
taken only under the name that says the interval (``total_precipitation_6hr``).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from data_prep import clock
from data_prep.errors import DataError, one_line
from data_prep.grid import Grid
from data_prep.preparation.store import Store
from data_prep.reading.locations import Location, stamp
from data_prep.reading.opening import format_of, open_lazily
from data_prep.reading.positions import grid_of
from data_prep.reading.recognise import (
    find_axes,
    find_variables,
    level_coordinate,
    on_own_axes,
    over_interval,
    scalar_pressure,
    single_level_pressure,
    vertical_kind,
)
from data_prep.reading.slips import hint, slip_of, standard_height
from data_prep.reading.sources import clip_to_minimum, refuse_another_surface
from data_prep.reading.units import Conversion, conversion, convertible, unit_of
from data_prep.reading.valid_range import are_invalid, valid_range_of
from data_prep.spec import VERTICAL_ATTRS, Vertical, find_levels, grid_coords
from data_prep.variables import GRAVITY, SURFACE, accumulation_hours, is_accumulation, known, possible_range
from emulator.evaluation.external_times import MEMBER, find_coordinate, times_of_forecasts
from emulator.forecast_form import AXES

logger = logging.getLogger(__name__)

_DERIVED = ("geopotential", "mean_sea_level_pressure")
"""What is verified beyond the state where the truth is on sigma levels."""

_BULK = (0.05, 0.5, 0.95)  # quantiles by which a field is judged: a model may leave what is possible at some points
_DRIZZLE, _HEAVY_RAIN = 1e-5, 0.5  # metres of water in a step
_GRIB_FILES = 4  # whose indices a process keeps


@dataclass(frozen=True)
class ExternalField:
    """A variable as the file holds it.

    Attributes:
      raw_name: Its name there.
      to_si: From its values to SI.
      levels: Wanted levels, top first, hPa or sigma; empty for a surface field.
      level_dim: The vertical dimension there; ``None`` where the level is a scalar, or there is none.
      level_rows: Positions of ``levels`` on it.
      constant: Whether it is the same in all forecasts.
      minimum: Physical lower bound, as the truth has it.
      valid: Lowest and highest value there that is not missing, if it says so.
    """

    raw_name: str
    to_si: Conversion
    levels: tuple[float, ...] = ()
    level_dim: str | None = None
    level_rows: tuple[int, ...] = ()
    constant: bool = False
    minimum: float | None = None
    valid: tuple[float, float] | None = None


@dataclass(frozen=True, eq=False)
class ExternalForecasts:
    """A file of another program's forecasts on the truth's grid; made by ``open_external``.

    Attributes:
      path: Where it lies.
      grid: Its grid, which is the truth's.
      init_times, lead_times: All that it holds, ``datetime64[ns]`` and ``timedelta64[ns]``, in its order.
      fields: What can be compared with the truth, by canonical name.
      vertical: What its levels are.
      members: How many; 0 of single forecasts.
      attributes: Its global attributes.
      dims: Its dimensions by our names; one that it has not (a scalar coordinate) is left out.
      rows, columns: Its latitudes and longitudes in canonical order, without the meridian that closes a circle.
      shape: How many latitudes and longitudes it holds.
      known_as: What a warning calls it: once for all files that it is one of.
    """

    path: Location
    grid: Grid
    init_times: np.ndarray
    lead_times: np.ndarray
    fields: Mapping[str, ExternalField]
    vertical: Vertical | None
    members: int
    attributes: Mapping[str, Any]
    dims: Mapping[str, str]
    rows: np.ndarray
    columns: np.ndarray
    shape: tuple[int, int]
    known_as: str = ""

    def read(self, names: Sequence[str], inits: np.ndarray, leads: np.ndarray) -> xr.Dataset:
        """Some variables, loaded.

        Args:
          names: Canonical names, of ``fields``.
          inits, leads: Positions of the initial times and leads in the file.

        Returns:
          Dims ``(init_time, lead_time[, realization][, level], latitude, longitude)``, float32, SI; nothing below
          the truth's ``minimum``.

        Raises:
          DataError: the file cannot be read, has changed, or holds values in another unit than it says.
        """
        coords: dict[str, Any] = {
            "init_time": self.init_times[inits],
            "lead_time": self.lead_times[leads],
            **grid_coords(self.grid),
        }
        axes: dict[tuple[float, ...], str] = {}
        data = {}
        try:
            with _opened(self.path) as raw:
                for name in names:
                    levels = self.fields[name].levels
                    axis = axes.setdefault(levels, f"level_{len(axes) + 1}" if axes else "level") if levels else ""
                    dims, values = self._read(raw, name, inits, leads)
                    data[name] = (tuple(axis if d == "level" else d for d in dims), values)
        except (OSError, RuntimeError, ValueError, EOFError) as error:
            raise DataError(f"{self.path}: cannot be read ({one_line(error)})") from None
        for levels, axis in axes.items():
            assert self.vertical is not None
            coords[axis] = (axis, np.asarray(levels), VERTICAL_ATTRS[self.vertical])
        return xr.Dataset(data, coords)

    def _read(
        self, raw: xr.Dataset, name: str, inits: np.ndarray, leads: np.ndarray
    ) -> tuple[tuple[str, ...], np.ndarray]:
        """Dimensions by our names, without a number where variables differ in their levels, and values."""
        field = self.fields[name]
        ours = {theirs: name for name, theirs in self.dims.items()}
        if field.level_dim is not None:
            ours[field.level_dim] = "level"
        wanted = {"init_time": inits, "lead_time": leads, "level": np.asarray(field.level_rows, np.int64)}
        variable = raw[field.raw_name]
        chosen = {d: as_slice(wanted[name]) for d, name in ours.items() if name in wanted and d in variable.dims}
        if field.constant:
            chosen = dict.fromkeys(chosen, slice(0, 1))
        block = variable.isel(chosen).compute().reset_coords(drop=True)
        block = block.squeeze([d for d in block.dims if d not in ours or (field.constant and d in chosen)])
        if not field.constant:  # what is a scalar in the file is a dimension of ours
            scalars = [name for name in ("init_time", "lead_time") if name not in self.dims]
            scalars += ["level"] if field.levels and field.level_dim is None else []
            block = block.expand_dims({f"scalar {name}": 1 for name in scalars})
            ours |= {f"scalar {name}": name for name in scalars}
        theirs = {ours[str(d)]: str(d) for d in block.dims}
        dims = tuple(name for name in AXES if name in theirs)
        values = block.transpose(*(theirs[name] for name in dims)).values
        asked = dict(zip(("latitude", "longitude"), self.shape, strict=True))
        asked |= {} if field.constant else {"init_time": inits.size, "lead_time": leads.size}
        asked |= {"level": len(field.levels)} if field.levels else {}
        if not asked.items() <= dict(zip(dims, values.shape, strict=True)).items():
            raise DataError(f"{self.path}: {field.raw_name} has changed since the file was opened; score it again")
        return dims, self._in_si(name, values[..., self.rows[:, None], self.columns])

    def _in_si(self, name: str, values: np.ndarray) -> np.ndarray:
        """The file's values as they are compared, float32; those in another unit than they should be in are refused."""
        field = self.fields[name]
        if field.valid is not None:
            values = np.where(are_invalid(values, field.valid), np.nan, values)
        values = field.to_si.apply(values)
        levels = [level if self.vertical == "pressure" else None for level in field.levels] or [None]
        planes = values if field.levels else values[..., None, :, :]
        where, warned = f"{self.path}: {field.raw_name}", f"{self.known_as or self.path}: {field.raw_name}"
        _refuse_impossible(where, name, field.to_si.units, levels, planes, warned)
        return clip_to_minimum(values.astype(np.float32, copy=False), field.minimum)


def open_external(path: Location, store: Store, pressure_levels: Sequence[float] = ()) -> ExternalForecasts:
    """Opens a file lazily and understands its layout.

    Args:
      path: NetCDF, GRIB or Zarr, or the URL of a Zarr store.
      store: The truth: its grid must be the file's.
      pressure_levels: hPa; the levels that are verified where the truth is on sigma levels and the file on pressure
        levels. All that the file has when left out.

    Raises:
      DataError: one line: another grid, no initial time or lead, times that contradict each other, none of the truth's
        variables, or a missing level.
    """
    with _opened(path) as raw:
        wanted = _wanted(store)
        sums = {name: name for name in wanted if is_accumulation(name) and name in raw}
        if nameless := [name for name in sums if accumulation_hours(name) is None]:
            hours = f"{clock.hours(store.timestep):g}"
            logger.warning(
                "%s: %s is left out: over which interval it is summed the name does not say; if it is a step of %s h, "
                "call it total_precipitation_%shr there and in data.diagnostic",
                *(path, nameless[0], hours, hours),
            )
            sums = {name: name for name in sums if name not in nameless}
        asked = {name: (name,) for name in wanted if not is_accumulation(name)}
        names = {n: r for n, r in (find_variables(path, raw, asked) | sums).items() if r in raw.data_vars}
        if not names:
            there = ", ".join(map(str, raw.data_vars)) or "no variables"
            raise DataError(f"{path}: holds none of {', '.join(wanted)}; it holds {there}")
        data = raw[list(dict.fromkeys(names.values()))]
        axes = find_axes(path, data)
        grid, latitude, longitude = grid_of(path, raw[axes.latitude], raw[axes.longitude])
        if not grid.matches(store.grid):
            raise DataError(
                f"{path}: its grid ({grid.describe()}) is not the truth's ({store.grid.describe()}); "
                "emulator regrid IN OUT --like FILE brings it there, if it covers that"
            )
        times = times_of_forecasts(path, raw)
        member = find_coordinate(raw, MEMBER)
        dims = {"latitude": axes.latitude, "longitude": axes.longitude, **times.dims}
        members = raw.sizes.get(member, 1) if member is not None else 1
        if members > 1:
            dims["realization"] = str(member)
        described = {n: _field(path, raw[r], n, store, pressure_levels, dims) for n, r in names.items()}
        kinds = {kind for _, kind in described.values() if kind is not None}
        if len(kinds) > 1:
            raise DataError(f"{path}: some variables are on pressure levels and some on sigma; make two files of it")
        fields = {name: field for name, (field, _) in described.items() if field is not None}
        if "sigma" not in kinds:
            fields.pop(SURFACE, None)  # nothing stands on it
        return ExternalForecasts(
            path=path,
            grid=store.grid,
            init_times=times.init_times,
            lead_times=times.lead_times,
            fields=fields,
            vertical=next(iter(kinds), None),
            members=members if members > 1 else 0,
            attributes=dict(raw.attrs),
            dims=dims,
            rows=latitude.rows,
            columns=longitude.rows,
            shape=(raw[axes.latitude].size, raw[axes.longitude].size),
        )


@contextmanager
def _opened(path: Location) -> Iterator[xr.Dataset]:
    """The file, opened lazily; GRIB once as long as it stays the same, for to open it is to read all its headers."""
    if isinstance(path, Path) and path.is_file() and format_of(path) == "GRIB":
        yield _indexed(path.absolute(), *stamp(path))
        return
    with open_lazily(path) as raw:
        yield on_own_axes(raw)


@lru_cache(maxsize=_GRIB_FILES)
def _indexed(path: Path, *_stamp: int | str) -> xr.Dataset:
    """A GRIB file's index, in each process; no file stays open."""
    return on_own_axes(open_lazily(path))


def _wanted(store: Store) -> tuple[str, ...]:
    extra = (*_DERIVED, SURFACE) if store.spec.vertical == "sigma" else ()
    return tuple(dict.fromkeys((*store.spec.state_variables, *extra)))


def _field(
    path: Location,
    variable: xr.DataArray,
    name: str,
    store: Store,
    pressure_levels: Sequence[float],
    dims: Mapping[str, str],
) -> tuple[ExternalField | None, Vertical | None]:
    """One variable and what its levels are; ``None`` where it lies on levels on which the truth does not have it."""
    raw_name = str(variable.name)
    _tell_of_intervals(path, variable, name)
    to_si = _conversion(path, variable, name, store)
    vertical_dim = level_coordinate(variable)
    other = [d for d in map(str, variable.dims) if d not in (*dims.values(), vertical_dim) and variable.sizes[d] > 1]
    if other:
        raise DataError(f"{path}: {raw_name} has the dimension {', '.join(other)}, unknown in forecast files")
    needed = {d for axis, d in dims.items() if axis != "realization"}
    if name != SURFACE and (lacking := sorted(needed - set(variable.dims))):
        raise DataError(f"{path}: {raw_name} lacks the dimension {', '.join(lacking)}, so it is no forecast; drop it")
    state = store.spec.state_variables
    on_levels = bool(state[name].levels) if name in state else bool((entry := known(name)) and entry.on_levels)
    minimum, valid = state[name].minimum if name in state else None, valid_range_of(variable)
    coordinate = vertical_dim or scalar_pressure(variable)
    if not on_levels or coordinate is None or coordinate not in variable.coords:
        if on_levels or (vertical_dim is not None and variable.sizes[vertical_dim] > 1):
            found = "no levels" if on_levels else f"{variable.sizes[str(vertical_dim)]} levels"
            raise DataError(f"{path}: {raw_name} has {found}, the truth's {name} has {'some' if on_levels else 'none'}")
        if name in state:
            refuse_another_surface(f"{path}: {raw_name}", single_level_pressure(variable), state[name], "the truth's")
        return ExternalField(raw_name, to_si, constant=name == SURFACE, minimum=minimum, valid=valid), None
    kind, values = vertical_kind(variable[coordinate])
    truth = store.spec.vertical
    if kind == truth == "sigma" and name not in state:
        return None, None
    if kind == truth and name in state:
        wanted: Sequence[float] = state[name].levels
    elif kind == "pressure" and truth == "sigma":
        wanted = sorted(pressure_levels) or np.sort(values).tolist()
    else:
        raise DataError(f"{path}: {raw_name} is on {kind} levels ({coordinate}), the truth on {truth} levels")
    at = find_levels(f"{path}: {raw_name}", values, wanted, " that is verified")
    rows = tuple(at) if vertical_dim else ()
    field = ExternalField(raw_name, to_si, tuple(map(float, wanted)), vertical_dim, rows, minimum=minimum, valid=valid)
    return field, "pressure" if kind == "pressure" else "sigma"


_told_of_intervals: set[tuple[Location, str]] = set()


def _tell_of_intervals(path: Location, variable: xr.DataArray, name: str) -> None:
    """Says in the log that values over an interval are scored as those at its end, of a folder's variable once."""
    over = over_interval(variable)
    key = (path.parent if isinstance(path, Path) else path), name
    if over in ("", "point") or is_accumulation(name) or key in _told_of_intervals:
        return
    _told_of_intervals.add(key)
    logger.warning(
        "%s: %s is the %s over an interval, as the file says; it is compared with the truth at its valid time, which "
        "errs unless that is one too",
        *(path, variable.name, over),
    )


def _conversion(path: Location, variable: xr.DataArray, name: str, store: Store) -> Conversion:
    """From the file's unit to SI, or to the truth's of a variable that the program does not know."""
    units, where = unit_of(variable), f"{path}: {variable.name}"
    found = conversion(name, units, where)
    if known(name) is not None or units is None or found.units == (wanted := store.spec[name].units):
        return found
    change = convertible(found.units, wanted)
    if change is None:
        raise DataError(f"{where} is in {units!r}, the truth's {name} in {wanted!r}; set its units attribute right")
    return found.then(change)


def _refuse_impossible(
    where: str,
    name: str,
    units: str,
    pressures: Sequence[float | None],
    values: np.ndarray,
    warned: str | None = None,
) -> None:
    """Refuses fields that are in another unit, or impossible for the most part.

    What is impossible at some points is scored as it is, with a warning: there a model has begun to blow up, or missing
    values are not declared.

    Args:
      where: File and variable, for the message; ``warned`` is that of the warning, where it is another.
      name: Canonical name.
      units: The SI unit that the fields should be in.
      pressures: Of the levels, hPa; ``None`` for what lies on no pressure surface.
      values: ``(..., level, latitude, longitude)``; NaN and infinity are passed over.

    Raises:
      DataError: gives the range of the first such field and, where it looks like one, its unit.
    """
    lowest, highest = possible_range(name, units)
    low, high = (end.reduce(values, axis=(-2, -1)) for end in (np.fmin, np.fmax))
    suspect = (low < lowest) | (high > highest)
    if name == "geopotential":  # within what is possible, heights alone may look like another unit
        levels = np.broadcast_to(np.array(pressures, object), low.shape)
        slips = [slip_of(name, units, *of) is not None for of in zip(levels.flat, low.flat, high.flat, strict=True)]
        suspect |= np.reshape(slips, low.shape)
    if is_accumulation(name):
        suspect |= high > _HEAVY_RAIN
    for place in np.argwhere(suspect).tolist():
        field, pressure = values[tuple(place)], pressures[place[-1]]
        wrong = _impossible(name, units, pressure, field[np.isfinite(field)])
        if wrong is not None:
            level = "" if pressure is None else f" at {pressure:g} hPa"
            raise DataError(f"{where}{level} {wrong}")
        if low[tuple(place)] < lowest or high[tuple(place)] > highest:
            _warn_once(warned or where, f"{lowest:g} to {highest:g} {units}")


@lru_cache(maxsize=1024)
def _warn_once(where: str, possible: str) -> None:
    logger.warning(
        "%s holds impossible values at some points (possible are %s), which are scored as they are: a model that blows "
        "up, or missing values that are not declared",
        where,
        possible,
    )


def _impossible(name: str, units: str, pressure: float | None, values: np.ndarray) -> str | None:
    """What is wrong with the finite values of a field, judged by the bulk of them; ``None`` where they can be scored.

    A missing value that is not declared may be a few points only.
    """
    if values.size == 0:
        return None
    lowest, highest = possible_range(name, units)
    least, most = float(values.min()), float(values.max())
    low, middle, high = np.quantile(values, _BULK).tolist()
    wet = values[values > _DRIZZLE] if is_accumulation(name) else values[:0]
    if wet.size and np.median(wet) > _HEAVY_RAIN / 10:
        return (
            f"ranges from {least:g} to {most:g} {units}; these look like mm: set the units attribute of the file right"
        )
    looks = hint(name, units, pressure, low, high)
    if not looks and slip_of(name, units, pressure, least, most) is None:
        looks = hint(name, units, pressure, least, most)
    if not looks and lowest <= middle <= highest:
        return None
    expected = f"possible are {lowest:g} to {highest:g}"
    if lowest <= least and most <= highest and pressure is not None:
        expected = f"usual is {GRAVITY * standard_height(pressure):.0f}"
    looks = looks or "; set the units attribute of the file right, or leave out the leads at which the model blew up"
    return f"ranges from {least:g} to {most:g} {units}, {expected}{looks}"


def as_slice(rows: np.ndarray) -> slice | np.ndarray:
    """Evenly spaced positions as a slice, which every format reads faster than a list."""
    steps = np.unique(np.diff(rows))
    if rows.size == 1:
        return slice(int(rows[0]), int(rows[0]) + 1)
    if steps.size == 1 and steps[0] > 0:
        return slice(int(rows[0]), int(rows[-1]) + 1, int(steps[0]))
    return rows
