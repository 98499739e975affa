"""Forecast files: CF NetCDF, written as the forecaster goes, complete or not there at all.

Every chunk carries a checksum, which HDF5 compares when it reads. Fields are not compressed: zlib would shrink them by
a quarter to two fifths and write eighteen times slower (20 MB/s a core), which a network on an accelerator outruns.
``nccopy -d1 -s`` compresses what is to be kept.

A file holds one forecaster: dims ``(init_time, lead_time[, realization][, level], latitude, longitude)``,
float32, one variable per field, cost and provenance as global attributes. ``xarray.open_dataset`` reads it
without options. Tools that know one time axis and four dimensions (CDO, ncview, GrADS) cannot read such a file, so one
forecast alone can be written along its valid time: dims ``(time[, level], latitude, longitude)``, the lead beside it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import xarray as xr

from data_prep.errors import DataError
from data_prep.files.arrays import rows_at
from data_prep.files.disk import close_once, hidden_beside, put_in_place, writing
from data_prep.spec import CALENDAR_ATTRS, CONVENTIONS, PRESSURE_AT_TOP, VERTICAL_ATTRS, sigma_formula
from data_prep.variables import SURFACE
from emulator import __version__
from emulator.bounds import ForecastStoppedError, bounds, first_departure
from emulator.command import command_line
from emulator.forecasters.base import Cost, Forecaster, forecast_batches
from emulator.hardware.machine import describe
from emulator.progress import track

logger = logging.getLogger(__name__)

_CHUNK_BYTES = 256 * 1024
_HOUR_NS = 3600 * 10**9
_TIME_ATTRS: dict[str, dict[str, str]] = {
    "time": {"standard_name": "time", "long_name": "valid time", **CALENDAR_ATTRS},
    "init_time": {"standard_name": "forecast_reference_time", "long_name": "initial time", **CALENDAR_ATTRS},
    # xarray takes a number with the attribute ``dtype`` for a timedelta; units alone decode only in its older versions
    "lead_time": {
        "standard_name": "forecast_period",
        "long_name": "lead time",
        "dtype": "timedelta64[ns]",
    },
}


def write_forecasts(
    forecaster: Forecaster,
    initial: xr.Dataset,
    lead_times: np.ndarray,
    path: Path,
    *,
    batch: int = 8,
    surface_geopotential: np.ndarray | None = None,
    attributes: Mapping[str, str | float] | None = None,
    along_valid_time: bool = False,
    with_holes: bool = False,
) -> Cost:
    """Runs a forecaster over all initial times and writes its file.

    Args:
      forecaster: Who forecasts.
      initial: All initial fields, dims ``(time, [level,] latitude, longitude)``.
      lead_times: ``timedelta64``, ascending multiples of the forecaster's time step.
      path: The file; it appears only when it is complete.
      batch: Initial times at once.
      surface_geopotential: m2 s-2, ``(latitude, longitude)``: rides along where the state is on sigma levels.
      attributes: More global attributes (hashes of config and data).
      along_valid_time: Write the only forecast along ``time``; see above.
      with_holes: Values may be missing, as under a mask.

    Returns:
      What the forecasts cost, compilation left out where possible.

    Raises:
      DataError: the initial fields do not fit the forecaster.
      DiskError: the file cannot be written.
      ForecastStoppedError: a forecast left physical bounds. What came before lies in ``NAME_stopped.nc``, NaN from
        there on, with the attribute ``stopped``; ``path`` is left alone.
    """
    cost = Cost()
    blocks = forecast_batches(forecaster, initial, lead_times, batch=batch, cost=cost)
    constants = {} if surface_geopotential is None else {SURFACE: surface_field(surface_geopotential)}
    total = initial.sizes["time"] * lead_times.size
    stopped: ForecastStoppedError | None = None
    with (
        track(total, f"{forecaster.name} forecasts") as progress,
        ForecastWriter(path, initial["time"].values, lead_times, constants, along_valid_time, with_holes) as writer,
    ):
        try:
            for block in blocks:
                writer.write(block)
                progress.advance(block.sizes["init_time"] * block.sizes["lead_time"])
        except ForecastStoppedError as error:
            stopped = error
            kept = writer.stop(str(error))
        writer.set_attributes(
            describe_forecasts(forecaster, cost, min(batch, initial.sizes["time"])) | dict(attributes or {})
        )
    if stopped is not None:
        raise ForecastStoppedError(f"{stopped}" + (f"; what came before is in {kept}" if kept else ""))
    return cost


def describe_forecasts(forecaster: Forecaster, cost: Cost, at_once: int) -> dict[str, str | float]:
    """Global attributes of forecasts: who made them, by which command, at what cost.

    Args:
      forecaster: Who forecast.
      cost: What it cost.
      at_once: Initial times that ran together.
    """
    return {
        "Conventions": CONVENTIONS,
        "title": f"{forecaster.name} forecasts",
        "source": f"{forecaster.name}, emulator {__version__}",
        "forecaster": forecaster.name,
        "history": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {command_line()}",
        "emulator_version": __version__,
        "seconds_per_simulated_day": cost.seconds_per_simulated_day,
        "simulated_days_per_second": cost.simulated_days_per_second,
        "cost_excludes_compilation": str(cost.warm).lower(),
        "forecasts_at_once": at_once,
        "hardware": describe(),
    }


def surface_field(geopotential: np.ndarray) -> xr.DataArray:
    """The surface that forecasts on sigma levels stand on, m2 s-2, ``(latitude, longitude)``, as files hold it."""
    attrs = {"units": "m2 s-2", "standard_name": "surface_geopotential", "long_name": "geopotential at surface"}
    return xr.DataArray(geopotential, dims=("latitude", "longitude"), attrs=attrs)


class ForecastWriter:
    """Writes blocks into a file that appears under its name only when every initial time has every lead.

    A context manager: an exception, an interrupt or a missing block leaves nothing behind. Memory: one block.
    """

    def __init__(
        self,
        path: Path,
        init_times: np.ndarray,
        lead_times: np.ndarray,
        constants: Mapping[str, xr.DataArray] | None = None,
        along_valid_time: bool = False,
        with_holes: bool = False,
    ) -> None:
        """Prepares a file; the first block decides its variables.

        Args:
          path: The file to be.
          init_times: All initial times that will come, ``datetime64``.
          lead_times: All leads that will come, ``timedelta64``.
          constants: Fields ``(latitude, longitude)`` written once.
          along_valid_time: Write a single initial time along ``time``, its valid time.
          with_holes: Values may be missing, as under a mask; else a forecast with such values is stopped.
        """
        assert init_times.size == 1 or not along_valid_time
        if np.unique(init_times).size < init_times.size:
            raise DataError(f"{path}: an initial time is there twice")
        self._along_valid_time, self._with_holes = along_valid_time, with_holes
        self._path = path
        self._place = ExitStack()
        self._init_times = init_times.astype("datetime64[ns]")
        self._lead_times = lead_times.astype("timedelta64[ns]")
        self._constants = constants or {}
        self._file: netCDF4.Dataset | None = None
        self._written = np.zeros((init_times.size, lead_times.size), dtype=bool)
        self._attributes: dict[str, Any] = {}
        self._stopped = False

    def __enter__(self) -> ForecastWriter:
        """Claims the file's name before there is any work to lose.

        Raises:
          DiskError: nothing can be written there.
          UserError: another process is writing it.
        """
        with writing(self._path):
            self._temporary = self._place.enter_context(hidden_beside(self._path))
        return self

    def write(self, block: xr.Dataset) -> None:
        """Puts a block where its ``init_time`` and ``lead_time`` belong.

        Raises:
          DataError: it holds times that were not announced, or other variables than the first block.
          ForecastStoppedError: it holds what is not possible (``bounds``); the leads before are written.
        """
        rows = _places(block["init_time"].values.astype("datetime64[ns]"), self._init_times, "init_time", self._path)
        columns = _places(
            block["lead_time"].values.astype("timedelta64[ns]"), self._lead_times, "lead_time", self._path
        )
        if self._file is None:
            with writing(self._path):
                self._file = self._create(block)
        expected = self._fields(self._file)
        if set(map(str, block.data_vars)) != expected:
            raise DataError(
                f"{self._path}: a block holds {', '.join(map(str, block.data_vars))}; "
                f"the first held {', '.join(sorted(expected))}"
            )
        stop = _departure(block, self._with_holes)
        if stop is not None:
            block = block.isel(lead_time=slice(stop[0]))
            columns = np.arange(self._lead_times.size)[columns][: stop[0]]
        if block.sizes["lead_time"]:
            with writing(self._path):
                for name, field in block.data_vars.items():
                    values = field.transpose("init_time", "lead_time", ...).values
                    if self._along_valid_time:
                        self._file[str(name)][columns] = values[0]
                    else:
                        self._file[str(name)][rows, columns] = values
            every_row, every_column = (np.arange(size) for size in self._written.shape)
            self._written[np.ix_(every_row[rows], every_column[columns])] = True
        if stop is not None:
            raise ForecastStoppedError(f"{self._path}: {stop[1]}; the forecaster is unstable")

    def _fields(self, file: netCDF4.Dataset) -> set[str]:
        """Names of what is forecast."""
        return set(file.variables) - set(file.dimensions) - {*_TIME_ATTRS, *self._constants, PRESSURE_AT_TOP}

    def stop(self, why: str) -> Path | None:
        """Ends a forecast that cannot go on: what is written is kept under another name, the rest is NaN.

        Args:
          why: For the attribute ``stopped``.

        Returns:
          The file that will be there; ``None`` where nothing was written.
        """
        self._stopped = True
        if not self._written.any() or self._file is None:
            return None
        with writing(self._path):
            for row, column in np.argwhere(~self._written).tolist():
                for name in self._fields(self._file):
                    self._file[name][(column,) if self._along_valid_time else (row, column)] = np.nan
        self._written[:] = True
        self._attributes["stopped"] = why
        self._path = self._path.with_name(f"{self._path.stem}_stopped{self._path.suffix}")
        return self._path

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        """Global attributes, written at the end (the cost is known only then)."""
        self._attributes |= attributes

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            self._discard()

    def _finish(self) -> None:
        if self._stopped and not self._written.any():
            return
        if not self._written.all() or self._file is None:
            raise DataError(
                f"{self._path}: the forecaster left out {int((~self._written).sum())} of {self._written.size} "
                "(initial time, lead) pairs"
            )
        with writing(self._path):
            self._file.setncatts(self._attributes)
            file, self._file = self._file, None
            close_once(file)
            put_in_place(self._temporary, self._path)

    def _discard(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            try:
                close_once(file)
            except (OSError, RuntimeError) as error:  # a full disk fails a second time here; the first error is raised
                logger.debug("closing %s: %s", self._temporary, error)
        self._place.close()

    def _create(self, block: xr.Dataset) -> netCDF4.Dataset:
        file = netCDF4.Dataset(self._temporary, "w", format="NETCDF4")
        self._file = file  # so that it is closed and removed if what follows fails
        axes = {"init_time": self._init_times, "lead_time": self._lead_times}
        others = [str(dim) for dim in block.sizes if dim not in axes]
        lead = ["time"] if self._along_valid_time else list(axes)
        for dim in others:
            file.createDimension(dim, block[dim].size)
        if self._along_valid_time:
            file.createDimension("time", self._lead_times.size)
            _write_time(file, "time", self._init_times + self._lead_times, ("time",), axis="T")
            _write_time(file, "init_time", self._init_times[0], ())
            _write_time(file, "lead_time", self._lead_times, ("time",))
            file.coordinates = "init_time lead_time"  # of the file: named by every variable, CDO would warn of them
        else:
            for dim, values in axes.items():
                file.createDimension(dim, values.size)
                _write_time(file, dim, values, (dim,), **({"axis": "T"} if dim == "init_time" else {}))
        for dim in others:
            values = block[dim].values
            dtype = values.dtype.newbyteorder("=")  # Zarr names the byte order even where it is the machine's
            variable = file.createVariable(dim, dtype, (dim,), fletcher32=True, chunksizes=values.shape)
            variable.setncatts(block[dim].attrs)
            variable[:] = values
            if block[dim].attrs == VERTICAL_ATTRS["sigma"] and "surface_pressure" in block:
                variable.setncatts(sigma_formula(dim))
                _write_top(file)
        for name, field in block.data_vars.items():
            field = field.transpose("init_time", "lead_time", ...)
            plane = int(np.prod(field.shape[2:]))
            leads = max(1, min(self._lead_times.size, _CHUNK_BYTES // (4 * plane)))
            variable = file.createVariable(
                str(name),
                "f4",
                (*lead, *map(str, field.dims[2:])),
                fill_value=False,
                fletcher32=True,
                chunksizes=(*(1, leads)[-len(lead) :], *field.shape[2:]),
            )
            variable.setncatts(field.attrs)
        for name, field in self._constants.items():
            dims = tuple(map(str, field.dims))
            variable = file.createVariable(name, "f4", dims, fill_value=False, fletcher32=True, chunksizes=field.shape)
            variable.setncatts(field.attrs)
            variable[:] = field.values
        return file


def _write_time(file: netCDF4.Dataset, name: str, values: np.ndarray, dims: tuple[str, ...], **attrs: str) -> None:
    """A coordinate of instants or spans in whole hours, or seconds where it must be."""
    numbers = np.asarray(values).astype(np.int64)
    whole_hours = (numbers % _HOUR_NS == 0).all()
    since = "" if name == "lead_time" else " since 1970-01-01 00:00:00"
    variable = file.createVariable(name, "i8", dims, fletcher32=bool(dims), chunksizes=numbers.shape or None)
    variable.setncatts({**_TIME_ATTRS[name], **attrs, "units": ("hours" if whole_hours else "seconds") + since})
    variable[:] = numbers // (_HOUR_NS if whole_hours else 10**9)


def _write_top(file: netCDF4.Dataset) -> None:
    if PRESSURE_AT_TOP not in file.variables:
        top = file.createVariable(PRESSURE_AT_TOP, "f4", (), fill_value=False)
        top.setncatts({"long_name": "pressure at the top of the model", "units": "Pa"})
        top[...] = 0.0


def _places(found: np.ndarray, expected: np.ndarray, name: str, path: Path) -> np.ndarray | slice:
    """Indices of ``found`` in ``expected``; a slice where they are consecutive, for that writes faster."""
    at, unknown = rows_at(expected, found)
    if unknown.size:
        raise DataError(f"{path}: a block holds {name} {unknown[0]}, which was not asked for")
    return slice(int(at[0]), int(at[-1]) + 1) if (np.diff(at) == 1).all() else at


def _departure(block: xr.Dataset, with_holes: bool) -> tuple[int, str] | None:
    """The first lead of a block at which a field is not possible, and what happened there."""
    found = []
    for name, field in block.data_vars.items():
        values = field.transpose("init_time", "lead_time", ...).values
        values = values.reshape(*values.shape[:2], -1, 1, 1)
        possible = [bounds(str(name), field.attrs.get("units", ""))]
        if with_holes:
            values = np.where(np.isnan(values), np.clip(0, *possible[0]), values)
        times, leads = block["init_time"].values, block["lead_time"].values
        found.append(first_departure(values, [str(name)], possible, times, leads))
    return min((f for f in found if f is not None), key=lambda f: f[0], default=None)
