"""Any CF-like NetCDF, Zarr or GRIB file, seen under canonical names, units and orientation.

The one door for all that a user hands to the program: preparation and the forecast command read through ``Source``. A
file is opened lazily and its coordinates are understood once; fields are read in blocks of rows, and come out in SI
units, latitude and longitude ascending, levels top first.
"""

from __future__ import annotations

import logging
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import Literal

import numpy as np
import xarray as xr

from data_prep import clock
from data_prep.errors import DataError, UnreadableError, one_line
from data_prep.grid import Grid
from data_prep.reading import checks
from data_prep.reading.instants import calendar_of, instants_of
from data_prep.reading.locations import Location, is_zarr, locate
from data_prep.reading.lost_chunks import lost_chunks
from data_prep.reading.opening import CHUNK_CACHE_BYTES, open_to_release
from data_prep.reading.positions import Order, grid_of, pick
from data_prep.reading.recognise import (
    Axes,
    find_axes,
    find_variables,
    is_own_forecast,
    level_coordinate,
    on_own_axes,
    over_interval,
    refuse_initial_times,
    refuse_other_dimensions,
    scalar_pressure,
    single_level_pressure,
    vertical_kind,
    without_single_leads,
)
from data_prep.reading.units import Conversion, conversion, convertible, is_amount, unit_of
from data_prep.reading.valid_range import are_invalid, valid_range_of
from data_prep.spec import Variable, Vertical, find_levels
from data_prep.variables import is_accumulation, known

logger = logging.getLogger(__name__)

Extent = Literal["time", "dayofyear", "constant"]

_HIGHEST_PRESSURE_HPA = 1100.0
_LOWEST_BARE_HPA = 500.0  # where levels without a unit end above this, they may be numbers
_MANY_TIMES = 4  # that a file may be decompressed without a word
_KEPT_BYTES = 2**27  # of each variable of a Zarr store; NetCDF's library keeps chunks itself
_DATASET = Path("data set")  # in messages, what came without a file


class NothingAskedError(DataError):
    """A file that holds nothing of what is asked for."""


class ForecastError(DataError):
    """A forecast of this program where analyses are expected."""


@dataclass(frozen=True)
class FoundField:
    """A variable as a file holds it.

    Attributes:
      name: Canonical name.
      raw_name: Name in the file.
      extent: Whether it runs over ``time`` or ``dayofyear``, or is ``constant``.
      levels: Its levels, top first; empty for a surface field.
      level_rows: Positions of ``levels`` on the file's own axis.
      level_axis: The vertical dimension in the file, ``None`` where it has none.
      to_si: From the file's values to SI.
      over_interval: ``sum``, ``mean``, ``maximum`` or ``minimum`` where the file says that values are that over an
        interval, ``sum`` also where unit and name do (rain in mm, radiation in J m-2); empty where not.
      unit_given: Whether the file gives a unit.
      standard_name: CF's, as the file gives it.
      valid: Lowest and highest valid value, in the unit of the file; ``None`` where it gives none.
      pressure: hPa of the one pressure surface that it lies on, where ``levels`` are empty and the file says one.
    """

    name: str
    raw_name: str
    extent: Extent
    levels: tuple[float, ...]
    level_rows: tuple[int, ...]
    level_axis: str | None
    to_si: Conversion
    over_interval: str
    unit_given: bool
    standard_name: str
    valid: tuple[float, float] | None
    pressure: float | None


@dataclass(frozen=True, eq=False)
class _Kept:
    """The last chunk along the rows of a variable of a Zarr store: rows ``[start, stop)`` at these levels."""

    levels: slice | None
    start: int
    stop: int
    values: xr.DataArray


