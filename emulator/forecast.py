"""One forecast from one file: what ``emulator forecast RUN INPUT.nc`` does."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from data_prep.config import DataConfig
from data_prep.errors import DataError
from data_prep.sources import read_initial
from emulator.checkpoint import load_forecaster, read_description
from emulator.forecast_io import write_forecasts

logger = logging.getLogger(__name__)


def forecast_file(run: Path, source: Path, out: Path, *, days: float, time: str | None = None) -> Path:
    """Forecasts with a trained network from any file that holds the model's variables on its grid.

    Args:
      run: Run folder of a training; needs no other file.
      source: NetCDF or Zarr with the initial fields.
      out: Forecast file to write; appears when it is complete.
      days: Length of the forecast; a multiple of the model's time step.
      time: Initial time, ISO 8601; the last time in the file when ``None``.

    Raises:
      DataError: one line that says what the file lacks.
    """
    forecaster = load_forecaster(run)
    step = forecaster.timestep / np.timedelta64(1, "D")
    steps = round(days / step)
    if steps < 1 or abs(steps * step - days) > 1e-6:
        raise DataError(f"--days {days:g}: expected a positive multiple of the model's time step of {step:g} days")
    data = DataConfig.model_validate(read_description(run)["experiment"]["data"])
    variables = data.prognostic | data.forcing
    initial = read_initial(
        source,
        forecaster.spec,
        forecaster.grid,
        time=time,
        names={name: variable.source for name, variable in variables.items() if variable.source is not None},
        fill_nan=data.nan == "fill_mean",
    )
    leads = np.arange(1, steps + 1) * forecaster.timestep
    write_forecasts(forecaster, initial, leads, out, surface_geopotential=forecaster.surface_geopotential)
    logger.info("wrote %s", out)
    return out
