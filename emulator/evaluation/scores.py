"""From forecast files to one scores file: additive statistics, metrics with intervals, crossovers, cost.

Statistics go to the file as they are made, and comparisons are added to it at the end, so memory does not grow with the
number of initial times.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Mapping
from concurrent.futures import Executor
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import xarray as xr

from data_prep import clock
from data_prep.errors import ConfigError, DataError, printable
from data_prep.files.disk import closing_once, replacing
from data_prep.files.netcdf_file import write_netcdf
from data_prep.preparation.store import Split, Store
from data_prep.spec import CONVENTIONS
from emulator import __version__
from emulator.config import EvaluateConfig
from emulator.evaluation.comparison import compare
from emulator.evaluation.encoding import encoding_of
from emulator.evaluation.external_files import Places
from emulator.evaluation.extremes import QUANTILES
from emulator.evaluation.fields import Verification, cannot_hold, units_of
from emulator.evaluation.forecast_file import ExternalFile, ForecastFile, LeftOut, describe_time, open_compared
from emulator.evaluation.gross_errors import warn_of_gross_errors
from emulator.evaluation.regions import read_mask, scored_regions
from emulator.evaluation.scoring import Distribution, Scoring, tallies
from emulator.evaluation.significance import SEED
from emulator.evaluation.statistics import LONG_NAMES
from emulator.learned_from import among_learned
from emulator.progress import track

logger = logging.getLogger(__name__)

FORMAT_VERSION = 1

_CELLS = ("variable", "lead_time", "init_time", "region")
_CHUNK_INITS = 32
_MOST_NAMED = 10  # initial times that are left out, in the log; the scores' attribute names all


def evaluate(
    forecast_paths: Mapping[str, Places],
    store: Store,
    config: EvaluateConfig,
    out: Path,
    *,
    attributes: Mapping[str, str] | None = None,
    executor: Executor | None = None,
    training: Store | None = None,
) -> xr.Dataset:
    """Scores forecast files against the truth and writes ``scores.nc``.

    Args:
      forecast_paths: File of each forecaster, in the order of tables and plots; those of an external one.
      store: The truth, and the climatology that anomalies are measured from.
      config: Split, pressure levels, regions, mask, bootstrap; which variables must be there (``headline``).
      out: The scores file; it appears only when it is complete.
      attributes: More global attributes: ``truth`` (what the truth is), ``predictability_limit`` (whose error is
        the limit).
      executor: Workers that share the folder of the files, such as a process pool or a dask client's executor; this
        process does all the work when left out.
      training: Holds the training data where ``store``, whose climatology is theirs, does not.

    Returns:
      The scores file, opened lazily; see ``docs/architecture.md``.

    Raises:
      DiskError: the scores cannot be written.
      DataError: files differ in their initial times, leads or grid, hold NaN, lack a headline variable, an initial
        time does not belong to the split, or a valid time lies in a season that no climatology is known of.
    """
    if not forecast_paths:
        raise DataError("evaluate: no forecast files; run the forecast stage")
    files, left_out = open_compared(forecast_paths, store, config)
    first = next(iter(files.values()))
    verification = _verification(store, config, first.init_times, first.lead_times)
    foreign = {s.split for s in verification.segments} - {config.split}
    if foreign:
        raise DataError(
            f"evaluate: forecasts start in the {', '.join(sorted(foreign))} split, evaluate.split is {config.split}"
        )
    regions = scored_regions(store.grid, config.regions, store.land_share, verification.mask)
    training = training or store
    gap = _gap_hours(verification, training, config)
    scoring = Scoring.of(verification, files, _scored_variables(files, verification, config), regions, training)
    told = _learned(files, verification) | _lateral_boundary(files) | _left_out(left_out, first)
    _tell_of_more(files)
    facts = _attributes(store, config, verification) | gap | told | dict(attributes or {})

    with replacing(out) as temporary:
        coordinates = _coordinates(scoring, facts)
        write_netcdf(coordinates, temporary, encoding=encoding_of(coordinates))
        distributions = _write_statistics(temporary, scoring, executor)
        with xr.open_dataset(temporary) as statistics:
            compared = compare(statistics, config).drop_vars(list(statistics.data_vars)).load()
        warn_of_gross_errors(compared, {n: given for n, given in config.forecasts.items() if n in files})
        scores = _with_origin(compared.merge(distributions), files)
        write_netcdf(scores, temporary, mode="a", encoding=encoding_of(scores))
    return xr.open_dataset(out)


def check_config(store: Store, config: EvaluateConfig, init_times: np.ndarray, lead_times: np.ndarray) -> None:
    """Finds, before there are forecasts, what ``evaluate`` would refuse of its config.

    Raises:
      ConfigError: the truth holds no such headline variable.
      DataError: the mask is none for its grid, a region of the config's has a name that is taken or holds nothing
        that is verified, or a valid time lies in a season that no climatology is known of.
    """
    verification = _verification(store, config, init_times, lead_times)
    scored_regions(store.grid, config.regions, store.land_share, verification.mask)
    _gap_hours(verification, store, config)
    first = verification.rows[:1, 0]
    truth = verification.truth(first)
    verification.climatology(first)  # which may lack the hour of the day
    for name in (v for v in config.headline if v not in truth):
        near = difflib.get_close_matches(name, truth, n=1, cutoff=0.0)
        raise ConfigError(
            f"evaluate.headline: {name} is not verified; did you mean {near[0]}? There are {', '.join(truth)}"
        )


def _verification(store: Store, config: EvaluateConfig, init_times: np.ndarray, lead_times: np.ndarray) -> Verification:
    store.climatology.check_season((init_times[:, None] + lead_times).ravel())  # anomalies are scored at all of them
    mask = read_mask(Path(config.mask), store.grid) if config.mask else None
    return Verification(store, init_times, lead_times, tuple(config.pressure_levels), tuple(config.derived), mask)


def _gap_hours(verification: Verification, training: Store, config: EvaluateConfig) -> dict[str, float]:
    """The scores' attribute ``gap_hours``: from what is verified to the nearest data that the network was made with.

    Those are the training data and, beside test data, those for validation. Warns where they are nearer than the
    longest lead: weather lasts, and a network that has seen the days before may know those after.
    """
    first, last = verification.init_times, verification.init_times + verification.lead_times[-1]
    seen = [s for s in training.segments if s.split == "train" or (s.split, config.split) == ("validation", "test")]
    if not seen:
        return {}
    gaps = [np.maximum(s.first_time - last, first - s.last_time).min() for s in seen]
    gap, lead = map(clock.hours, (min(gaps), verification.lead_times[-1]))
    if gap < lead:
        _warn_of_gap(gap, seen[int(np.argmin(gaps))].split, lead, training.data_hash)
    return {"gap_hours": gap}


@lru_cache(maxsize=64)  # a run asks before it trains, before it scores, and as it scores
def _warn_of_gap(gap: float, split: Split, lead: float, _data: str) -> None:
    """Says so once of the same data."""
    logger.warning(
        "evaluate: what is verified lies %g h from data for %s, less than the longest lead (%g h): scores may "
        "flatter the network; raise data.split.gap_days to %g or more, or shorten evaluate.lead_hours",
        gap,
        split,
        lead,
        np.ceil(lead / 24),
    )


def _learned(files: Mapping[str, ForecastFile], verification: Verification) -> dict[str, str]:
    """The scores' attribute ``verified_on_training``: who learned from times that are verified here, and how often."""
    first, last = verification.init_times, verification.init_times + verification.lead_times[-1]
    seen = {n: among_learned(file.attributes, verification.store, first, last).sum() for n, file in files.items()}
    found = ", ".join(f"{name} ({count} of {first.size} forecasts)" for name, count in seen.items() if count)
    if found:
        logger.warning(
            "evaluate: verified at times that its network learned from: %s; unless those data were of another "
            "simulation these are no scores of forecasts",
            found,
        )
    return {"verified_on_training": found} if found else {}


