"""From forecast files to one scores file: additive statistics, metrics with intervals, crossovers, cost."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from data_prep.errors import DataError
from data_prep.store import Store
from emulator import __version__
from emulator.config import EvaluateConfig
from emulator.evaluation.comparison import compare
from emulator.evaluation.fields import Planes, Verification, units_of
from emulator.evaluation.forecast_file import ForecastFile, open_all
from emulator.evaluation.regions import default_regions, region_weights
from emulator.evaluation.spectra import fine_power
from emulator.evaluation.statistics import (
    ENSEMBLE_STATISTICS,
    FORECAST_STATISTICS,
    LONG_NAMES,
    TRUTH_STATISTICS,
    deterministic_statistics,
    ensemble_statistics,
)
from emulator.progress import track

logger = logging.getLogger(__name__)

_BLOCK_BYTES = 16 * 2**20  # of one forecaster's fields; deriving and scoring them takes some ten times that


def evaluate(
    forecast_paths: Mapping[str, Path],
    store: Store,
    config: EvaluateConfig,
    out: Path,
    *,
    seed: int = 0,
    attributes: Mapping[str, str] | None = None,
) -> xr.Dataset:
    """Scores forecast files against the truth and writes ``scores.nc``.

    Memory does not grow with the number of initial times but for the statistics themselves (some bytes for
    each variable, lead, region and initial time).

    Args:
      forecast_paths: File of each forecaster, in the order of tables and plots.
      store: The truth, and the climatology that anomalies are measured from.
      config: Split, pressure levels, bootstrap; which variables must be there (``headline``).
      out: The scores file; it appears only when it is complete.
      seed: Of the bootstrap.
      attributes: More global attributes: ``truth`` (what the truth is), ``predictability_limit`` (whose error is
        the limit).

    Returns:
      The scores, as written; see ``docs/architecture.md``.

    Raises:
      DataError: files differ in their initial times, leads or grid, hold NaN, lack a headline variable, or an
        initial time does not belong to the split.
    """
    if not forecast_paths:
        raise DataError("evaluate: no forecast files; run the forecast stage")
    files = open_all(forecast_paths, store)
    first = next(iter(files.values()))
    verification = Verification(store, first.init_times, first.lead_times, config.pressure_levels)
    foreign = {s for s in verification.splits if s != config.split}
    if foreign:
        raise DataError(
            f"evaluate: forecasts start in the {', '.join(sorted(foreign))} split, evaluate.split is {config.split}"
        )
    variables = _common_variables(files, verification, config)
    statistics = _statistics(files, verification, variables)
    statistics = statistics.assign_attrs(_attributes(store, config, verification, seed) | dict(attributes or {}))
    scores = _with_cost(compare(statistics, config, seed), files)
    _write(scores, out)
    return scores


def _common_variables(
    files: Mapping[str, ForecastFile], verification: Verification, config: EvaluateConfig
) -> list[str]:
    """What truth and every forecaster hold; nothing is left out silently, and no headline variable at all."""
    truth, _, _ = verification.truth_and_climatology(slice(0, 1))
    variables = list(truth)
    for file in files.values():
        held = verification.forecast(file, slice(0, 1))
        missing = [v for v in variables if v not in held]
        if missing:
            logger.warning("%s lacks %s: not scored for anybody", file.path.name, ", ".join(missing))
        variables = [v for v in variables if v in held]
    lacking = [v for v in config.headline if v not in variables]
    if lacking or not variables:
        raise DataError(
            f"evaluate.headline: {', '.join(lacking)} cannot be scored; "
            f"truth and all forecasts hold {', '.join(variables)}"
        )
    return variables


def _statistics(files: Mapping[str, ForecastFile], verification: Verification, variables: list[str]) -> xr.Dataset:
    """Additive statistics of all forecasters, ``(forecaster, variable, lead_time, init_time, region)``."""
    grid = verification.store.grid
    regions = default_regions(grid)
    weights = region_weights(grid, regions)
    n_init, n_lead = verification.init_times.size, verification.lead_times.size
    shape = (len(variables), n_lead, n_init, len(regions))
    own = [*FORECAST_STATISTICS, *(["forecast_fine_power"] if grid.periodic else [])]
    if any(f.is_ensemble for f in files.values()):
        own += ENSEMBLE_STATISTICS
    arrays = {name: np.full((len(files), *shape), np.nan) for name in own}
    shared = [*TRUTH_STATISTICS, *(["truth_fine_power"] if grid.periodic else [])]
    arrays |= {name: np.full(shape, np.nan) for name in shared}

    per_init = 4 * n_lead * len(verification.store.spec.state_channels) * int(np.prod(grid.shape))
    step = max(1, int(_BLOCK_BYTES // per_init))
    with track(n_init, "initial times scored") as progress:
        for start in range(0, n_init, step):
            inits = slice(start, min(start + step, n_init))
            truth, climatology, index = verification.truth_and_climatology(inits)
            for i, file in enumerate(files.values()):
                forecast = verification.forecast(file, inits)
                for j, variable in enumerate(variables):
                    found = _plane_statistics(forecast, truth, climatology, index, variable, weights)
                    if grid.periodic:
                        found |= _fine_scales(forecast, truth, index, variable, verification)
                    for name, value in found.items():
                        place = (j,) if name in shared else (i, j)
                        arrays[name][(*place, slice(None), inits)] = np.moveaxis(value, 0, 1)
            progress.advance(inits.stop - inits.start)

    dims = ("variable", "lead_time", "init_time", "region")
    data = {
        name: (dims if name in shared else ("forecaster", *dims), array, {"long_name": _long_name(name)})
        for name, array in arrays.items()
    }
    return xr.Dataset(
        data,
        coords={
            "forecaster": list(files),
            "variable": variables,
            "lead_time": ("lead_time", verification.lead_times, {"standard_name": "forecast_period"}),
            "init_time": ("init_time", verification.init_times, {"standard_name": "forecast_reference_time"}),
            "region": [r.name for r in regions],
            "trajectory": ("init_time", verification.trajectories, {"long_name": "segment of the truth"}),
            "units": ("variable", [units_of(v, verification.store) for v in variables]),
        },
    )


def _plane_statistics(
    forecast: Planes, truth: Planes, climatology: Planes, index: np.ndarray, variable: str, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """Statistics of one variable, ``(init, lead, region)``; of an ensemble its mean is scored too."""
    field, observed = forecast[variable], truth[variable][index]
    ensemble = field.ndim == observed.ndim + 1
    single = field.mean(axis=0, dtype=np.float64) if ensemble else field
    found = deterministic_statistics(single, observed, climatology[variable][index], weights)
    return found | (ensemble_statistics(field, observed, weights) if ensemble else {})


def _fine_scales(
    forecast: Planes, truth: Planes, index: np.ndarray, variable: str, verification: Verification
) -> dict[str, np.ndarray]:
    """Fine-scale power, of an ensemble the members' mean power; for the whole grid alone."""
    grid, regions = verification.store.grid, len(default_regions(verification.store.grid))
    power = fine_power(forecast[variable], grid)
    if power.ndim == 3:
        power = power.mean(axis=0)
    of_truth = fine_power(truth[variable], grid)[index]
    whole = np.where(np.arange(regions) == 0, 1.0, np.nan)
    return {"forecast_fine_power": power[..., None] * whole, "truth_fine_power": of_truth[..., None] * whole}


