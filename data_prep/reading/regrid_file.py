"""A whole file on another grid: every field regridded, everything else carried over, block by block."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import dask
import numpy as np
import xarray as xr

from data_prep.config import RegridConfig
from data_prep.errors import DataError, one_line
from data_prep.files.disk import replacing, trouble
from data_prep.files.netcdf_file import write_netcdf
from data_prep.grid import Grid
from data_prep.reading.instants import exact
from data_prep.reading.locations import Location, is_zarr
from data_prep.reading.opening import open_lazily
from data_prep.reading.positions import Order, grid_of
from data_prep.reading.recognise import find_axes, is_lead, numeric_fields, on_own_axes
from data_prep.reading.regridded import regridder_for, target_grid
from data_prep.reading.units import is_direction
from data_prep.reading.valid_range import are_invalid, valid_range_of
from data_prep.regrid import Regridder
from data_prep.spec import grid_coords

logger = logging.getLogger(__name__)

_BLOCK_BYTES = 2**26
_THREADS = 2  # one computes while one reads or writes; more would each hold a block

_OF_OLD_VALUES = ("actual_range", "valid_range", "valid_min", "valid_max")  # and, if packed, in packed units


def regrid_file(path: Location, out: Path, config: RegridConfig) -> Grid:
    """Writes a file's fields on another grid.

    Fields keep their names, attributes and other dimensions; latitude and longitude become their last dimensions, both
    ascending. What lies on one of both only, holds flags or measures the old cells is left out, with a warning.

    Args:
      path: NetCDF, GRIB or Zarr; a URL may be given.
      out: The file to be, which appears when it is complete: Zarr 2 where it ends with ``.zarr``, else NetCDF-4.
      config: Target, method and policies.

    Returns:
      The new grid.

    Raises:
      DataError: one line: the file cannot be read, holds no fields, or the target reaches beyond it.
    """
    if isinstance(path, Path) and out.resolve() == path.resolve():
        raise DataError(f"{out}: is the file to be read; write to another one")
    if out.is_dir() and any(out.iterdir()) and not is_zarr(out):
        raise DataError(f"{out}: a folder that is no Zarr store lies there and is not overwritten; choose another name")
    with open_lazily(path) as data:
        result, regridder = _lazily_regridded(path, on_own_axes(data), config)
        _write(result, path, out)
    return regridder.target


def _lazily_regridded(path: Location, data: xr.Dataset, config: RegridConfig) -> tuple[xr.Dataset, Regridder]:
    """The new contents as a graph that reads, regrids and forgets one block after another."""
    fields = list(numeric_fields(data))
    axes = find_axes(path, data[fields] if fields else data)
    dims = (axes.latitude, axes.longitude)
    source, latitude, longitude = grid_of(path, data[dims[0]], data[dims[1]])
    regridder = regridder_for(source, target_grid(config), config, str(path))
    fields = [n for n in fields if set(dims) <= set(data[n].dims) and not _means_nothing(data[n])]
    if not fields:
        held = ", ".join(map(str, data.data_vars)) or "no variables"
        raise DataError(f"{path}: holds no fields that can be regridded; it holds {held}")
    if (empty := next((d for d, size in data[fields].sizes.items() if size == 0), None)) is not None:
        raise DataError(f"{path}: the {empty} axis is empty")
    result = xr.Dataset(attrs=data.attrs)
    for name, variable in data.variables.items():
        if name in fields:
            function = _field_function(regridder, latitude, longitude, valid_range_of(data[str(name)]))
            result[name] = _regridded(data[str(name)], dims, function, regridder)
            if variable.dtype.kind in "iu":
                logger.warning(
                    "%s: %s holds whole numbers, whose means are taken; of classes they say nothing", path, name
                )
        elif not set(dims) & set(variable.dims):
            carried = {name: exact(variable)}  # while its encoding tells how exact it is
            result = result.assign_coords(carried) if name in data.coords else result.assign(carried)
        elif name not in dims:
            logger.warning("%s: %s is left out: means over its cells say nothing, or it is no field", path, name)
    for dim, (_, values, attributes) in zip(dims, grid_coords(regridder.target).values(), strict=True):
        result = result.assign_coords({dim: (dim, values, attributes)})
    for name, variable in result.variables.items():
        # Chunks and packing are the old grid's; times counted from before 1582 mean different days in two calendars.
        variable.encoding = {"_FillValue": None} if name in result.coords else {}
        for key in _OF_OLD_VALUES:
            variable.attrs.pop(key, None)
    if axes.time is not None and axes.time in result.coords:
        time = result[axes.time]
        time.attrs = {"units_metadata": "leap_seconds: none", **time.attrs}
        has_leads = any(is_lead(str(name)) for name in {*data.dims, *data.variables})
        if not has_leads:  # beside leads they may be initial times
            time.attrs = {"standard_name": "time", **time.attrs}
        if time.attrs.get("bounds") in result:  # which many read in the units of the times, whatever their own
            time.encoding["units"] = "seconds since 1970-01-01"
    way = f"{config.method} regridding from {regridder.source.describe()} to {regridder.target.describe()}"
    earlier = f"\n{data.attrs['history']}" if "history" in data.attrs else ""
    result.attrs["history"] = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} weather-emulator: {way}{earlier}"
    return result, regridder


def _means_nothing(field: xr.DataArray) -> bool:
    """Whether a mean over cells says nothing: of flags, directions (359 and 1 degree make no 180) and cells' areas."""
    standard_name = str(field.attrs.get("standard_name", ""))
    is_angle = is_direction(str(field.name), standard_name, str(field.attrs.get("units", "")))
    return "flag_values" in field.attrs or standard_name == "cell_area" or is_angle