def _left_out(left_out: LeftOut, first: ForecastFile) -> dict[str, str]:
    """The scores' attribute of this name: which initial times are left out, and who lacks them."""
    if not left_out:
        return {}
    absent = np.unique(np.concatenate([*left_out.values()])).size
    count = f"{absent} of {absent + first.init_times.size} initial times"
    named = {name: [describe_time(time) for time in times] for name, times in left_out.items()}
    some = [f"{n} lacks {', '.join(t[:_MOST_NAMED])}{', ...' * (len(t) > _MOST_NAMED)}" for n, t in named.items()]
    logger.warning("evaluate: %s are left out for everybody (evaluate.missing_inits): %s", count, "; ".join(some))
    return {"left_out": f"{count}: " + "; ".join(f"{n} lacks {', '.join(times)}" for n, times in named.items())}


def _tell_of_more(files: Mapping[str, ForecastFile]) -> None:
    """Says of whose forecasts some are not compared, for others do not start then."""
    for name, file in files.items():
        if isinstance(file, ExternalFile) and (held := file.source.init_times.size) > file.init_times.size:
            logger.info("evaluate: %s: %d of its %d initial times are compared", name, file.init_times.size, held)


def _lateral_boundary(files: Mapping[str, ForecastFile]) -> dict[str, str]:
    """The scores' attribute of this name: what forecasters were given in the rim of their region, where some were."""
    found = dict.fromkeys(printable(str(file.attributes.get("lateral_boundary", ""))) for file in files.values())
    said = " and ".join(filter(None, found))
    return {"lateral_boundary": said} if said else {}