def _with_cost(scores: xr.Dataset, files: Mapping[str, ForecastFile]) -> xr.Dataset:
    """Adds what each forecaster cost, as its file says; NaN where it does not say."""
    for key, text in (
        ("seconds_per_simulated_day", "wall seconds for a simulated day of one forecast"),
        ("simulated_days_per_second", "simulated days for a wall second"),
    ):
        values = [float(f.attributes.get(key, np.nan)) for f in files.values()]
        scores[key] = ("forecaster", values, {"long_name": text})
    hardware = [str(f.attributes.get("hardware", "unknown")) for f in files.values()]
    return scores.assign_coords(hardware=("forecaster", hardware))


def _attributes(store: Store, config: EvaluateConfig, verification: Verification, seed: int) -> dict[str, Any]:
    return {
        "Conventions": "CF-1.11",
        "title": "Scores of weather forecasts",
        "history": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} scored",
        "emulator_version": __version__,
        "data_hash": store.data_hash,
        "climatology": store.climatology.kind,
        "split": config.split,
        "headline": " ".join(config.headline),
        "initial_times": verification.init_times.size,
        "trajectories": len(set(verification.trajectories)),
        "confidence": config.confidence,
        "bootstrap": config.bootstrap,
        "seed": seed,
    }


def _write(scores: xr.Dataset, out: Path) -> None:
    temporary = out.with_name(f".{out.name}.partial")
    encoding: dict[str, dict[str, Any]] = {
        str(name): {"zlib": True, "complevel": 1, "shuffle": True}
        for name, variable in scores.data_vars.items()
        if variable.dtype.kind == "f"
    }
    encoding["lead_time"] = {"units": "seconds", "dtype": "int64"}
    encoding["init_time"] = {"units": "seconds since 1970-01-01", "dtype": "int64"}
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        scores.to_netcdf(temporary, engine="netcdf4", encoding=encoding)
        temporary.replace(out)
    except (OSError, RuntimeError) as error:  # netCDF4 raises RuntimeError for failures inside HDF5
        raise DataError(f"{out}: cannot be written ({' '.join(str(error).split())}); check free space") from None
    finally:
        temporary.unlink(missing_ok=True)


def _long_name(statistic: str) -> str:
    extra = {
        "forecast_fine_power": "zonal power in the upper half of the resolved wavenumbers, forecast",
        "truth_fine_power": "zonal power in the upper half of the resolved wavenumbers, truth",
    }
    return (LONG_NAMES | extra)[statistic]
