"""One forecast from one file: what ``emulator forecast RUN INPUT.nc`` does."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from data_prep.config import DataConfig
from data_prep.errors import DataError
from data_prep.preparation.pipeline import find_inputs
from data_prep.reading.driving import open_driving
from data_prep.reading.locations import Location
from data_prep.reading.probe import probe
from data_prep.reading.sources import read_initial
from emulator.checkpoint import load_forecaster, read_description
from emulator.forecast_io import write_forecasts
from emulator.run_folder import run_folder

logger = logging.getLogger(__name__)

_MOST_DAYS = 36525


def forecast_file(
    run: str | Path, source: Location, out: Path, *, days: float, time: str | None = None, lateral: Sequence[str] = ()
) -> Path:
    """Forecasts with a trained network from any file that holds the model's variables on its grid.

    Args:
      run: Run folder of a training, as ``load_forecaster`` takes it; needs no other file.
      source: NetCDF, GRIB or Zarr with the initial fields; a URL may be given.
      out: Forecast file to write, along its valid time; appears when it is complete.
      days: Length of the forecast; a multiple of the model's time step.
      time: Initial time, ISO 8601; the last time in the file when ``None``.
      lateral: Files of the driving data set, for a network that was trained with lateral boundary values.

    Raises:
      DataError: one line that says what the file lacks.
      ForecastStoppedError: the forecast left physical bounds; see ``write_forecasts``.
    """
    if isinstance(source, Path) and out.resolve() == source.resolve():
        raise DataError(f"{out}: is the file with the initial fields; write the forecast to another one")
    folder = run_folder(run)
    forecaster = load_forecaster(folder)
    leads = lead_times(forecaster.timestep, days)
    probe([source])
    initial = read_initial(
        source,
        forecaster.spec,
        forecaster.grid,
        time,
        forecaster.sources,
        fill_nan=forecaster.fill_nan,
        timestep=forecaster.timestep,
    )
    attributes = forecaster.attributes(initial)
    if attributes["outside_training_range"] not in ("none", "not known"):
        logger.warning("the initial fields are outside of what the network has seen: %s", *attributes.values())
    if lateral:
        data = DataConfig.model_validate(read_description(folder)["experiment"]["data"])
        if data.lateral is None:
            raise DataError(
                f"--lateral: the network in {folder} was trained without lateral boundary values; leave it out"
            )
        paths = find_inputs(lateral, Path(), "--lateral")
        probe(paths)
        driving = open_driving(paths, data, forecaster.spec, forecaster.grid)
        forecaster = replace(forecaster, lateral=driving.at)
        attributes["lateral_boundary"] = ", ".join(map(str, paths))
    surface = forecaster.surface_geopotential
    write_forecasts(
        forecaster,
        initial,
        leads,
        out,
        surface_geopotential=surface,
        attributes=attributes,
        along_valid_time=True,
    )
    logger.info("wrote %s", out)
    return out


def lead_times(timestep: np.timedelta64, days: float) -> np.ndarray:
    """All leads of a forecast of so many days, ``timedelta64[ns]``.

    Raises:
      DataError: it is no positive multiple of the time step, or too long for dates.
    """
    if np.isfinite(days) and days > _MOST_DAYS:
        raise DataError(f"{days:g} days: expected at most {_MOST_DAYS}, a century; dates end in 2262")
    step = timestep / np.timedelta64(1, "D")
    steps = round(days / step) if np.isfinite(days) else 0
    if steps < 1 or abs(steps * step - days) > 1e-6:
        raise DataError(f"{days:g} days: expected a positive multiple of the model's time step of {step:g} days")
    return np.arange(1, steps + 1) * timestep
