"""The program from Python, as short as its commands; ``import emulator`` exports all of it.

Files and data sets are read, forecast, scored and drawn by the functions that the commands use.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike
from pydantic import ValidationError

from data_prep.errors import ConfigError, DataError
from data_prep.files.arrays import rows_at
from data_prep.preparation.other_truth import with_truth
from data_prep.preparation.store import Store, open_store
from data_prep.reading.initial import initial_sources, initial_times, read_initial, released
from data_prep.reading.level_files import stack_levels
from data_prep.reading.locations import Location, find_files
from data_prep.reading.probe import probe
from data_prep.variables import SURFACE
from emulator.checkpoint import load_forecaster
from emulator.config import EvaluateConfig, first_error
from emulator.evaluation.plots import plot_scores
from emulator.evaluation.scores import evaluate
from emulator.evaluation.scores_file import open_scores
from emulator.forecast import lead_times, warn_if_outside
from emulator.forecast_io import describe_forecasts, surface_field, write_forecasts
from emulator.forecasters.base import Cost, Forecaster, attributes_of, forecast_batches
from emulator.forecasters.driven import all_driven_by
from emulator.forecasters.ensemble import EnsembleForecaster
from emulator.forecasters.several import SeveralNetworks, networks_of
from emulator.forecasters.statistical import make_reference
from emulator.given_forecasts import Given, as_file, named, named_as_given, own_file, times_to_refer_to
from emulator.hardware.machine import host_memory
from emulator.progress import track

logger = logging.getLogger(__name__)

_BATCH = 8  # initial times at once
_OF_SCORING = {"split", "missing_inits", "headline", "pressure_levels", "derived"}
_OF_SCORING |= {"regions", "mask", "bootstrap", "confidence"}


def predict(
    forecaster: Forecaster | str | Path,
    initial: xr.Dataset | str | Path | Sequence[str | Path],
    *,
    days: float = 10.0,
    times: ArrayLike | None = None,
    lateral: Store | None = None,
) -> xr.Dataset:
    """Forecasts from some times of a data set, or from every one of them where ``times`` is ``None``.

    Args:
      forecaster: Such as ``load_forecaster`` gives, or ``SeveralNetworks`` makes of several; or what the former takes.
      initial: Initial fields: any order of axes, names and units that ``emulator inspect`` understands, on the
        forecaster's grid; a data set, which may be lazy, or where it lies: a file (NetCDF, GRIB, Zarr, a URL), a folder
        or several files that hold the variables and times together, as ``emulator forecast`` takes them.
      days: Length of the forecasts, a multiple of the time step.
      times: Initial times in ``initial``: one or several, ``datetime64`` or ISO 8601.
      lateral: Holds the lateral boundary values of the valid times, for a network that was trained with some: the store
        that it was trained on, or one prepared by the same config from files of other times.

    Returns:
      All forecasts in SI units, in memory; dims ``(init_time, lead_time[, realization][, level], latitude,
      longitude)``.

    Raises:
      ConfigError: ``days`` is no number, or no multiple of the time step.
      DataError: one line on what ``initial`` or ``lateral`` lacks, or on ``times``; ``forecaster`` is none; or there is
        not the memory for so many forecasts, which ``emulator.forecast_io.write_forecasts`` writes into a file as it
        goes.
      ForecastStoppedError: a forecast of a network left physical bounds; ``write_forecasts`` keeps what came before.
    """
    if isinstance(forecaster, str | Path):
        forecaster = load_forecaster(forecaster)
    if not hasattr(forecaster, "forecast"):
        raise DataError(
            f"predict: a forecaster or a run folder is expected, not a {type(forecaster).__name__}; "
            "SeveralNetworks makes one of several networks"
        )
    if lateral is not None:
        forecaster = all_driven_by(forecaster, lateral)
    try:
        leads = lead_times(forecaster.timestep, float(days))
    except (TypeError, ValueError):
        raise ConfigError(f"days: {days!r} is no number") from None
    names: Mapping[str, str] = {}
    fill_nan = False
    if networks := networks_of(forecaster):
        names, fill_nan = networks[0].sources, networks[0].fill_nan
    spec, grid, timestep = forecaster.spec, forecaster.grid, forecaster.timestep
    files: Sequence[Location | xr.Dataset]
    if isinstance(initial, xr.Dataset):
        files = [initial]
    else:
        files = find_files([initial] if isinstance(initial, str) or not isinstance(initial, Sequence) else initial)
        probe(files)
    sources = stack_levels(initial_sources(files, spec, names))
    with released(sources):
        chosen = initial_times(sources, spec) if times is None else np.atleast_1d(np.asarray(times))
        if pd.isnull(chosen).any():
            raise DataError("times: one is missing (None or NaT)")
        if chosen.size == 0:
            raise DataError("times: holds none; leave it out to forecast from every time")
        _check_memory(forecaster, chosen.size, leads.size)
        fields = xr.concat(
            [read_initial(sources, spec, grid, time, names, fill_nan=fill_nan, timestep=timestep) for time in chosen],
            "time",
            data_vars="minimal",
            coords="minimal",
            compat="override",
            join="exact",
        )
    if (twice := fields["time"].values[fields.indexes["time"].duplicated()]).size:
        raise DataError(f"times: {twice[0]!s:.16} is there twice; give every initial time once")
    forecasts = _run(forecaster, fields, leads)
    warn_if_outside(forecasts.attrs)
    return forecasts


def score(
    forecasts: Mapping[str, Given],
    store: Store | str | Path,
    *,
    truth: xr.Dataset | None = None,
    references: Sequence[str] = ("persistence", "climatology"),
    **options: Any,
) -> xr.Dataset:
    """Scores forecasts against the truth as ``emulator evaluate`` does.

    Data sets and the forecasts of references are written to the system's temporary folder (``TMPDIR``) meanwhile.

    Args:
      forecasts: By name: what ``predict`` returns, a forecast file, or another centre's forecasts on the same grid
        (docs/evaluation.md says which forms are understood), in a file, a folder, a pattern or a list of files from
        different initial times. All must hold the same initial times and leads; another centre's may hold more. Where
        there are only such, the first tells the initial times and leads; what it lacks between its own initial times
        and another holds is missing, as what another lacks (``missing_inits``).
      store: The truth, and the training climatology that anomalies are measured from; or where it lies.
      truth: Verify against these fields instead of the store's own, such as an analysis of later times. Times of the
        store belong to the split that they have there, so training data are no test data; all others are test data.
      references: Statistical forecasts to score beside them, made from the same initial times.
      options: Keys of the config's ``evaluate`` section that say how to score: ``split``, ``missing_inits``,
        ``headline``, ``pressure_levels``, ``derived``, ``regions``, ``mask`` (a file), ``bootstrap``,
        ``confidence``.

    Returns:
      Scores as in ``scores.nc`` (docs/architecture.md), in memory.

    Raises:
      DataError, ConfigError: one line on what does not fit together, on a name that is none or a reference's, or on a
        key of ``evaluate`` that says what an experiment forecasts.
      DiskError: the temporary folder is full.
    """
    if not forecasts or not isinstance(forecasts, Mapping) or isinstance(forecasts, xr.Dataset):
        raise DataError("score: no forecasts; give them by name, such as {'network': predict(...)}")
    config = _section(options | {"forecasts": dict.fromkeys(forecasts, ""), "references": [*references]})
    if idle := options.keys() - _OF_SCORING:
        raise ConfigError(
            f"score: {min(idle)}: says what an experiment forecasts, and these forecasts are made; "
            f"understood here: {', '.join(sorted(_OF_SCORING))}"
        )
    for name in config.references:
        if name in forecasts:
            raise ConfigError(f"score: forecasts.{name}: a reference has this name; choose another")
    if isinstance(store, str | Path):
        store = open_store(Path(store))
    verified = store if truth is None else with_truth(truth, store)
    with TemporaryDirectory(prefix="emulator-") as temporary, named_as_given(folder := Path(temporary)):
        paths = {n: as_file(n, f, folder, store) for n, f in forecasts.items()}
        own = {n: path for n, given in paths.items() if (path := own_file(given, store)) is not None}
        paths |= own
        external = {n: named(n, given) for n, given in forecasts.items() if n not in own}
        config = config.model_copy(update={"forecasts": external})
        if config.references:
            init_times, leads = times_to_refer_to(paths, external, verified, config.split)
            paths |= _write_references(config.references, store, verified, init_times, leads, folder)
        with evaluate(paths, verified, config, folder / "scores.nc", training=store) as scores:
            return scores.load()


def plot(scores: xr.Dataset | str | Path, folder: str | Path) -> list[Path]:
    """Draws skill curves, activity, cost and gain of scores as PNG and PDF.

    Args:
      scores: As ``score`` returns them, or a ``scores.nc``.
      folder: Where the files go; made if it is not there.

    Returns:
      The files.

    Raises:
      DataError: these are no scores.
      DiskError: they cannot be written.
    """
    if isinstance(scores, xr.Dataset):
        if not {"rmse", "crossover_hours"} <= set(scores):
            raise DataError(f"plot: no scores, as emulator.score returns them: {', '.join(map(str, scores))}")
        return plot_scores(scores, Path(folder))
    with open_scores(Path(scores)) as opened:
        return plot_scores(opened, Path(folder))


def _check_memory(forecaster: Forecaster, n_init: int, n_lead: int) -> None:
    """Refuses what memory cannot hold, which would end the process without a word."""
    cells = len(forecaster.spec.state_channels) * forecaster.grid.shape[0] * forecaster.grid.shape[1]
    members = forecaster.members if isinstance(forecaster, EnsembleForecaster) else 1
    if isinstance(forecaster, SeveralNetworks) and forecaster.how == "members":
        members = len(forecaster.networks)
    needed = 2 * 4 * cells * n_init * n_lead * members  # twice: blocks, and what they are joined to
    memory = host_memory()
    if memory is not None and needed > memory[1]:
        raise DataError(
            f"{n_init} forecasts of {n_lead} leads take {needed / 1e9:.1f} GB of memory, {memory[1] / 1e9:.1f} GB are "
            "free; choose fewer initial times (times), or have emulator.forecast_io.write_forecasts write them"
        )


def _run(forecaster: Forecaster, initial: xr.Dataset, leads: np.ndarray) -> xr.Dataset:
    """All forecasts in memory, with the attributes that forecast files have."""
    cost = Cost()
    batches: dict[np.datetime64, list[xr.Dataset]] = {}
    with track(initial.sizes["time"] * leads.size, f"{forecaster.name} forecasts") as progress:
        for block in forecast_batches(forecaster, initial, leads, batch=_BATCH, cost=cost):
            batches.setdefault(block["init_time"].values[0], []).append(block)
            progress.advance(block.sizes["init_time"] * block.sizes["lead_time"])
    parts = [xr.concat(blocks, "lead_time", data_vars="minimal") for blocks in batches.values()]
    out = xr.concat(parts, "init_time", data_vars="minimal")
    surface = getattr(next(iter(networks_of(forecaster)), forecaster), "surface_geopotential", None)
    if surface is not None:
        out[SURFACE] = surface_field(surface)
    described = describe_forecasts(forecaster, cost, min(_BATCH, initial.sizes["time"]))
    return out.assign_attrs(described | attributes_of(forecaster, initial))


def _write_references(
    names: Sequence[str], store: Store, truth: Store, init_times: np.ndarray, leads: np.ndarray, folder: Path
) -> dict[str, Path]:
    """Files of the references' forecasts, which memory need not hold."""
    store.climatology.check_season((init_times[:, None] + leads).ravel())
    initial = truth.lazy_dataset(_rows(truth, init_times))
    paths = {name: folder / f"{name}.nc" for name in names}
    for name, path in paths.items():
        reference = make_reference(name, store, leads)
        write_forecasts(reference, initial, leads, path, batch=_BATCH, with_holes=True)  # the truth may have a mask
    return paths


def _section(options: Mapping[str, Any]) -> EvaluateConfig:
    try:
        return EvaluateConfig.model_validate(options)
    except ValidationError as error:
        raise ConfigError(f"score: {first_error(error, EvaluateConfig)}") from None


def _rows(store: Store, times: np.ndarray) -> np.ndarray:
    """Rows of the store at these times.

    Raises:
      DataError: it does not hold one of them.
    """
    rows, absent = rows_at(store.times, times)
    if absent.size:
        raise DataError(f"score: the truth holds no {absent[0]!s:.16}, an initial time of the forecasts")
    return rows
