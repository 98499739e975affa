"""One forecast from one file: what ``emulator forecast RUN INPUT.nc`` does."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from data_prep.errors import DataError
from data_prep.sources import read_initial
from emulator.checkpoint import load_forecaster
from emulator.forecast_io import write_forecasts

logger = logging.getLogger(__name__)


def forecast_file(run: Path, source: Path, out: Path, *, days: float, time: str | None = None) -> Path:
    """Forecasts with a trained network from any file that holds the model's variables on its grid.

    Args:
      run: Run folder of a training; needs no other file.
      source: NetCDF or Zarr with the initial fields.
      out: Forecast file to write, along its valid time; appears when it is complete.
      days: Length of the forecast; a multiple of the model's time step.
      time: Initial time, ISO 8601; the last time in the file when ``None``.

    Raises:
      DataError: one line that says what the file lacks.
    """
    forecaster = load_forecaster(run)
    leads = lead_times(forecaster.timestep, days)
    initial = read_initial(
        source, forecaster.spec, forecaster.grid, time, forecaster.sources, fill_nan=forecaster.fill_nan
    )
    surface = forecaster.surface_geopotential
    write_forecasts(forecaster, initial, leads, out, surface_geopotential=surface, along_valid_time=True)
    logger.info("wrote %s", out)
    return out


def lead_times(timestep: np.timedelta64, days: float) -> np.ndarray:
    """All leads of a forecast of so many days, ``timedelta64[ns]``.

    Raises:
      DataError: it is no positive multiple of the time step.
    """
    step = timestep / np.timedelta64(1, "D")
    steps = round(days / step)
    if steps < 1 or abs(steps * step - days) > 1e-6:
        raise DataError(f"{days:g} days: expected a positive multiple of the model's time step of {step:g} days")
    return np.arange(1, steps + 1) * timestep