@dataclass(frozen=True, eq=False)
class Source:
    """One file under canonical names; make it with ``open_source``.

    Attributes:
      path: Where it lies.
      grid: Its grid, canonical orientation.
      times: ``datetime64[ns]`` ``(time,)``, ascending, strictly unless duplicates were admitted; empty where the file
        has no time.
      fields: The asked variables that the file holds, by canonical name.
      contents: Names of all variables of the file, for messages.
      bounds: Where precipitation and CF bounds of the times are there: the interval that each belongs to,
        ``datetime64[ns]`` ``(time, 2)``; ``None`` elsewhere.
      calendar: That of the file where it is not the real one, which ``times`` are laid on (``instants``); else empty.
    """

    path: Location
    grid: Grid
    times: np.ndarray
    fields: Mapping[str, FoundField]
    contents: tuple[str, ...]
    bounds: np.ndarray | None
    calendar: str
    _raw: xr.Dataset = field(repr=False)
    _axes: Axes = field(repr=False)
    _latitude: Order = field(repr=False)
    _longitude: Order = field(repr=False)
    _release: Callable[[], None] = field(repr=False)
    _kept: dict[str, _Kept] = field(default_factory=dict, repr=False)
    _one_by_one: dict[str, Lock] = field(default_factory=lambda: defaultdict(Lock), repr=False)

    @property
    def paths(self) -> tuple[Location, ...]:
        """All files that it is made of."""
        return (self.path,)

    @property
    def mirrors_alike(self) -> bool:
        """Whether latitudes that are exchanged in the file come out exchanged."""
        return True

    def refuse_another_surface(self, variable: Variable, whose: str) -> None:
        """Refuses a field on another pressure surface than the variable that it is taken for; see the function."""
        found = self.fields[variable.name]
        refuse_another_surface(f"{self.path}: {found.raw_name}", found.pressure, variable, whose)

    def release(self) -> None:
        """Gives back what the library keeps of an open file, its decoded chunks; reading opens it again."""
        self._kept.clear()
        self._release()

    def slow_chunks(self, name: str, rows: int) -> str | None:
        """Where a file is decompressed over and over if so many rows are read at a time: what is to be done."""
        raw_name = self.fields[name].raw_name
        variable, axis = self._raw[raw_name], self._axes.time
        times = _rows_a_chunk(variable, axis, "chunksizes") or _rows_a_chunk(variable, axis, "chunks")
        if times is None:
            return None
        as_zarr = "chunksizes" not in variable.encoding
        whole = dict(variable.sizes) | {axis: times}
        stored = np.dtype(variable.encoding.get("dtype", variable.dtype))
        again = times // rows
        size = math.prod(whole.values()) * (variable.dtype if as_zarr else stored).itemsize
        if again < _MANY_TIMES or size <= (_KEPT_BYTES if as_zarr else CHUNK_CACHE_BYTES):
            return None
        sizes = ",".join(
            f"{d}/{n if d in (self._axes.latitude, self._axes.longitude) else 1}" for d, n in whole.items()
        )
        faster = (
            f"xarray.open_zarr(IN).drop_encoding().chunk({axis}=1).to_zarr(OUT)"
            if as_zarr
            else f"nccopy -c {sizes} IN OUT"
        )
        return (
            f"{self.path}: {raw_name} is stored in chunks of {times} times, so reading it decompresses all of it some "
            f"{again} times; faster: {faster}"
        )

    def n_rows(self, name: str) -> int:
        """Rows of a variable: times, days of the year, or one."""
        found = self.fields[name]
        axis = self._axes.dayofyear if found.extent == "dayofyear" else self._axes.time
        return int(self._raw[found.raw_name].sizes.get(axis, 1))

    def lost_chunks(self, name: str) -> tuple[int, np.ndarray] | None:
        """How many chunk files a Zarr store of this machine lacks that would read as a number, and at which times.

        ``None`` where there are none, or the file is none such.
        """
        variable, axis = self._raw[self.fields[name].raw_name], self._axes.time
        if not isinstance(self.path, Path) or "chunks" not in variable.encoding:
            return None
        longer = [d for d in variable.dims if variable.sizes[d] > 1]
        if axis not in longer or not is_zarr(self.path):
            return None
        sizes = tuple(variable.sizes[d] for d in longer)
        missing = [variable.encoding[key] for key in ("_FillValue", "missing_value") if key in variable.encoding]
        return lost_chunks(self.path, str(variable.name), sizes, longer.index(axis), np.ravel(missing))

    def read(self, name: str, levels: Sequence[float], start: int = 0, stop: int = 1, step: int = 1) -> np.ndarray:
        """Reads one variable.

        Args:
          name: Canonical name, one of ``fields``.
          levels: Level values, top first; empty for a surface field.
          start, stop, step: Rows of the time (or ``dayofyear``) axis; a constant field has one.

        Returns:
          SI, float32, shape ``(row, latitude, longitude, level)``; a surface field has one level. What was read lies in
          memory in the order of the file, and may be what a data set in memory holds: copy it before changing it.

        Raises:
          DataError: a level is missing, the file cannot be read, or it holds two values for one place.
        """
        found = self.fields[name]
        rows = self.level_rows(found.name, levels)
        variable = self._raw[found.raw_name]
        row_axis = self._axes.dayofyear if found.extent == "dayofyear" else self._axes.time
        selection: dict[str, slice] = {}
        if found.level_axis is not None:
            # One hull instead of a list of rows: the backend reads slices fast and lists slowly.
            selection[found.level_axis] = slice(min(rows), max(rows) + 1)
            rows = [r - min(rows) for r in rows]
        try:
            hull = selection.get(str(found.level_axis))
            block = self._compute(variable.isel(selection), row_axis, slice(start, stop, step), hull)
        except Exception as error:  # noqa: BLE001 - what libraries make of damaged bytes and metadata is anything
            why = "the service may have failed: run the same command again"
            raise UnreadableError(
                f"{self.path}: {found.raw_name} cannot be read ({one_line(error)}); "
                f"{why if isinstance(self.path, str) else 'the file may be damaged'}"
            ) from None
        if found.valid is not None and (invalid := are_invalid(block.values, found.valid)).any():
            _tell_of_invalid(self.path, found.raw_name, found.valid)
            block = block.copy(data=np.where(invalid, np.float32(np.nan), block.values))
        if self._axes.expver in block.dims:
            block = self._join_expver(block)
        axes = (row_axis, self._axes.latitude, self._axes.longitude, found.level_axis)
        values = block.transpose(*(d for d in axes if d in block.dims)).values
        if row_axis not in block.dims:
            values = values[None]
        values = pick(values, np.array(rows), 3) if found.level_axis is not None else values[..., None]
        values = self._orient(values, found.raw_name)
        return found.to_si.apply(values).astype(np.float32, copy=False)

    def _compute(self, variable: xr.DataArray, axis: str | None, rows: slice, levels: slice | None) -> xr.DataArray:
        """These rows, in the file's order: transposing unread data reads it slowly.

        Of a Zarr store whole chunks are read, and the last one is kept, so that blocks that follow each other read each
        chunk once.
        """
        if axis is None or axis not in variable.dims:
            return variable.compute()
        size = variable.sizes[axis]
        chunk, stop = _rows_a_chunk(variable, axis, "chunks") or 1, min(rows.stop, size)
        if chunk <= rows.step or chunk * variable.nbytes > _KEPT_BYTES * size or rows.start >= stop:
            return variable.isel({axis: rows}).compute()
        with self._one_by_one[str(variable.name)]:
            kept = self._kept.get(str(variable.name))
            if kept is None or kept.levels != levels:
                kept = _Kept(levels, 0, 0, variable)
            first, parts = rows.start, []
            if kept.start <= first < kept.stop:
                parts.append(kept.values.isel({axis: slice(first - kept.start, stop - kept.start)}))
                first = kept.stop
            if first < stop:
                begin, end = first // chunk * chunk, min(-(-stop // chunk) * chunk, size)
                values = variable.isel({axis: slice(begin, end)}).compute()
                parts.append(values.isel({axis: slice(first - begin, stop - begin)}))
                edge = (end - 1) // chunk * chunk
                if edge + chunk != kept.start:  # else another thread is ahead
                    tail = values.isel({axis: slice(edge - begin, None)})
                    self._kept[str(variable.name)] = _Kept(levels, edge, end, tail.copy() if begin < edge else tail)
        block = parts[0] if len(parts) == 1 else xr.concat(parts, axis)
        return block.isel({axis: slice(None, None, rows.step)})

    def _orient(self, values: np.ndarray, raw_name: str) -> np.ndarray:
        """Canonical rows and columns; the meridian that closes the circle must repeat the first one."""
        if self._longitude.repeated is not None:
            first, last = values[:, :, 0], values[:, :, self._longitude.repeated]
            if not np.array_equal(first, last, equal_nan=True):
                raise DataError(
                    f"{self.path}: {raw_name} differs between its first and its last meridian, which are the same "
                    "place; drop the last one"
                )
        return pick(pick(values, self._latitude.rows, 1), self._longitude.rows, 2)

    def _join_expver(self, block: xr.DataArray) -> xr.DataArray:
        """Final (1) and preliminary (5) ERA5 as one: each time is given by one of them, and missing in the other."""
        axis = str(self._axes.expver)
        joined = block.isel({axis: 0})
        for i in range(1, block.sizes[axis]):
            other = block.isel({axis: i})
            conflict = joined.notnull() & other.notnull() & (joined != other)
            if conflict.any():
                versions = (
                    " and ".join(str(v) for v in np.atleast_1d(block[axis].values)) if axis in block.coords else ""
                )
                where = conflict.any([d for d in conflict.dims if d != self._axes.time])
                at = f" at {clock.text(where[self._axes.time].values[where.values][0])}" if where.ndim else ""
                raise DataError(
                    f"{self.path}: {block.name} has conflicting values of expver {versions}{at}; "
                    "keep one expver for each time before"
                )
            joined = joined.where(joined.notnull(), other)
        return joined

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
        rows = find_levels(f"{self.path}: {found.raw_name}", found.levels, levels)
        return [found.level_rows[row] for row in rows]