def _scored_variables(
    files: Mapping[str, ForecastFile], verification: Verification, config: EvaluateConfig
) -> list[str]:
    """What the truth and at least one forecaster hold, in the truth's order; what somebody lacks is said."""
    truth = verification.truth(verification.rows[:1, 0])
    one = slice(0, 1)
    held = {name: set(verification.forecast(file, one, one)) for name, file in files.items()}
    variables = [v for v in truth if any(v in planes for planes in held.values())]
    for name in files:
        missing = [v for v in variables if v not in held[name]]
        if missing:
            logger.warning("the forecasts of %s lack %s: not scored there", name, ", ".join(missing))
    must = {name: planes for name, planes in held.items() if not files[name].is_external}
    whole = [v for v in variables if all(v in p or cannot_hold(files[name], v) for name, p in must.items())]
    if not variables:
        raise DataError(f"evaluate: no forecast holds anything of what is verified: {', '.join(truth)}")
    if lacking := [v for v in config.headline if v not in whole]:
        raise DataError(
            f"evaluate.headline: {', '.join(lacking)} cannot be scored; truth holds {', '.join(truth)}, "
            f"all forecasts hold {', '.join(whole)}"
        )
    return variables


def _coordinates(scoring: Scoring, attributes: Mapping[str, Any]) -> xr.Dataset:
    verification = scoring.verification
    return xr.Dataset(
        coords={
            "forecaster": list(scoring.files),
            "variable": list(scoring.variables),
            "lead_time": ("lead_time", verification.lead_times, {"standard_name": "forecast_period"}),
            "init_time": ("init_time", verification.init_times, {"standard_name": "forecast_reference_time"}),
            "region": [r.name for r in scoring.regions],
            "trajectory": ("init_time", verification.trajectories, {"long_name": "stretch of the truth"}),
            "units": ("variable", [units_of(v, verification.store) for v in scoring.variables]),
        },
        data_vars={} if verification.mask is None else {"mask": _mask(verification.mask)},
        attrs=dict(attributes),
    )


def _mask(verified: np.ndarray) -> xr.Variable:
    text = "1 where points were verified, in the order of the truth's grid"
    return xr.Variable(("latitude", "longitude"), verified.astype(np.int8), {"long_name": text})


def _write_statistics(path: Path, scoring: Scoring, executor: Executor | None) -> xr.Dataset:
    """Writes the additive statistics of each initial time, and returns what is summed over all of them."""
    shape = (len(scoring.files), len(scoring.variables), scoring.verification.lead_times.size)
    n_init, n_region = scoring.verification.init_times.size, len(scoring.regions)
    total = None
    file = netCDF4.Dataset(path, "a")
    with closing_once(file):
        for name in (*scoring.forecast_statistics, *scoring.truth_statistics):
            dims = (*(("forecaster",) if name in scoring.forecast_statistics else ()), *_CELLS)
            chunks = (*(1 for _ in dims[:-3]), shape[2], min(n_init, _CHUNK_INITS), n_region)
            variable = file.createVariable(
                name,
                "f8",
                dims,
                zlib=True,
                complevel=1,
                shuffle=True,
                fletcher32=True,
                chunksizes=chunks,
                fill_value=np.nan,
            )
            variable.long_name = LONG_NAMES[name]
        with track(n_init, "initial times scored") as progress:
            for tally in tallies(scoring, executor):
                for name, value in tally.statistics.items():
                    file[name][..., tally.inits, :] = value
                total = tally.distribution if total is None else total + tally.distribution
                progress.advance(tally.inits.stop - tally.inits.start)
    assert total is not None
    return _distributions(total, scoring)


