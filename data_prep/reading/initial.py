"""Initial conditions of a forecast, from whatever files hold the model's variables."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import reduce
from pathlib import Path

import numpy as np
import xarray as xr

from data_prep import clock
from data_prep.errors import DataError, first_and_more
from data_prep.grid import Grid
from data_prep.reading import checks
from data_prep.reading.locations import Location
from data_prep.reading.sources import (
    ForecastError,
    NothingAskedError,
    Source,
    clip_to_minimum,
    in_units,
    open_source,
    warn_of_units,
)
from data_prep.spec import Channel, StateSpec, Variable, Vertical, unstack_channels
from data_prep.variables import accumulation_hours, is_accumulation

logger = logging.getLogger(__name__)


def read_initial(
    files: str | Path | xr.Dataset | Sequence[Source],
    spec: StateSpec,
    grid: Grid,
    time: np.datetime64 | str | None = None,
    names: Mapping[str, str] | None = None,
    *,
    fill_nan: bool = False,
    timestep: np.timedelta64 | None = None,
) -> xr.Dataset:
    """Initial conditions for a forecast, from whatever holds the model's variables on its grid.

    Args:
      files: A NetCDF or GRIB file, a Zarr folder, the URL of a Zarr store, or what xarray made of one; or several that
        hold the variables together, as ``initial_sources`` opens them.
      spec: What the model needs: prognostic variables and persisted forcings; diagnostic ones are taken along where the
        files hold all their levels, for the references that need them.
      grid: The model's grid.
      time: Which time, ISO 8601 if text; the last that all hold by default.
      names: Canonical name to name in the file, where they differ; either name is accepted.
      fill_nan: Fill NaN in forcings as training did (``data.nan: fill_mean``); otherwise they are refused.
      timestep: The model's, over which precipitation is summed where the file's times are closer; as preparation does.

    Returns:
      Canonical fields with dims ``(time, [level,] latitude, longitude)``: one time, in memory, possible, and finite but
      for diagnostic ones: rain may well be missing at an initial time.

    Raises:
      DataError: one line on what is missing or wrong.
    """
    sources = initial_sources([files], spec, names) if isinstance(files, str | Path | xr.Dataset) else [*files]
    needed, where = _needed(spec), _where(sources)
    times = initial_times(sources, spec)
    held = _times_of(sources, [v.name for v in needed])
    for source in sources:
        if not source.grid.matches(grid):
            raise DataError(
                f"{source.path}: its grid is {source.grid.describe()}, the model's {grid.describe()}; "
                "emulator regrid IN OUT --like FILE brings it there, if it covers that"
            )
    instant = _instant_of(where, times, time, held)
    logger.info("initial time %s of %s", clock.text(instant), where)
    taken: list[Channel] = []
    values: list[np.ndarray] = []
    for variable in (*needed, *spec.with_role("diagnostic")):
        holders = [s for s in sources if variable.name in s.fields and instant in s.times]
        holder = next(iter(holders), None)
        levels = set() if holder is None else set(holder.fields[variable.name].levels)
        if holder is None or (variable.role == "diagnostic" and not set(variable.levels) <= levels):
            continue
        for source in holders:
            source.refuse_another_surface(variable, "the model's")
        field_values = _initial_field(holder, variable, instant, timestep)
        given = field_values
        if variable.role == "diagnostic":  # no network reads these, which may be missing, in parts or as a whole
            given = checks.fill_with_mean(field_values)
        else:
            for other in holders[1:]:
                if not checks.are_one_field(field_values, _initial_field(other, variable, instant, timestep)):
                    raise DataError(
                        f"{other.path}: {variable.name} at {clock.text(instant)} differs from what {holder.path} "
                        "holds; give one of them alone"
                    )
            if fill_nan and variable.role == "forcing":
                given = field_values = checks.fill_with_mean(field_values)
        if variable.role != "diagnostic" or not np.isnan(given).any():
            at = np.array([instant])
            checks.check_values(given, variable.channels, spec, at, str(holder.path), "choose another time")
        taken += variable.channels
        values.append(clip_to_minimum(field_values, variable.minimum))
    coords = {"time": ("time", np.array([instant]), {"standard_name": "time", "axis": "T"})}
    return unstack_channels(np.concatenate(values, axis=-1), spec, tuple(taken), grid, coords)


def initial_sources(
    files: Sequence[Location | xr.Dataset], spec: StateSpec, names: Mapping[str, str] | None = None
) -> list[Source]:
    """Files that hold the initial fields of a forecast together, opened for ``read_initial`` in the model's units.

    Some may lack variables; those that hold nothing of use, such as static fields alone, are left aside, and so are
    forecasts of this program, but for one that is given alone. Units come before files are stacked by their levels,
    whose parts are read by their own.

    Raises:
      DataError: one line on what one of them lacks or what is wrong with it; or there is none.
    """
    if not files:
        raise DataError("no file with initial fields is named")
    sources: list[Source] = []
    aside: list[DataError] = []
    for file in files:
        try:
            sources.append(open_source(file, *_asked(spec, names)))
        except (NothingAskedError, ForecastError) as error:
            aside.append(error)
    if not sources and len(files) == 1 and isinstance(aside[0], ForecastError):
        sources, aside = [open_source(files[0], *_asked(spec, names), admit_forecasts=True)], []
        logger.warning("%s: is a forecast itself; this one goes on from there", sources[0].path)
    if not sources:
        raise aside[0]
    for why in aside:
        logger.warning("%s: the file is left aside", why)
    warn_of_units(sources)
    for number, source in enumerate(sources):
        if source.calendar:
            logger.warning(
                "%s: is on the calendar %s; dates here are the real calendar's", source.path, source.calendar
            )
        for name in source.fields:
            sources[number] = in_units(sources[number], name, spec[name].units, "the model's")
    return sources


@contextmanager
def released(sources: Sequence[Source]) -> Iterator[None]:
    """Releases sources at its end, whatever happened."""
    try:
        yield
    finally:
        for source in sources:
            source.release()


def _needed(spec: StateSpec) -> tuple[Variable, ...]:
    return (*spec.with_role("prognostic"), *(v for v in spec.with_role("forcing") if v.known == "persisted"))


def _asked(spec: StateSpec, names: Mapping[str, str] | None) -> tuple[dict[str, tuple[str, str]], Vertical | None]:
    variables = (*_needed(spec), *spec.with_role("diagnostic"))
    return {v.name: ((names or {}).get(v.name, v.name), v.name) for v in variables}, spec.vertical


def initial_times(sources: Sequence[Source], spec: StateSpec) -> np.ndarray:
    """The times at which files hold together what a model needs to start, ascending.

    Raises:
      DataError: one lacks its times, a variable is missing, or there is no such time.
    """
    where, needed = _where(sources), [v.name for v in _needed(spec)]
    if missing := [name for name in needed if all(name not in source.fields for source in sources)]:
        there = dict.fromkeys(name for source in sources for name in source.contents)
        raise DataError(f"{where}: missing {', '.join(missing)}; it holds {', '.join(there)}")
    if timeless := next((source for source in sources if source.times.size == 0), None):
        raise DataError(f"{timeless.path}: no time coordinate; give the initial time as a coordinate named time")
    held = _times_of(sources, needed)
    shared = reduce(np.intersect1d, held.values())
    if shared.size == 0:
        ends = "; ".join(f"{name} to {clock.text(times[-1])}" for name, times in held.items())
        raise DataError(f"{where}: no time at which all variables are there ({ends})")
    return shared


def _times_of(sources: Sequence[Source], names: Sequence[str]) -> dict[str, np.ndarray]:
    """The times at which each variable is in one of the files, ascending."""
    return {name: np.unique(np.concatenate([s.times for s in sources if name in s.fields])) for name in names}


def _where(sources: Sequence[Source]) -> str:
    return first_and_more([source.path for source in sources])


def _instant_of(
    where: str, shared: np.ndarray, time: np.datetime64 | str | None, held: Mapping[str, np.ndarray]
) -> np.datetime64:
    """The time that is asked for, or the last one, of those at which all variables are there; ``held`` are of each."""
    if time is None:
        return shared[-1]
    if isinstance(time, datetime) and time.tzinfo is not None:
        time = time.astimezone(UTC).replace(tzinfo=None)
    try:
        instant = clock.parse_instant(time) if isinstance(time, str) else np.datetime64(time)
    except ValueError as error:
        why = error if isinstance(time, str) else f"{time} is no time; give a datetime64, or write it in ISO 8601"
        raise DataError(f"{where}: {why}") from None
    instant = instant.astype("datetime64[ns]")
    if instant not in shared:
        lacking = [name for name, times in held.items() if instant not in times]
        what = f"no {', '.join(lacking)} at {time}" if len(lacking) < len(held) else f"no time {time}"
        span = " to ".join(clock.text(t) for t in shared[[0, -1]])
        raise DataError(f"{where}: {what}; all is there at {shared.size} times from {span}")
    return instant


def _initial_field(
    source: Source, variable: Variable, instant: np.datetime64, timestep: np.timedelta64 | None
) -> np.ndarray:
    """One time of a variable, precipitation summed over the step that ends there: NaN of a diagnostic that cannot be.

    Raises:
      DataError: times to be summed are missing, too far apart, or their sums end elsewhere, and the network needs the
        sum.
    """
    name, times = variable.name, source.times
    row = int(np.flatnonzero(times == instant)[0])
    if source.fields[name].extent == "dayofyear":
        row = int(clock.day_of_year(times[row : row + 1])[0]) - 1
    if source.fields[name].extent == "constant" and variable.role == "prognostic":
        raise DataError(f"{source.path}: {name} has no time, beside fields that have; give it at the initial time")
    if timestep is None or not is_accumulation(name):
        return source.read(name, variable.levels, row, row + 1)
    raw_name = source.fields[name].raw_name
    count, interval = 1, timestep
    named = accumulation_hours(raw_name) == clock.hours(timestep)
    if not named and times.size > 1:
        interval = np.diff(times).min()
        count = max(1, int(timestep // interval))
    first = row + 1 - count
    unknown = np.full((1, *source.grid.shape, len(variable.channels)), np.nan, np.float32)
    if not named and times.size == 1 and source.bounds is None and variable.role == "diagnostic":
        return unknown  # summed over what?
    if timestep % interval != np.timedelta64(0, "ns"):
        length = f"{clock.hours(timestep):g}"
        why = f"{length} h, and its times are {clock.hours(interval):g} h apart"
        remedy = f"sum it before; if it is such a sum, call it total_precipitation_{length}hr in the file"
    elif first < 0 or times[row] - times[first] != (count - 1) * interval:
        why = f"the {count} times that lead to {clock.text(times[row])}, and some are missing"
        remedy = "add them, or choose a later time"
    elif source.bounds is not None and not _fill_step(source.bounds[first : row + 1], times[first : row + 1], timestep):
        why = f"the {clock.hours(timestep):g} h before {clock.text(times[row])}, which bounds of its times contradict"
        remedy = "sum it over these, at a time that is the end of the sum"
    else:
        raw = source.read(name, variable.levels, first, row + 1)
        return raw if count == 1 else raw.sum(axis=0, keepdims=True)
    if variable.role == "diagnostic":
        return unknown
    raise DataError(f"{source.path}: {raw_name} is to be summed over {why}; {remedy}")


def _fill_step(bounds: np.ndarray, times: np.ndarray, timestep: np.timedelta64) -> bool:
    """Whether sums over these bounds end at their times, and together are one over a step."""
    return bool((bounds[:, 1] == times).all()) and bounds[-1, 1] - bounds[0, 0] == timestep