def _field_function(
    regridder: Regridder, latitude: Order, longitude: Order, valid: tuple[float, float] | None
) -> Callable[[np.ndarray], np.ndarray]:
    """From ``(..., latitude, longitude)`` as the file has them to the target."""
    rows, columns = latitude.rows[:, None], longitude.rows

    def regrid(values: np.ndarray) -> np.ndarray:
        if valid is not None and (invalid := are_invalid(values, valid)).any():
            values = np.where(invalid, np.float32(np.nan), values)
        return regridder(values[..., rows, columns][..., None])[..., 0]

    return regrid


def _regridded(
    field: xr.DataArray, dims: tuple[str, str], function: Callable[[np.ndarray], np.ndarray], regridder: Regridder
) -> xr.DataArray:
    sizes = dict(zip(dims, regridder.target.shape, strict=True))
    return xr.apply_ufunc(
        function,
        field.drop_vars([c for c in field.coords if set(dims) & set(field[c].dims)]).chunk(blocks_of(field, dims)),
        input_core_dims=[dims],
        output_core_dims=[dims],
        exclude_dims=set(dims),
        keep_attrs=True,
        dask="parallelized",
        output_dtypes=[np.result_type(field.dtype, np.float32)],
        dask_gufunc_kwargs={"output_sizes": sizes},
    )


def blocks_of(field: xr.DataArray, dims: tuple[str, str]) -> Mapping[str, int]:
    """Sizes of the blocks that are read: whole fields, and as many of the file's own chunks as memory allows.

    A chunk is decompressed as a whole, so a block that cuts chunks would read them over and over.

    Args:
      field: A variable of a file, not read yet.
      dims: Its dimensions of latitude and longitude.
    """
    stored = dict(zip(field.dims, field.encoding.get("chunksizes") or field.encoding.get("chunks") or (), strict=False))
    block = {str(d): field.sizes[d] if d in dims else min(stored.get(d, 1), field.sizes[d]) for d in field.dims}
    most = _BLOCK_BYTES // field.dtype.itemsize
    for dim in reversed(block):  # the last dimension varies fastest in the file
        others = int(np.prod([n for d, n in block.items() if d != dim]))
        if dim not in dims:
            fitting = max(1, most // others)
            whole = fitting // block[dim] * block[dim]
            block[dim] = min(whole or fitting, field.sizes[dim])
    return block


def _write(result: xr.Dataset, path: Location, out: Path) -> None:
    as_zarr = out.suffix == ".zarr"
    with replacing(out, folder=as_zarr) as partial:
        try:
            with dask.config.set(scheduler="threads", num_workers=_THREADS):
                if as_zarr:
                    result.to_zarr(partial, mode="w", zarr_format=2, consolidated=True)  # which every reader knows
                else:
                    write_netcdf(result, partial)
        except (OSError, RuntimeError) as error:  # netCDF4 raises RuntimeError for failures inside HDF5
            if trouble(error):
                raise
            raise DataError(
                f"{out}: cannot be made of {path} ({one_line(error)}); the file may be damaged, or the disk full"
            ) from None
