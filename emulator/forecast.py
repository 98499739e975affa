"""One forecast from a file or several: what ``emulator forecast RUN INPUT.nc`` does."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from data_prep.config import DataConfig
from data_prep.errors import ConfigError, DataError, one_line
from data_prep.reading.driving import open_driving
from data_prep.reading.initial import initial_sources, read_initial, released
from data_prep.reading.level_files import stack_levels
from data_prep.reading.locations import Location, find_inputs
from data_prep.reading.probe import probe
from emulator.checkpoint import load_forecaster, read_description
from emulator.forecast_io import write_forecasts
from emulator.forecasters.neural import LATERAL, OUTSIDE, NeuralForecaster
from emulator.forecasters.several import SeveralNetworks, Together
from emulator.run_folder import run_folder

logger = logging.getLogger(__name__)

_MOST_DAYS = 36525


def forecast_file(
    run: str | Path,
    files: Sequence[Location],
    out: Path,
    *,
    days: float,
    time: str | None = None,
    lateral: Sequence[str] = (),
    others: Sequence[str] = (),
    how: Together = "mean",
) -> Path:
    """Forecasts with a trained network, or several, from any files that hold the model's variables on its grid.

    Args:
      run: Run folder of a training, as ``load_forecaster`` takes it; needs no other file.
      files: NetCDF, GRIB or Zarr with the initial fields, together; URLs may be given.
      out: Forecast file to write, along its valid time; appears when it is complete.
      days: Length of the forecast; a multiple of the model's time step.
      time: Initial time, ISO 8601; the last one that all variables have when ``None``.
      lateral: Files of the driving data set, for networks that were trained with lateral boundary values.
      others: Run folders of more networks, which forecast with the first.
      how: They do, as of ``SeveralNetworks``.

    Raises:
      ConfigError: members or a supermodel are asked for of a single network, Zarr as output, or days that are no steps
        of the model.
      DataError: one line that says what the file lacks, or in what a network differs from the first.
      ForecastStoppedError: the forecast left physical bounds; see ``write_forecasts``.
    """
    if out.suffix == ".zarr":
        raise ConfigError(f"{out}: forecasts are written as NetCDF; choose a name that ends in .nc")
    if any(isinstance(file, Path) and out.resolve() == file.resolve() for file in files):
        raise DataError(f"{out}: is the file with the initial fields; write the forecast to another one")
    if how != "mean" and not others:
        raise ConfigError(f"--{how}: is of several networks; name the others by --with")
    folders = [run_folder(name) for name in (run, *others)]
    places = [folder.resolve() for folder in folders]
    if twice := next((folder for folder in folders if places.count(folder.resolve()) > 1), None):
        raise ConfigError(f"--with: {twice} is named twice, and would count as two networks")
    networks = [load_forecaster(folder) for folder in folders]
    leads = lead_times(networks[0].timestep, days)
    probe(files)
    attributes: dict[str, str] = {}
    if lateral:
        paths = find_inputs(lateral, Path(), "--lateral")
        if any(isinstance(path, Path) and out.resolve() == path.resolve() for path in paths):
            raise DataError(f"{out}: is a file of the driving data; write the forecast to another one")
        probe(paths)
        networks = [_driven(network, folder, paths) for network, folder in zip(networks, folders, strict=True)]
        if not any(network.takes_lateral for network in networks):
            raise DataError(f"--lateral: {folders[0]} was trained without lateral boundary values; leave it out")
        attributes[LATERAL] = ", ".join(map(str, paths))
    first = networks[0]
    forecaster: NeuralForecaster | SeveralNetworks = first
    if others:
        names = [str(name) for name in (run, *others)]
        named = (replace(network, name=name) for network, name in zip(networks, names, strict=True))
        forecaster = SeveralNetworks(tuple(named), how)
        attributes["networks"] = ", ".join(names)
    sources = stack_levels(initial_sources(files, first.spec, first.sources))
    with released(sources):
        initial = read_initial(
            sources, first.spec, first.grid, time, first.sources, fill_nan=first.fill_nan, timestep=first.timestep
        )
    attributes = forecaster.attributes(initial) | attributes
    warn_if_outside(attributes)
    write_forecasts(
        forecaster,
        initial,
        leads,
        out,
        surface_geopotential=first.surface_geopotential,
        attributes=attributes,
        along_valid_time=True,
    )
    logger.info("wrote %s", out)
    return out


def warn_if_outside(attributes: Mapping[str, Any]) -> None:
    """Says so where attributes of forecasts tell that the initial fields are nothing that the network has seen."""
    if (outside := attributes.get(OUTSIDE, "none")) not in ("none", "not known"):
        logger.warning("the initial fields are outside of what the network has seen: %s", outside)


def _driven(network: NeuralForecaster, folder: Path, paths: Sequence[Location]) -> NeuralForecaster:
    """The network with lateral boundary values from files, where it takes some.

    Raises:
      DataError: the files lack some, or the run folder does not say how they are to be read.
    """
    if not network.takes_lateral:
        return network
    return replace(network, lateral=open_driving(paths, _driving(network, folder), network.spec, network.grid).at)


def _driving(network: NeuralForecaster, folder: Path) -> DataConfig:
    """How its driving data set is read: of the ``data`` of a run what says so, as the rest may be of another version.

    Raises:
      DataError: that is of another version too.
    """
    description = read_description(folder)
    unread = {"inputs": ["none"], "split": {"segments": {}}}  # which the schema asks for
    names = {v.name: {"source": network.sources.get(v.name)} for v in network.spec.with_role("prognostic")}
    try:
        data = description["experiment"]["data"]
        lateral = {"inputs": ["none"], "rim": data["lateral"]["rim"]}
        known = {key: data[key] for key in ("vertical", "timestep_hours") if key in data}
        known["repair"] = sorted({*data.get("repair", []), "duplicates"})  # as of initial fields: equal ones are one
        return DataConfig.model_validate({**unread, **known, "prognostic": names, "lateral": lateral})
    except (KeyError, TypeError, ValidationError) as error:
        raise DataError(
            f"{folder}: this program does not find in its data.lateral how to read --lateral ({one_line(error)}); "
            f"forecast with version {description['emulator_version']}, which trained it"
        ) from None


def lead_times(timestep: np.timedelta64, days: float) -> np.ndarray:
    """All leads of a forecast of so many days, ``timedelta64[ns]``.

    Raises:
      ConfigError: it is no positive multiple of the time step, or too long for dates.
    """
    if np.isfinite(days) and days > _MOST_DAYS:
        raise ConfigError(f"{days:g} days: expected at most {_MOST_DAYS}, a century; dates end in 2262")
    step = timestep / np.timedelta64(1, "D")
    steps = round(days / step) if np.isfinite(days) else 0
    if steps < 1 or abs(steps * step - days) > 1e-6:
        raise ConfigError(f"{days:g} days: expected a positive multiple of the model's time step of {step:g} days")
    return np.arange(1, steps + 1) * timestep