_STARTED = "forecast_reference_time"
_told_of_invalid: set[tuple[Path | str, str]] = set()


def _tell_of_invalid(path: Location, raw_name: str, valid: tuple[float, float]) -> None:
    """Says in the log that values are taken as missing: of each variable once, for the files of a folder are alike."""
    key = (path.parent if isinstance(path, Path) else path), raw_name
    if key not in _told_of_invalid:
        _told_of_invalid.add(key)
        ends = " to ".join(f"{end:g}" for end in valid)
        logger.warning("%s: %s: values outside of the file's valid range, %s, are missing", path, raw_name, ends)


_told_of_forecasts: set[Path | str] = set()
_first_seen: dict[Path | str, tuple[object, object]] = {}


def _tell_of_forecasts(path: Location, everything: xr.Dataset, times: np.ndarray) -> None:
    """Says in the log that a file may be a forecast: one start, in words that simulations use too, and later times.

    Of a folder once, for its files are alike. One lead by itself may be an analysis in a forecast's words, or rain
    since the start; it tells with another lead of the same start beside it.
    """
    folder = path.parent if isinstance(path, Path) else path
    if times.size == 0 or folder in _told_of_forecasts:
        return
    for name, start in everything.variables.items():
        if start.ndim == 0 and start.dtype.kind == "M" and _STARTED in (name, start.attrs.get("standard_name")):
            ahead = clock.hours(times.max() - start.values)
            first_start, first_time = _first_seen.setdefault(folder, (start.values.item(), times.max()))
            of_one_start = times.size > 1 or (first_start == start.values.item() and first_time != times.max())
            if ahead > 0 and of_one_start:
                _told_of_forecasts.add(folder)
                logger.warning(
                    "%s: its times run to %g h after its %s, so it is a forecast, or a simulation; a network learns "
                    "from analyses or from a simulation, of forecasts it would learn their model",
                    *(path, ahead, name),
                )


