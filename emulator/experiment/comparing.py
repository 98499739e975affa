"""The work of a comparison: everybody forecasts, all are scored, and what came out is drawn.

Every forecaster gets the same initial fields and the same initial times, writes one file, and is scored from that file.
"""

from __future__ import annotations

import logging
import shutil
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path
from typing import Any

import xarray as xr

from data_prep.errors import ConfigError, DataError
from data_prep.files.arrays import rows_at
from data_prep.files.disk import discard, write_text
from emulator.config import ExperimentConfig
from emulator.evaluation.external_files import Places, locate_all, open_forecasts_at, refuse_missing
from emulator.evaluation.scores_file import open_scores
from emulator.experiment.competitors import (
    asked_ensembles,
    bytes_to_write,
    check_physics,
    check_restarts,
    competitors,
    corrected_models,
    forecast_marks,
    outdated_forecasts,
    physics_name,
    predictability_limit,
    truth_of,
    weights_digest,
    what_is_lacking,
)
from emulator.experiment.contest import Contest
from emulator.experiment.forecast_files import NETWORK
from emulator.experiment.initial_times import training_indices
from emulator.forecast_io import write_forecasts
from emulator.forecasters.base import Forecaster, attributes_of
from emulator.forecasters.ensemble import EnsembleForecaster
from emulator.forecasters.neural import NeuralForecaster
from emulator.forecasters.perturbations import RandomFields
from emulator.forecasters.several import Shared, cannot_step_together, shared_by
from emulator.stepping.sponge import Sponge

logger = logging.getLogger(__name__)


def forecast_paths(contest: Contest) -> dict[str, Places]:
    """The file of every forecaster in the order of tables, external ones last, whether it exists or not."""
    own: dict[str, Places] = {name: contest.path(name) for name in competitors(contest)}
    return own | {name: locate_all(given) for name, given in contest.evaluate.forecasts.items()}


def check_comparison(config: ExperimentConfig) -> None:
    """Finds, before hours of training, what the comparison would refuse.

    Raises:
      UserError: no test data are as long as a forecast, or no training data that somebody learns from, test data lie
        in a season that no climatology is known of, a headline variable is misspelt, the mask or an external forecast
        file is not there or does not fit, SPEEDY cannot be run from these data, there are too few for an ensemble, a
        network has learned from other data than its supermodel, or a long run would leave what is known of its
        boundaries.
    """
    from emulator.evaluation.scores import check_config

    contest = Contest.of(config)
    store, init_times, leads = contest.store, contest.init_times, contest.leads
    check_config(store, contest.evaluate, init_times, leads)
    _check_long_run(contest)
    _check_competitors(contest)
    _check_external(contest)
    _warn_of_a_small_disk(contest)


def _check_long_run(contest: Contest) -> None:
    from emulator.evaluation.long_run import long_run_leads, long_run_rows

    store, run = contest.store, contest.evaluate.long_run
    if run is None:
        return
    valid = store.times[long_run_rows(store, contest.evaluate, run)][:, None] + long_run_leads(store, run)
    if run.sponge is not None:
        Sponge.of(run.sponge, store)
    if run.sponge is not None or contest.config.train.anomalies:
        store.climatology.check_season(valid.ravel())
    unknown = rows_at(store.times, valid.ravel())[1] if store.forcing_builder.is_lateral.any() else valid[:0]
    if unknown.size:
        raise ConfigError(f"evaluate.long_run: there are no lateral boundary values at {unknown[0]!s:.16}; shorten it")


def _check_competitors(contest: Contest) -> None:
    from emulator.forecasters.statistical import check_reference

    everybody, store, config, evaluate = competitors(contest), contest.store, contest.config, contest.evaluate
    for reference in evaluate.references:
        check_reference(reference, store, contest.leads)
    if corrected_models(config):
        training_indices(store, evaluate)
    check_restarts(config, store)
    check_physics(config, store)
    # what the experiment's own will be, which may still have to learn
    shared = {NETWORK: Shared(store.data_hash, tuple(config.model.time_steps), config.train.anomalies)}
    networks = {name: everybody[name].make() for name in evaluate.networks}
    shared |= {name: shared_by(other) for name, other in networks.items() if isinstance(other, NeuralForecaster)}
    for key, of in evaluate.supermodels.items():
        for name in of[1:]:
            if what := shared[name].differences(shared[of[0]]):
                raise ConfigError(f"evaluate.supermodels.{key}: {name}: {cannot_step_together(what, of[0])}")
    if any(ensemble.members > 1 for ensemble in asked_ensembles(config).values()):
        RandomFields(store, 1.0, config.seed).check(contest.init_times)


