"""Forecast files that other programs wrote, seen in our own form: WeatherBench-2's stores, ECMWF's, hindcasts.

Known are the names that are in use for initial time, lead and member, and CF's standard names for them; variables,
levels, units and orientation are recognised as everywhere (``data_prep.reading.recognise``). Whatever order dimensions
have, whichever way latitudes run: fields come out as ``(init_time, lead_time[, realization][, level], latitude,
longitude)``, in SI. Nothing is interpolated. A file is read block by block, and only what is asked for.

Precipitation accumulated from the start of a forecast (ECMWF's ``tp``) is not that of the last interval, so it is
taken only under the name that says the interval (``total_precipitation_6hr``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from data_prep.errors import DataError, one_line
from data_prep.grid import Grid
from data_prep.preparation.store import Store
from data_prep.reading.instants import instants_of
from data_prep.reading.locations import Location
from data_prep.reading.opening import open_lazily
from data_prep.reading.positions import latitude_order, longitude_order
from data_prep.reading.recognise import find_axes, find_variables, level_coordinate, scalar_pressure, vertical_kind
from data_prep.reading.sources import clip_to_minimum
from data_prep.reading.units import Conversion, conversion, convertible
from data_prep.spec import VERTICAL_ATTRS, Vertical, grid_coords
from data_prep.variables import SURFACE, is_accumulation, known
from emulator.forecast_form import AXES


class _Wanted(NamedTuple):
    """How a coordinate is found: by the names in use, by CF's standard name, and by a name that may mean another."""

    names: tuple[str, ...]
    standard_name: str
    last_resort: tuple[str, ...] = ()


_INIT = _Wanted(
    ("init_time", "forecast_reference_time", "reference_time", "initialization_time", "initial_time"),
    "forecast_reference_time",
    ("time",),
)
_LEAD = _Wanted(
    ("lead_time", "prediction_timedelta", "step", "forecast_period", "leadtime", "lead", "forecast_hour"),
    "forecast_period",
)
_MEMBER = _Wanted(("realization", "number", "member", "ensemble_member", "ensemble", "sample"), "realization")

_DERIVED = ("geopotential", "mean_sea_level_pressure")
"""What is verified beyond the state where the truth is on sigma levels."""