def warn_of_slow_chunks(reads: Iterable[tuple[Source, str, int]]) -> None:
    """Says in the log what ``Source.slow_chunks`` says of sources, variables and rows at a time: once, of the first."""
    told = (source.slow_chunks(name, rows) for source, name, rows in reads)
    if (first := next(filter(None, told), None)) is not None:
        logger.warning("%s", first)


def warn_of_units(sources: Iterable[Source]) -> None:
    """Says in the log which variables that the program knows come without a unit, and which one they are taken in."""
    told: set[str] = set()
    for source in sources:
        # shares have none, what the program does not know keeps that of its file, and heights say theirs by name
        taken = {
            found.raw_name: found.to_si.units
            for found in source.fields.values()
            if not found.unit_given and not found.to_si.changes and found.to_si.units != "1"
        }
        if taken := {name: units for name, units in taken.items() if name not in told}:
            pairs = ", ".join(f"{name} ({units})" for name, units in taken.items())
            logger.warning("%s: no units attribute, so values are taken to be in SI: %s", source.path, pairs)
        told |= set(taken)


def open_source(
    path: str | Path | xr.Dataset,
    names: Mapping[str, Sequence[str]],
    vertical: Vertical | None,
    *,
    admit_duplicates: bool = False,
    admit_forecasts: bool = False,
) -> Source:
    """Opens a file lazily and understands its coordinates.

    Args:
      path: A NetCDF or GRIB file, a Zarr folder, the URL of a Zarr store, or what xarray made of one.
      names: Canonical name to the names it may have in the file, for every variable of interest; those that the file
        lacks are left out. Where the canonical name itself is among them, any known spelling of it will do.
      vertical: The vertical coordinate that variables with levels must have.
      admit_duplicates: Leave times that occur twice to the caller.
      admit_forecasts: Take forecasts of this program for analyses.

    Raises:
      DataError: one line on what the file lacks or what is wrong with it.
    """
    if isinstance(path, xr.Dataset):
        file: Location = _DATASET
        opened, release = path, lambda: None
    else:
        file = locate(path)
        opened, release = open_to_release(file)
    try:
        return _understood(
            file, opened, release, names, vertical, admit_duplicates=admit_duplicates, admit_forecasts=admit_forecasts
        )
    except BaseException:
        release()
        raise