def check_forecasters(config: ExperimentConfig) -> None:
    """Refuses what forecasting would before it makes anything, so that earlier forecasts stay.

    Raises:
      UserError: as ``check_comparison``, of forecasters and of the files of others.
    """
    contest = Contest.of(config)
    _check_competitors(contest)
    _check_external(contest)


def _warn_of_a_small_disk(contest: Contest) -> None:
    needed, free = bytes_to_write(contest), shutil.disk_usage(contest.folder).free
    if needed > free:
        logger.warning(
            "forecast: forecasts will take %.0f GB, %.0f GB are free in %s; fewer members (evaluate.network, "
            ".perturbed, .physics, .twin), a longer evaluate.lead_step_hours or evaluate.init_every_hours take less",
            needed / 1e9,
            free / 1e9,
            contest.folder,
        )


def _check_external(contest: Contest) -> None:
    from emulator.evaluation.forecast_file import ExternalFile, common_inits

    evaluate = contest.evaluate
    external = {name: locate_all(given) for name, given in evaluate.forecasts.items()}
    for name, places in external.items():
        try:
            refuse_missing(places)
        except DataError as error:
            raise DataError(f"evaluate.forecasts.{name}: {error}") from None
    found = {n: open_forecasts_at(places, contest.store, evaluate.pressure_levels) for n, places in external.items()}
    kept, _ = common_inits(found, contest.init_times, evaluate)
    for forecasts in found.values():
        ExternalFile.choose(forecasts, kept, contest.leads)


def discard_outdated(contest: Contest) -> None:
    """Removes forecasts that were made from other data, or by another network, than are there now."""
    for path in outdated_forecasts(contest):
        logger.info("forecast: %s was made from other data or by another network; made again", path.name)
        discard(path)


def write_all_forecasts(config: ExperimentConfig) -> None:
    """Forecasts of every competitor from all initial times, one file each; finished files are kept after a kill.

    Raises:
      DataError: an external forecast file is not there or does not fit: that is said before hours of forecasts.
    """
    contest = Contest.of(config)
    store, evaluate, indices, leads = contest.store, contest.evaluate, contest.indices, contest.leads
    _check_external(contest)
    discard_outdated(contest)
    _warn_of_a_small_disk(contest)
    logger.info("forecast: %d initial times, %d leads to %g h", indices.size, leads.size, evaluate.lead_hours)
    for name, competitor in competitors(contest).items():
        path = contest.path(name)
        if path.exists():
            logger.info("forecast: %s is there", path.name)
            continue
        forecaster = competitor.make()
        initial = store.lazy_dataset(indices)
        write_forecasts(
            forecaster,
            initial,
            leads,
            path,
            batch=_initial_times_at_once(forecaster, evaluate.batch),
            surface_geopotential=store.surface_geopotential,
            attributes=forecast_marks(contest, path, competitor.options) | attributes_of(forecaster, initial),
        )


