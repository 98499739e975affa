"""Forecasts that are handed over in memory or by name: in our own form or another centre's, and where they lie.

What is not in our form is read as another centre's, whose units and order are made out; of what we made, why is said.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import xarray as xr

from data_prep.errors import DataError, UserError
from data_prep.files.disk import DiskError
from data_prep.files.netcdf_file import write_netcdf
from data_prep.preparation.store import Split, Store
from data_prep.reading.locations import Location
from data_prep.reading.opening import format_of, open_lazily
from data_prep.reading.recognise import SIGNATURE
from data_prep.spec import level_dim
from data_prep.variables import SURFACE
from emulator.bounds import ForecastStoppedError
from emulator.evaluation.external_files import Places, files_at, locate_all, open_forecasts_at, shown
from emulator.evaluation.forecast_file import describe_time, describe_times, wanted_inits
from emulator.forecast_form import AXES, open_forecasts
from emulator.forecast_io import ForecastWriter

logger = logging.getLogger(__name__)

Given: TypeAlias = xr.Dataset | str | Path | Sequence[str | Path]
"""Forecasts as a user hands them over: in memory, or in a file, a folder, a pattern of files or several of these."""


def named(name: str, given: Given) -> str:
    """What forecasts are called in messages."""
    return f"forecasts.{name}" if isinstance(given, xr.Dataset) else shown(locate_all(given))


@contextmanager
def named_as_given(folder: Path) -> Iterator[None]:
    """What is said of a data set that was written into this folder has the name that the user gave it, and no path.

    Where it could not be written its place is what matters.
    """
    try:
        yield
    except DiskError:
        raise
    except UserError as error:
        named = re.sub(rf"{re.escape(str(folder))}/([\w-]+)\.nc", r"forecasts.\1", str(error))
        if named == str(error):
            raise
        raise type(error)(named) from None


def as_file(name: str, forecast: Given, folder: Path, store: Store) -> Places:
    """Where a forecast lies; data sets are written first."""
    if not isinstance(forecast, xr.Dataset):
        return locate_all(forecast)
    path = folder / f"{name}.nc"
    forecast = _storable(forecast)
    if not _is_own(forecast, name, store):
        write_netcdf(forecast, path)
        return path
    constants = {SURFACE: forecast[SURFACE]} if SURFACE in forecast else {}
    inits, leads = forecast["init_time"].values, forecast["lead_time"].values
    with ForecastWriter(path, inits, leads, constants, with_holes=True) as writer:  # under a mask
        fields = [key for key, field in forecast.items() if {"init_time", "lead_time"} <= set(field.dims)]
        try:
            writer.write(forecast[fields].load())  # an opened file holds more: the pressure at the model's top
        except ForecastStoppedError as error:
            raise DataError(f"{str(error).partition(';')[0]}; is it in the unit of the truth?") from None
        writer.set_attributes({str(key): value for key, value in forecast.attrs.items()})
    return path


def _storable(forecast: xr.Dataset) -> xr.Dataset:
    """Without the attributes that Zarr holds and NetCDF cannot: null, true or false, sections.

    Fields are stored as they are: how an opened file packed them may not hold what they have become since.
    """
    out = forecast.copy()
    for field in out.values():
        if field.dtype.kind == "f":
            field.encoding = {}
    owners: list[Any] = [out, *out.variables.values()]
    for owner in owners:
        kinds = {k: np.asarray(v).dtype.kind for k, v in owner.attrs.items()}
        owner.attrs = {k: v for k, v in owner.attrs.items() if kinds[k] in "iufUS"}
    return out


def own_file(places: Places, store: Store) -> Path | None:
    """The file, where there is one alone and in our own form.

    Raises:
      DataError: there is no file, or it cannot be read.
    """
    files = files_at(places)
    return Path(files[0]) if len(files) == 1 and _is_own_file(files[0], store) else None


def _is_own_file(path: Location, store: Store) -> bool:
    if not isinstance(path, Path) or (path.exists() and format_of(path) != "NetCDF"):
        return False  # unopened: that takes long of GRIB
    with open_lazily(path) as dataset:
        return _is_own(dataset, path.stem, store)


def _is_own(forecast: xr.Dataset, name: str, store: Store) -> bool:
    """Whether we made them, and nobody has changed their form since; that is said."""
    if not forecast.attrs.keys() >= SIGNATURE:
        return False
    if (why := _why_not_ours(forecast, store)) is not None:
        logger.info("%s: read as another centre's forecasts are: %s", name, why)
    return why is None


def _why_not_ours(forecast: xr.Dataset, store: Store) -> str | None:
    """What it is in forecasts of ours that their readers could not rely on; ``None`` where they can on all."""
    dims = set(map(str, forecast.dims))
    if strange := {d for d in dims.difference(AXES) if not d.startswith("level")}:
        return f"there is a dimension {min(strange)}"
    if lacking := {"init_time", "lead_time", "latitude", "longitude"} - dims:
        return f"there is no dimension {min(lacking)}"
    if empty := [d for d, size in forecast.sizes.items() if size == 0]:
        return f"{empty[0]} is empty"
    for dim in sorted(dims - {"realization"}):
        axis = forecast.get_index(dim)
        if not (axis.is_monotonic_increasing and axis.is_unique):
            return f"{dim} does not ascend"
    if forecast["longitude"][0] < 0:
        return "longitudes are below 0"
    lead = forecast["lead_time"]
    if lead.dtype.kind != "m" and "dtype" not in lead.attrs:  # by which xarray decodes them
        return "leads are no spans of time"
    if lead.values.astype(np.int64)[0] <= 0:
        return "the initial time itself is among the leads"
    if forecast.sizes.get("realization") == 1:
        return "an ensemble has one member"
    ours = store.spec.state_variables
    fields = {str(n): f for n, f in forecast.items() if {"init_time", "lead_time"} <= {*f.dims}}
    if renamed := fields.keys() - ours.keys():
        return f"the truth has no {min(renamed)}"
    for name, field in fields.items():
        if field.attrs.get("units", ours[name].units) != ours[name].units:
            return f"{name} is in {field.attrs['units']}"
        if ours[name].levels and not _has_levels(field, ours[name].levels):
            return f"{name} is on other levels than the truth"
    return None


def _has_levels(field: xr.DataArray, levels: Sequence[float]) -> bool:
    """Whether it lies on these levels, in this order."""
    dim = level_dim(field)
    found = np.empty(0) if dim is None else field[dim].values
    same = found.shape == (len(levels),) and found.dtype.kind in "fiu"
    return same and np.allclose(found, levels, rtol=1e-4, atol=0)


def times_to_refer_to(
    paths: Mapping[str, Places], external: Container[str], store: Store, split: Split
) -> tuple[np.ndarray, np.ndarray]:
    """Initial times and leads for references: of the first forecasts in our form, else of the first of another centre,
    its gaps filled (see ``wanted_inits``).

    Raises:
      DataError: a lead is none that the truth verifies, or all are the initial time.
    """
    own = next((path for name, path in paths.items() if name not in external), None)
    if own is not None:
        assert not isinstance(own, tuple)
        with open_forecasts(Path(own)) as file:
            return file["init_time"].values, file["lead_time"].values
    others = [open_forecasts_at(places, store) for places in paths.values()]
    other = others[0]
    steps = other.lead_times / store.timestep
    if (odd := other.lead_times[steps % 1 != 0]).size:
        raise DataError(
            f"{other.path}: leads {describe_times(odd)} are no multiples of the truth's time step, "
            f"{describe_time(store.timestep)}; leave them out, or give numbers their unit (bare ones are hours)"
        )
    leads = np.sort(other.lead_times[steps > 0])
    if leads.size == 0:
        raise DataError(f"{other.path}: no lead is later than the initial time, so there is nothing to verify")
    return wanted_inits(others, leads, store, split), leads