def _understood(
    path: Location,
    opened: xr.Dataset,
    release: Callable[[], None],
    names: Mapping[str, Sequence[str]],
    vertical: Vertical | None,
    *,
    admit_duplicates: bool,
    admit_forecasts: bool,
) -> Source:
    """What ``open_source`` makes of an open file; ``release`` closes it until it is read again."""
    everything = on_own_axes(opened)
    if not admit_forecasts and is_own_forecast(everything):
        raise ForecastError(f"{path}: is a forecast of {everything.attrs['forecaster']}; take it out of the analyses")
    contents = tuple(str(v) for v in everything.data_vars)
    present = find_variables(path, everything, names)
    if not present:
        asked = ", ".join(" or ".join(dict.fromkeys(candidates)) for candidates in names.values())
        raise NothingAskedError(f"{path}: holds none of {asked}; it holds {', '.join(contents) or 'no variables'}")
    raw = without_single_leads(everything[list(dict.fromkeys(present.values()))])
    axes = find_axes(path, raw)
    refuse_initial_times(path, raw, axes)
    refuse_other_dimensions(path, raw, axes)
    _check_days(path, raw, axes.dayofyear)
    grid, latitude, longitude = grid_of(path, raw[axes.latitude], raw[axes.longitude])
    times = _times(path, raw, axes, admit_duplicates=admit_duplicates)
    if not admit_forecasts:
        _tell_of_forecasts(path, everything, times)
    found = {name: _found_field(path, raw[raw_name], name, axes, vertical) for name, raw_name in present.items()}
    for level_axis in {f.level_axis for f in found.values() if f.levels and f.level_axis is not None}:
        _check_levels(path, everything, everything[level_axis], vertical)
    own = {axes.latitude, axes.longitude, axes.time, axes.dayofyear, axes.expver}
    own |= {f.level_axis for f in found.values()}
    squeezed = raw.squeeze([d for d in raw.dims if d not in own and raw.sizes[d] == 1], drop=True)
    squeezed = squeezed.drop_vars([axes.latitude, axes.longitude])  # of each file its own, with an index
    bounds = _bounds(path, everything, raw, axes) if any(is_accumulation(name) for name in found) else None
    calendar = "" if axes.instants is None else calendar_of(raw[axes.instants])
    return Source(path, grid, times, found, contents, bounds, calendar, squeezed, axes, latitude, longitude, release)


def in_units(source: Source, name: str, units: str, whose: str) -> Source:
    """The same file, with a variable in the unit that somebody else gives it.

    The program turns what it knows into SI; what it does not know has the unit of its file, and another in another.

    Args:
      source: The file.
      name: One of its fields.
      units: The unit that is wanted.
      whose: Whose it is, for the message.

    Raises:
      DataError: the file's unit is not given, or cannot be turned into it.
    """
    found = source.fields[name]
    if found.to_si.units == units:
        return source
    change = convertible(found.to_si.units, units) if found.unit_given else None
    if change is None:
        has = f"is in {found.to_si.units!r}" if found.unit_given else "has no unit"
        raise DataError(
            f"{source.path}: {found.raw_name} {has}, {whose} is in {units!r}; set its units attribute to what the "
            "values are in, or convert them before"
        )
    if change.changes:
        logger.info("%s: %s is turned from %s into %s", source.path, found.raw_name, found.to_si.units, units)
    return replace(source, fields={**source.fields, name: replace(found, to_si=found.to_si.then(change))})