_HEIGHTS = ("gh", "zg", "hgt", "geopotential_height")
_LARGEST_HOUR = 1e9  # a lead without a unit that is larger counts nanoseconds, as NumPy does


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
    """

    raw_name: str
    to_si: Conversion
    levels: tuple[float, ...] = ()
    level_dim: str | None = None
    level_rows: tuple[int, ...] = ()
    constant: bool = False
    minimum: float | None = None


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
      rows, columns: Its latitudes and longitudes in canonical order.
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

    def read(self, names: Sequence[str], inits: np.ndarray, leads: np.ndarray) -> xr.Dataset:
        """Some variables, loaded.

        Args:
          names: Canonical names, of ``fields``.
          inits, leads: Positions of the initial times and leads in the file.

        Returns:
          Dims ``(init_time, lead_time[, realization][, level], latitude, longitude)``, float32, SI; nothing below
          the truth's ``minimum``.

        Raises:
          DataError: the file cannot be read.
        """
        coords: dict[str, Any] = {
            "init_time": self.init_times[inits],
            "lead_time": self.lead_times[leads],
            **grid_coords(self.grid),
        }
        axes: dict[tuple[float, ...], str] = {}
        data = {}
        raw = open_lazily(self.path)
        try:
            for name in names:
                levels = self.fields[name].levels
                axis = axes.setdefault(levels, f"level_{len(axes) + 1}" if axes else "level") if levels else ""
                dims, values = self._read(raw, self.fields[name], inits, leads)
                data[name] = (tuple(axis if d == "level" else d for d in dims), values)
        except (OSError, RuntimeError, ValueError, EOFError) as error:
            raise DataError(f"{self.path}: cannot be read ({one_line(error)})") from None
        finally:
            raw.close()
        for levels, axis in axes.items():
            assert self.vertical is not None
            coords[axis] = (axis, np.asarray(levels), VERTICAL_ATTRS[self.vertical])
        return xr.Dataset(data, coords)

    def _read(
        self, raw: xr.Dataset, field: ExternalField, inits: np.ndarray, leads: np.ndarray
    ) -> tuple[tuple[str, ...], np.ndarray]:
        """Dimensions by our names, without a number where variables differ in their levels, and values."""
        ours = {theirs: name for name, theirs in self.dims.items()}
        if field.level_dim is not None:
            ours[field.level_dim] = "level"
        wanted = {"init_time": inits, "lead_time": leads, "level": np.asarray(field.level_rows, np.int64)}
        variable = raw[field.raw_name]
        chosen = {d: _as_slice(wanted[name]) for d, name in ours.items() if name in wanted and d in variable.dims}
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
        values = block.transpose(*(theirs[name] for name in dims)).values[..., self.rows[:, None], self.columns]
        if field.to_si != Conversion(field.to_si.units):
            values = values.astype(np.float64) * field.to_si.factor + field.to_si.offset
        return dims, clip_to_minimum(values.astype(np.float32, copy=False), field.minimum)


def open_external(path: Location, store: Store, pressure_levels: Sequence[float] = ()) -> ExternalForecasts:
    """Opens a file lazily and understands its layout.

    Args:
      path: NetCDF, GRIB or Zarr, or the URL of a Zarr store.
      store: The truth: its grid must be the file's.
      pressure_levels: hPa; the levels that are verified where the truth is on sigma levels and the file on pressure
        levels. All that the file has when left out.

    Raises:
      DataError: one line: another grid, no initial time or lead, none of the truth's variables, or a missing level.
    """
    raw = open_lazily(path)
    try:
        wanted = _wanted(store)
        sums = {name: name for name in wanted if is_accumulation(name) and name in raw}
        asked = {name: (name,) for name in wanted if not is_accumulation(name)}
        names = {n: r for n, r in (find_variables(path, raw, asked) | sums).items() if r in raw.data_vars}
        if not names:
            there = ", ".join(map(str, raw.data_vars)) or "no variables"
            raise DataError(f"{path}: holds none of {', '.join(wanted)}; it holds {there}")
        data = raw[list(dict.fromkeys(names.values()))]
        axes = find_axes(path, data)
        latitude, longitude = latitude_order(path, raw[axes.latitude]), longitude_order(path, raw[axes.longitude])
        grid = Grid.from_arrays(latitude.values, longitude.values)
        if not grid.matches(store.grid):
            raise DataError(
                f"{path}: its grid ({grid.describe()}) is not the truth's ({store.grid.describe()}); "
                "emulator regrid IN OUT --like FILE brings it there"
            )
        init, lead = _coordinate(path, raw, _INIT), _coordinate(path, raw, _LEAD)
        member = _find(raw, _MEMBER)
        dims = {"latitude": axes.latitude, "longitude": axes.longitude}
        dims |= {name: str(c.dims[0]) for name, c in (("init_time", init), ("lead_time", lead)) if c.ndim}
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
            init_times=_unique(path, instants_of(path, init), str(init.name)),
            lead_times=_unique(path, _spans(path, lead), str(lead.name)),
            fields=fields,
            vertical=next(iter(kinds), None),
            members=members if members > 1 else 0,
            attributes=dict(raw.attrs),
            dims=dims,
            rows=latitude.rows,
            columns=longitude.rows,
        )
    finally:
        raw.close()


def _wanted(store: Store) -> tuple[str, ...]:
    state = tuple(v.name for v in store.spec.with_role("prognostic", "diagnostic"))
    extra = (*_DERIVED, SURFACE) if store.spec.vertical == "sigma" else ()
    return tuple(dict.fromkeys((*state, *extra)))


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
    units = variable.attrs.get("units", "gpm" if raw_name.lower() in _HEIGHTS else None)
    to_si = conversion(name, units, f"{path}: {raw_name}")
    vertical_dim = level_coordinate(variable)
    other = [d for d in map(str, variable.dims) if d not in (*dims.values(), vertical_dim) and variable.sizes[d] > 1]
    if other:
        raise DataError(f"{path}: {raw_name} has the dimension {', '.join(other)}, unknown in forecast files")
    needed = {d for axis, d in dims.items() if axis != "realization"}
    if name != SURFACE and (lacking := sorted(needed - set(variable.dims))):
        raise DataError(f"{path}: {raw_name} lacks the dimension {', '.join(lacking)}, so it is no forecast; drop it")
    state = {v.name: v for v in store.spec.with_role("prognostic", "diagnostic")}
    on_levels = bool(state[name].levels) if name in state else bool((entry := known(name)) and entry.on_levels)
    minimum = state[name].minimum if name in state else None
    coordinate = vertical_dim or scalar_pressure(variable)
    if not on_levels or coordinate is None or coordinate not in variable.coords:
        if on_levels or (vertical_dim is not None and variable.sizes[vertical_dim] > 1):
            found = "no levels" if on_levels else f"{variable.sizes[str(vertical_dim)]} levels"
            raise DataError(f"{path}: {raw_name} has {found}, the truth's {name} has {'some' if on_levels else 'none'}")
        return ExternalField(raw_name, to_si, constant=name == SURFACE, minimum=minimum), None
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
    at = _level_rows(path, raw_name, values, wanted)
    rows = at if vertical_dim else ()
    field = ExternalField(raw_name, to_si, tuple(map(float, wanted)), vertical_dim, rows, minimum=minimum)
    return field, "pressure" if kind == "pressure" else "sigma"


def _level_rows(path: Location, raw_name: str, have: np.ndarray, wanted: Sequence[float]) -> tuple[int, ...]:
    rows = [np.flatnonzero(np.isclose(have, level, rtol=1e-4, atol=0)) for level in wanted]
    missing = [f"{level:g}" for level, hit in zip(wanted, rows, strict=True) if hit.size != 1]
    if missing:
        there = ", ".join(f"{v:g}" for v in have)
        raise DataError(f"{path}: {raw_name} lacks level {', '.join(missing)} that is verified; it has {there}")
    return tuple(int(hit[0]) for hit in rows)


def _find(raw: xr.Dataset, wanted: _Wanted) -> str | None:
    """The dimension or coordinate that is wanted."""
    by_attribute = [str(c) for c, v in raw.coords.items() if v.attrs.get("standard_name") == wanted.standard_name]
    named = (n for n in (*wanted.names, *by_attribute, *wanted.last_resort) if n in raw.dims or n in raw.coords)
    return next(named, None)


def _coordinate(path: Location, raw: xr.Dataset, wanted: _Wanted) -> xr.DataArray:
    found = _find(raw, wanted)
    what = wanted.standard_name.replace("_", " ")
    if found is None:
        there = ", ".join(map(str, raw.coords))
        raise DataError(f"{path}: no {what} found among its coordinates {there}; name it {wanted.names[0]}")
    if found not in raw.coords or raw[found].ndim > 1:
        raise DataError(f"{path}: {found} has no one-dimensional values, by which the {what} of a forecast is known")
    return raw[found]


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
    seconds = convertible(str(units), "s")
    if seconds is None:
        raise DataError(f"{path}: {coordinate.name} is in {units!r}, which is no unit of time")
    return np.rint(values * (seconds.factor * 1e9)).astype(np.int64).astype("timedelta64[ns]")


def _unique(path: Location, values: np.ndarray, name: str) -> np.ndarray:
    if np.unique(values).size != values.size:
        raise DataError(f"{path}: values of {name} occur twice; keep one of them")
    return values


def _as_slice(rows: np.ndarray) -> slice | np.ndarray:
    """Evenly spaced positions as a slice, which every format reads faster than a list."""
    steps = np.unique(np.diff(rows))
    if rows.size == 1:
        return slice(int(rows[0]), int(rows[0]) + 1)
    if steps.size == 1 and steps[0] > 0:
        return slice(int(rows[0]), int(rows[-1]) + 1, int(steps[0]))
    return rows