def _initial_times_at_once(forecaster: Forecaster, runs: int) -> int:
    return max(1, runs // forecaster.members) if isinstance(forecaster, EnsembleForecaster) else runs


def check_scores(config: ExperimentConfig) -> None:
    """Refuses what scoring would after a while.

    Raises:
      DataError: forecasts are missing, were made from other data, or do not fit the truth; or see ``check_config``.
    """
    from emulator.evaluation.forecast_file import open_compared
    from emulator.evaluation.scores import check_config

    contest = Contest.of(config)
    store, evaluate = contest.store, contest.evaluate
    if why := what_is_lacking(contest):
        raise DataError(f"evaluate: {why}; 'emulator forecast' makes them")
    files, _ = open_compared(forecast_paths(contest), store, evaluate)
    first = next(iter(files.values()))
    check_config(store, evaluate, first.init_times, first.lead_times)


def score_all_forecasts(config: ExperimentConfig, workers: Executor | None = None) -> None:
    """Scores of every forecast file against the truth, by the workers if there are any, and the table.

    Raises:
      DataError: what ``check_scores`` refuses, which is to be asked before.
    """
    from emulator.evaluation.scores import evaluate
    from emulator.evaluation.table import format_table

    contest, folder = Contest.of(config), config.path
    limit = predictability_limit(config)
    marks, long_run = _marks_of_long_run(contest), folder / "long_run.nc"
    if marks is None or not _was_made_alike(long_run, marks):
        long_run.unlink(missing_ok=True)  # before there are scores that a report would show it with
    with evaluate(
        forecast_paths(contest),
        contest.store,
        contest.evaluate,
        folder / "scores.nc",
        attributes={"truth": truth_of(config)} | ({"predictability_limit": limit} if limit else {}),
        executor=workers,
    ) as scores:
        write_text(folder / "table.txt", format_table(scores))
    if marks is not None:
        _leave_to_itself(contest, marks, long_run)


def _marks_of_long_run(contest: Contest) -> dict[str, str] | None:
    """What the long run says of what it was made from and with; ``None`` where the config asks for none."""
    evaluate = contest.evaluate
    if evaluate.long_run is None:
        return None
    keys = {"long_run", "split", "headline", "pressure_levels"} | ({"derived"} if evaluate.derived else set())
    decisive = evaluate.model_dump(mode="json", include=keys)
    weights = {"weights": weights_digest(contest.folder / "run")}
    return forecast_marks(contest, contest.folder / "long_run.nc", decisive | weights)


def _leave_to_itself(contest: Contest, marks: dict[str, str], out: Path) -> None:
    """The long run of the network, measured as it goes; one that was made alike and is there is kept."""
    from emulator.evaluation.long_run import long_run_leads, long_run_rows, measure_long_run

    if out.exists():
        logger.info("evaluate: %s is there", out.name)
        return
    store, evaluate, run = contest.store, contest.evaluate, contest.evaluate.long_run
    assert run is not None
    rows, leads = long_run_rows(store, evaluate, run), long_run_leads(store, run)
    network = competitors(contest)[NETWORK].make()
    held = dict(marks)
    if run.sponge is not None:
        assert isinstance(network, NeuralForecaster)
        network = replace(network, sponge=Sponge.of(run.sponge, store))
        held["sponge"] = f"topmost levels: {run.sponge.levels}, days to 1/e: {run.sponge.days:g}"
    runs = (network.forecast(store.dataset(rows[[i]]), leads) for i in range(rows.size))
    measure_long_run(runs, store, evaluate, store.times[rows], leads, out, forecaster=NETWORK, attributes=held)


def _was_made_alike(path: Path, marks: dict[str, str]) -> bool:
    try:
        with xr.open_dataset(path, engine="netcdf4") as dataset:
            return all(dataset.attrs.get(key) == value for key, value in marks.items())
    except (OSError, RuntimeError, ValueError):  # not there, or damaged
        return False


def plot_everything(config: ExperimentConfig) -> None:
    """Skill curves from the scores, maps of one forecast of the network beside truth and physics, and the report."""
    from emulator.evaluation.maps import plot_maps
    from emulator.evaluation.plots import plot_scores as draw_scores
    from emulator.evaluation.plots_long_run import plot_long_run
    from emulator.evaluation.report_sources import find_long_run
    from emulator.evaluation.scores_reader import headline_variables

    contest, folder = Contest.of(config), config.path
    shown = {name: contest.path(name) for name in (NETWORK, *map(physics_name, contest.evaluate.physics))}
    with open_scores(folder / "scores.nc") as scores:
        draw_scores(scores, folder / "plots")
        if (run := find_long_run(scores, folder)) is not None:
            plot_long_run(run, folder / "plots")
        try:
            for variable in headline_variables(scores):
                out = folder / "plots" / f"maps_{variable.replace('@', '')}.png"
                plot_maps(shown, contest.store, contest.evaluate, variable, out, scores)
        except DataError as error:  # curves and report stand without the forecasts
            logger.warning("plot: no maps: %s", error)
    write_report(folder / "scores.nc", None)


def summarise_scores(folder: Path) -> dict[str, Any]:
    """The scores of an experiment in short, and where its results lie."""
    from emulator.evaluation.summary import summarise

    files = ("scores.nc", "table.txt", "report.html", "plots")
    there = {name.partition(".")[0]: str(folder / name) for name in files if (folder / name).exists()}
    with open_scores(folder / "scores.nc") as scores:
        return {"folder": str(folder), "files": there, **summarise(scores)}


def plot_scores(path: Path, out: Path | None) -> None:
    """Skill curves of a scores file alone, into ``out`` or ``plots`` beside the file."""
    from emulator.evaluation.plots import plot_scores as draw_scores

    with open_scores(path) as scores:
        draw_scores(scores, out or path.with_name("plots"))


def write_report(path: Path, out: Path | None) -> Path:
    """One HTML page of a scores file, with maps where the experiment's store and forecasts lie beside it.

    Returns:
      The page: ``out``, or ``report.html`` beside the scores.
    """
    from emulator.evaluation.report import write_report as write
    from emulator.evaluation.report_sources import find_fields, find_long_run, find_provenance

    with open_scores(path) as scores:
        fields, why_not = find_fields(scores, path.parent)
        return write(
            scores,
            out or path.with_name("report.html"),
            fields=fields,
            long_run=find_long_run(scores, path.parent),
            provenance=find_provenance(scores, path.parent),
            without_fields=why_not,
        )