def refuse_another_surface(where: str, pressure: float | None, variable: Variable, whose: str) -> None:
    """Refuses a field without levels that lies on another pressure surface than the variable that it is taken for.

    Args:
      where: Of which file, for the message.
      pressure: hPa; what names no surface may lie on any.
      variable: What it is taken for.
      whose: Whose that is, for the message.

    Raises:
      DataError: they differ.
    """
    if not variable.levels and pressure is not None and pressure != variable.pressure:
        there = "on no pressure level" if variable.pressure is None else f"at {variable.pressure:g} hPa"
        raise DataError(
            f"{where} lies at {pressure:g} hPa, {whose} {there}; take the right one, or set the level coordinate right"
        )


def clip_to_minimum(values: np.ndarray, minimum: float | None) -> np.ndarray:
    """The lower bound of ``Variable.minimum``, one function for truth and inputs, once they have been checked."""
    return values if minimum is None else np.maximum(values, np.float32(minimum))


def _rows_a_chunk(variable: xr.DataArray, axis: str | None, key: str) -> int | None:
    """How many rows along an axis a chunk of a file holds, by what its format calls the sizes; ``None`` if unknown."""
    chunk = variable.encoding.get(key)
    if chunk is None or len(chunk) != variable.ndim or axis not in variable.dims:
        return None
    return int(chunk[variable.dims.index(axis)])


def _times(path: Location, raw: xr.Dataset, axes: Axes, *, admit_duplicates: bool) -> np.ndarray:
    if axes.instants is None:
        if axes.time is not None and axes.time not in raw.coords:
            raise DataError(
                f"{path}: the dimension {axes.time} has no coordinate values; add its instants as a variable "
                f"{axes.time}({axes.time}) with units such as 'hours since 1900-01-01'"
            )
        return np.empty(0, "datetime64[ns]")
    times = instants_of(path, raw[axes.instants])
    checks.check_time_axis(times, str(path), admit_duplicates=admit_duplicates)
    return times


def _bounds(path: Location, everything: xr.Dataset, raw: xr.Dataset, axes: Axes) -> np.ndarray | None:
    """The lower and upper bounds of a file's times, ``(time, 2)``; ``None`` where it has none that are instants."""
    if axes.instants is None:
        return None
    instants = raw[axes.instants]
    name = instants.attrs.get("bounds", instants.encoding.get("bounds"))
    if name not in everything.variables:
        return None
    bounds = everything[name]
    if bounds.ndim != instants.ndim + 1 or bounds.shape[-1] != 2 or bounds.dtype.kind not in "MO":
        return None
    return np.sort(np.stack([instants_of(path, bounds[..., i]) for i in (0, 1)], axis=1), axis=1)


def _check_days(path: Location, raw: xr.Dataset, dim: str | None) -> None:
    """Refuses a yearly table that is not in the order of the year; without numbers it is taken to be."""
    if dim is None or dim not in raw.coords:
        return
    days = raw[dim].values
    if not np.array_equal(days, np.arange(1, days.size + 1)):
        raise DataError(
            f"{path}: {dim} runs from {days[0]} to {days[-1]}, not in steps of 1 from 1 on; sort the file by it and "
            f"number the days 1 to {clock.CALENDAR_DAYS}"
        )


