"""The form of forecast files, to which whoever reads one holds it; ``forecast_io`` writes them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import netCDF4
import xarray as xr

from data_prep.errors import DataError, one_line
from data_prep.variables import SURFACE

AXES = ("init_time", "lead_time", "realization", "level", "latitude", "longitude")
"""Dimensions of forecasts, in their order."""


def open_forecasts(path: Path) -> xr.Dataset:
    """Opens a forecast file lazily and checks its form; who reads its fields does so inside ``disk.reading``.

    Raises:
      DataError: it cannot be read, or lacks a dimension that forecast files have.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # xarray of 2025 about spans without the attribute dtype
            dataset = xr.open_dataset(path, engine="netcdf4")
    except (OSError, RuntimeError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise DataError(f"{path}: not a readable NetCDF file ({one_line(error)})") from None
    missing = {"init_time", "lead_time", "latitude", "longitude"} - set(map(str, dataset.dims))
    if missing:
        raise DataError(
            f"{path}: no forecast file, it lacks the dimensions {', '.join(sorted(missing))}; "
            f"it has {', '.join(map(str, dataset.dims))}"
        )
    if dataset["lead_time"].dtype.kind != "m":
        raise DataError(f"{path}: lead_time must decode to a time span; give it units and the attribute dtype")
    if (wrong := _wrong_form(dataset)) is not None:
        raise DataError(f"{path}: no sound forecast file: {wrong}; make it again")
    return dataset


def forecast_attributes(path: Path) -> dict[str, Any]:
    """What a forecast file says of itself, without a look at its fields.

    Raises:
      DataError: it cannot be read.
    """
    try:
        with netCDF4.Dataset(path) as file:
            return dict(file.__dict__)
    except (OSError, RuntimeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a readable NetCDF file ({one_line(error)})") from None


def _wrong_form(dataset: xr.Dataset) -> str | None:
    """The first axis or field that is not as ``ForecastWriter`` writes it."""
    for dim in set(AXES) & set(dataset.dims):
        axis = dataset[dim]
        kinds = {"init_time": "M", "lead_time": "m"}.get(str(dim), "fiu")
        if axis.dims != (dim,) or axis.size == 0 or axis.dtype.kind not in kinds or bool(axis.isnull().any()):
            return f"its axis {dim} is empty, or holds what is no {'time' if kinds in 'Mm' else 'number'}"
        if not axis.to_index().is_unique:
            return f"its axis {dim} holds a value twice"
    for name, field in dataset.data_vars.items():
        dims, plane = set(field.dims), {"latitude", "longitude"}
        more = {d for d in dims - set(AXES) if not str(d).startswith("level")}  # there may be several sets of levels
        whole = dims == plane if name == SURFACE else not more and dims >= plane | {"init_time", "lead_time"}
        if dims & plane and (field.dtype.kind not in "fiu" or not whole):
            return f"{name} is of the type {field.dtype} and has the dimensions {', '.join(map(str, field.dims))}"
    return None
