"""The comparison of an experiment: who competes, from which initial times, who is scored, what is drawn.

Every forecaster gets the same initial fields and the same initial times, writes one file, and is scored from that file.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import xarray as xr

from data_prep.errors import ConfigError, DataError
from data_prep.store import Store, open_store
from emulator.config import EvaluateConfig, ExperimentConfig, PhysicsBaseline
from emulator.forecast_io import write_forecasts
from emulator.forecasters.base import Forecaster

logger = logging.getLogger(__name__)

NETWORK = "network"


def initial_indices(store: Store, config: EvaluateConfig) -> np.ndarray:
    """Time indices of the initial times: regular in every segment of the split, each with its whole forecast inside the
    segment, so that truth exists at every lead and all forecasters share all of them.

    Raises:
      DataError: no segment of the split is long enough, or the intervals are no multiples of the store's time step.
    """
    hours = store.timestep / np.timedelta64(1, "h")
    steps = {}
    for name in ("lead_hours", "lead_step_hours", "init_every_hours"):
        value = getattr(config, name) / hours
        if value != int(value):
            raise ConfigError(f"evaluate.{name}: {getattr(config, name)} h is no multiple of the store's {hours:g} h")
        steps[name] = int(value)
    starts = [
        np.arange(s.start, s.stop - steps["lead_hours"], steps["init_every_hours"])
        for s in store.segments
        if s.split == config.split
    ]
    indices = np.concatenate([np.empty(0, dtype=np.int64), *starts]).astype(np.int64)
    if indices.size == 0:
        raise DataError(
            f"evaluate: no {config.split} segment holds a forecast of {config.lead_hours} h; "
            "shorten evaluate.lead_hours or lengthen the split"
        )
    if config.max_inits is not None and indices.size > config.max_inits:
        indices = indices[np.linspace(0, indices.size - 1, config.max_inits).round().astype(np.int64)]
    return indices


def lead_times(config: EvaluateConfig) -> np.ndarray:
    """Verified leads, ``timedelta64[ns]``, the first one step after the initial time."""
    hours = np.arange(config.lead_step_hours, config.lead_hours + 1, config.lead_step_hours)
    return hours.astype("timedelta64[h]").astype("timedelta64[ns]")


def competitors(config: ExperimentConfig, folder: Path, store: Store) -> dict[str, Callable[[], Forecaster]]:
    """Name and maker of every forecaster of the experiment; lazy, for a physics model takes a while to build."""
    from emulator.checkpoint import load_forecaster
    from emulator.forecasters.statistical import make_reference

    leads = lead_times(config.evaluate)
    makers: dict[str, Callable[[], Forecaster]] = {NETWORK: lambda: load_forecaster(folder / "run")}
    for baseline in config.evaluate.physics:
        makers[f"physics_t{baseline.truncation}"] = partial(_physics, store, baseline)
    for reference in config.evaluate.references:
        makers[reference] = partial(make_reference, reference, store, leads)
    return makers


def _physics(store: Store, baseline: PhysicsBaseline) -> Forecaster:
    from emulator.forecasters.physics import PhysicsForecaster  # needs the extra 'physics', which the core does without

    return PhysicsForecaster.for_store(
        store, baseline.truncation, baseline.time_step_minutes, baseline.digital_filter_hours
    )


def forecast_paths(config: ExperimentConfig, folder: Path, store: Store) -> dict[str, Path]:
    """The file of every forecaster, whether it exists or not."""
    return {name: folder / "forecasts" / f"{name}.nc" for name in competitors(config, folder, store)}


def write_all_forecasts(config: ExperimentConfig, folder: Path) -> None:
    """Forecasts of every competitor from all initial times, one file each; finished files are kept after a kill."""
    store = open_store(folder / "store.zarr")
    indices = initial_indices(store, config.evaluate)
    leads = lead_times(config.evaluate)
    logger.info("forecast: %d initial times, %d leads to %g h", indices.size, leads.size, config.evaluate.lead_hours)
    for name, make in competitors(config, folder, store).items():
        path = folder / "forecasts" / f"{name}.nc"
        if path.exists():
            logger.info("forecast: %s is there", path.name)
            continue
        write_forecasts(
            make(),
            store.dataset(indices),
            leads,
            path,
            batch=config.evaluate.batch,
            surface_geopotential=store.surface_geopotential,
            attributes={"data_hash": store.data_hash},
        )


def score_all_forecasts(config: ExperimentConfig, folder: Path) -> None:
    """Scores of every forecast file against the truth, and the table."""
    from emulator.evaluation.scores import evaluate
    from emulator.evaluation.table import format_table

    store = open_store(folder / "store.zarr")
    scores = evaluate(forecast_paths(config, folder, store), store, config.evaluate, folder / "scores.nc")
    (folder / "table.txt").write_text(format_table(scores), encoding="utf-8")


def plot_everything(config: ExperimentConfig, folder: Path) -> None:
    """Skill curves from the scores, maps of one forecast of the network beside truth and physics, and the report."""
    from emulator.evaluation.maps import plot_maps
    from emulator.evaluation.plots import plot_scores as draw_scores
    from emulator.evaluation.table import headline_variables

    store = open_store(folder / "store.zarr")
    scores = _open_scores(folder / "scores.nc")
    draw_scores(scores, folder / "plots")
    paths = forecast_paths(config, folder, store)
    shown = {name: path for name, path in paths.items() if name == NETWORK or name.startswith("physics")}
    for variable in headline_variables(scores):
        plot_maps(shown, store, config.evaluate, variable, folder / "plots" / f"maps_{variable.replace('@', '')}.png")
    write_report(folder / "scores.nc", None)


def plot_scores(path: Path, out: Path | None) -> None:
    """Skill curves of a scores file alone, into ``out`` or the folder of the file."""
    from emulator.evaluation.plots import plot_scores as draw_scores

    draw_scores(_open_scores(path), out or path.parent)


def write_report(path: Path, out: Path | None) -> Path:
    """One HTML page of a scores file, with maps where the experiment's store and forecasts lie beside it.

    Returns:
      The page: ``out``, or ``report.html`` beside the scores.
    """
    from emulator.evaluation.report import write_report as write
    from emulator.evaluation.report_sources import find_fields, find_provenance

    scores = _open_scores(path)
    fields, why_not = find_fields(scores, path.parent)
    return write(
        scores,
        out or path.with_name("report.html"),
        fields=fields,
        provenance=find_provenance(scores, path.parent),
        without_fields=why_not,
    )


def _open_scores(path: Path) -> xr.Dataset:
    try:
        scores = xr.load_dataset(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a readable scores file ({' '.join(str(error).split())})") from None
    if "rmse" not in scores:
        raise DataError(f"{path}: no scores file, it holds {', '.join(map(str, scores.data_vars))}")
    return scores