def _levels(
    path: Location, coordinate: xr.DataArray, vertical: Vertical | None
) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Level values top first (hPa or sigma) and their rows; empty for a single level of another kind than asked."""
    kind, values = vertical_kind(coordinate)
    if values.size == 0:
        raise DataError(f"{path}: the {coordinate.name} axis is empty")
    if vertical is None or kind != vertical:
        if values.size > 1:
            asked = f"data.vertical is {vertical}" if vertical else "data.vertical is not set"
            units = coordinate.attrs.get("units", "")
            raise DataError(
                f"{path}: {coordinate.name} holds {values.size} levels of kind {kind} (unit {units!r}), but {asked}"
            )
        return (), (0,)
    if kind == "pressure" and values.max() > _HIGHEST_PRESSURE_HPA:
        raise DataError(
            f"{path}: {coordinate.name} reaches {values.max():g} hPa by its units "
            f"{coordinate.attrs.get('units', '')!r}, more than the air has; set them right (Pa?)"
        )
    rows = np.argsort(values)
    if not (np.diff(values[rows]) > 0).all() or np.isnan(values).any():
        there = ", ".join(f"{v:g}" for v in values)
        raise DataError(f"{path}: {coordinate.name} holds a level twice, or none: {there}; drop or mend it")
    return tuple(float(np.round(v, 6)) for v in values[rows]), tuple(int(r) for r in rows)


_DIFFERENCE = re.compile(
    r"(?<![a-z])(anom(al(y|ies))?|err(or)?|difference|dtr|departure|deviation|increment|bias)(?![a-z])|diurnal.*range",
    re.I,
)


def _is_difference(variable: xr.DataArray, name: str) -> bool:
    """Whether a temperature is one between two, so that degrees are kelvins: CF 1.11 says so, and otherwise names do,
    of what the program does not know."""
    if "difference" in str(variable.attrs.get("units_metadata", "")):
        return True
    called = (str(variable.name), *(str(variable.attrs.get(key, "")) for key in ("standard_name", "long_name")))
    return known(name) is None and _DIFFERENCE.search(" ".join(called)) is not None


_told_of_levels: set[tuple[Path | str, str]] = set()


def _check_levels(path: Location, data: xr.Dataset, coordinate: xr.DataArray, vertical: Vertical | None) -> None:
    """Refuses sigma under a model's top, and tells of levels that are taken as hPa without a word of the file.

    Args:
      path: For messages; of the second the files of a folder are alike.
      data: The whole file.
      coordinate: Its levels.
      vertical: What they are taken as.

    Raises:
      DataError: ``formula_terms`` of sigma name a pressure at the top, which is not zero: p = ptop + sigma (ps - ptop).
    """
    top = re.search(r"\bptop: *(\w+)", str(coordinate.attrs.get("formula_terms", "")))
    if vertical == "sigma" and top is not None and top[1] in data.variables and (data[top[1]].values != 0).any():
        at = f"{float(data[top[1]].values.flat[0]):g} {data[top[1]].attrs.get('units', '')}".rstrip()
        raise DataError(
            f"{path}: {coordinate.name} is sigma beneath a model top at {at} ({top[1]}), and sigma is taken as "
            "pressure over surface pressure; interpolate to pressure levels before"
        )
    key = (path.parent if isinstance(path, Path) else path), str(coordinate.name)
    bare = str(coordinate.attrs.get("units", "")) in ("", "1")
    if vertical == "pressure" and bare and coordinate.values.max() < _LOWEST_BARE_HPA and key not in _told_of_levels:
        _told_of_levels.add(key)
        ends = f"{coordinate.values.min():g} to {coordinate.values.max():g}"
        logger.warning(
            "%s: %s has no unit, and its values, %s, are taken as hPa; are they numbers of model levels?",
            *(path, coordinate.name, ends),
        )


def _found_field(
    path: Location, variable: xr.DataArray, name: str, axes: Axes, vertical: Vertical | None
) -> FoundField:
    extent: Extent = "constant"
    if axes.dayofyear in variable.dims:
        extent = "dayofyear"
    elif axes.time in variable.dims or (axes.time is None and axes.instants in variable.coords):
        extent = "time"  # a scalar time says that the whole file belongs to it
    entry = known(name)
    axis = level_coordinate(variable)
    levels: tuple[float, ...] = ()
    rows: tuple[int, ...] = (0,)
    if axis is not None and axis in variable.coords:
        if entry is None or entry.on_levels or variable.sizes[axis] > 1:  # not the height of a surface field
            levels, rows = _levels(path, variable[axis], vertical)
    elif axis is not None and variable.sizes[axis] > 1:
        raise DataError(
            f"{path}: the dimension {axis} of {variable.name} has no coordinate values, so its {variable.sizes[axis]} "
            "levels cannot be told apart; give it some (hPa or sigma)"
        )
    elif entry is not None and entry.on_levels and (scalar := scalar_pressure(variable)) is not None:
        levels, rows = _levels(path, variable[scalar], vertical)
    to_si = conversion(name, unit_of(variable), f"{path}: {variable.name}")
    if _is_difference(variable, name):
        to_si = replace(to_si, offset=0.0)
    standard_name = str(variable.attrs.get("standard_name", ""))
    over = over_interval(variable)
    if not over and extent == "time" and is_amount(name, standard_name, to_si.units):
        over = "sum"
    return FoundField(
        name=name,
        raw_name=str(variable.name),
        extent=extent,
        levels=levels,
        level_rows=rows,
        level_axis=axis,
        to_si=to_si,
        over_interval=over.replace("point", ""),
        standard_name=standard_name,
        unit_given="units" in variable.attrs,
        valid=valid_range_of(variable),
        pressure=None if levels else single_level_pressure(variable),
    )