def _distributions(total: Distribution, scoring: Scoring) -> xr.Dataset:
    """Mean spectra and quantiles of anomalies."""
    n_init = scoring.verification.init_times.size
    bins = [scoring.bins[v] for v in scoring.variables]
    quantiles = {
        name: np.stack([b.quantiles(counts[..., i, :, :], QUANTILES) for i, b in enumerate(bins)], axis=-3)
        for name, counts in (("forecast_quantile", total.forecast_counts), ("truth_quantile", total.truth_counts))
    }
    text = "quantile of the anomalies of all points, by area, and initial times, {}"
    data: dict[str, Any] = {
        "forecast_quantile": (
            ("forecaster", "variable", "lead_time", "quantile"),
            quantiles["forecast_quantile"],
            {"long_name": text.format("forecast")},
        ),
        "truth_quantile": (
            ("variable", "lead_time", "quantile"),
            quantiles["truth_quantile"],
            {"long_name": text.format("truth")},
        ),
    }
    coords: dict[str, Any] = {"quantile": ("quantile", list(QUANTILES), {"long_name": "probability", "units": "1"})}
    if total.forecast_power is not None and total.truth_power is not None:
        even = scoring.verification.store.grid.shape[1] % 2 == 0
        text = "area-mean power along the circles of latitude, {}" + "; the highest wavenumber counts double" * even
        dims = ("variable", "lead_time", "wavenumber")
        data["forecast_power"] = (
            ("forecaster", *dims),
            total.forecast_power / n_init,
            {"long_name": text.format("forecast")},
        )
        data["truth_power"] = (dims, total.truth_power / n_init, {"long_name": text.format("truth")})
        numbers = np.arange(1, total.truth_power.shape[-1] + 1)
        coords["wavenumber"] = ("wavenumber", numbers, {"long_name": "zonal wavenumber", "units": "1"})
    return xr.Dataset(data, coords)


def _with_origin(scores: xr.Dataset, files: Mapping[str, ForecastFile]) -> xr.Dataset:
    """Adds what each forecaster's file says: members, what it cost (NaN where it does not say), how it was made."""
    for key, text in (
        ("seconds_per_simulated_day", "wall seconds for a simulated day of one forecast"),
        ("simulated_days_per_second", "simulated days for a wall second"),
    ):
        values = [_number(f, key) for f in files.values()]
        scores[key] = ("forecaster", values, {"long_name": text})
    hardware = [printable(str(f.attributes.get("hardware", "unknown"))) for f in files.values()]
    members = [max(1, f.members) for f in files.values()]
    text = "members of the ensemble whose mean is scored, 1 of a single forecast"
    made = [printable(str(f.attributes.get("history", ""))) for f in files.values()]
    scores["forecast_history"] = ("forecaster", made, {"long_name": "when and how the forecast file was written"})
    return scores.assign_coords(hardware=("forecaster", hardware), members=("forecaster", members, {"long_name": text}))


def _number(file: ForecastFile, key: str) -> float:
    value = file.attributes.get(key, np.nan)
    if not isinstance(value, (int, float, np.integer, np.floating)):
        raise DataError(f"{file.path}: its attribute {key} is no number; remove it, or make the file again")
    return float(value)


def _attributes(store: Store, config: EvaluateConfig, verification: Verification) -> dict[str, Any]:
    pooled = {"means": config.means, "ensembles": config.ensembles, "supermodels": config.supermodels}
    return {
        "Conventions": CONVENTIONS,
        "format_version": FORMAT_VERSION,
        "title": "Scores of weather forecasts",
        "history": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} scored",
        "emulator_version": __version__,
        "data_hash": store.data_hash,
        "climatology": store.climatology.kind,
        "split": config.split,
        "headline": " ".join(config.headline),
        **{key: "; ".join(f"{name}: {' '.join(of)}" for name, of in pools.items()) for key, pools in pooled.items()},
        "initial_times": verification.init_times.size,
        "trajectories": len(set(verification.trajectories)),
        "confidence": config.confidence,
        "bootstrap": config.bootstrap,
        "seed": SEED,
    }
