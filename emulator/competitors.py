"""Who competes in an experiment: network and physics, raw and corrected, ensembles, the twin, references, means."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

from data_prep.errors import ConfigError, DataError
from data_prep.opening import open_lazily
from data_prep.pipeline import find_inputs
from data_prep.store import Store
from emulator.config import EnsembleOptions, ExperimentConfig, PhysicsBaseline
from emulator.forecast_io import write_forecasts
from emulator.forecasters.base import Forecaster
from emulator.forecasters.corrected import CorrectedForecaster
from emulator.forecasters.correction import Correction, fit_correction
from emulator.forecasters.ensemble import EnsembleForecaster
from emulator.forecasters.mean import MeanForecaster
from emulator.forecasters.perturbations import RandomFields
from emulator.forecasters.written import WrittenForecasts
from emulator.initial_times import initial_indices, training_indices, verified_leads

logger = logging.getLogger(__name__)

NETWORK = "network"

_ENSEMBLE = "_ensemble"
_CORRECTED = ("debiased", "damped")

Maker = Callable[[], Forecaster]
"""Makes a forecaster when it is needed: a physics model takes a while to build, a correction to fit."""


def competitors(config: ExperimentConfig, folder: Path, store: Store) -> dict[str, Maker]:
    """Every forecaster that the experiment runs, by name, in the order of tables and in which they are to be run.

    Corrected forecasts and means read the files of others, so these come before them. The network is corrected if
    physics is, by as many training forecasts: like is to be compared with like.

    Raises:
      ConfigError: a mean is of a forecaster that is none or no single one, or two forecasters have one name.
    """
    from emulator.forecasters.statistical import make_reference

    evaluate = config.evaluate
    makers = _with_ensemble(NETWORK, partial(_network, folder, store), evaluate.network, config, store)
    for baseline in evaluate.physics:
        makers |= _with_ensemble(physics_name(baseline), partial(_physics, store, baseline), baseline, config, store)
    if evaluate.physics and evaluate.correction_inits:
        for raw in (NETWORK, *map(physics_name, evaluate.physics)):
            fitted = cache(partial(_fit, raw, makers[raw], config, folder, store))
            for word in _CORRECTED:
                makers[f"{raw}_{word}"] = partial(_corrected, raw, word, folder, store, fitted)
    if evaluate.twin is not None:
        makers |= _with_ensemble(twin_name(config), partial(_twin, config, store), evaluate.twin, config, store)
    for reference in evaluate.references:
        makers[reference] = partial(make_reference, reference, store, verified_leads(evaluate))
    single = [name for name in makers if not name.endswith(_ENSEMBLE)]
    _refuse_taken("means", evaluate.means, makers)
    makers |= {name: _mean_maker(name, of, single, folder, store) for name, of in evaluate.means.items()}
    _refuse_taken("forecasts", evaluate.forecasts, makers)
    return makers


def missing_forecasts(config: ExperimentConfig, folder: Path, store: Store) -> list[str]:
    """Names of the experiment's own forecasters whose file is not there."""
    return [n for n in competitors(config, folder, store) if not forecast_path(n, config, folder).exists()]


def bytes_to_write(config: ExperimentConfig, folder: Path, store: Store) -> int:
    """What forecasts that are not there yet will take on disk, those that corrections learn from included."""
    evaluate = config.evaluate
    models: dict[str, EnsembleOptions] = {NETWORK: evaluate.network} | {physics_name(b): b for b in evaluate.physics}
    if evaluate.twin is not None:
        models[twin_name(config)] = evaluate.twin
    members = {f"{name}{_ENSEMBLE}": options.members for name, options in models.items()}
    missing = missing_forecasts(config, folder, store)
    forecasts = initial_indices(store, evaluate).size * sum(members.get(name, 1) for name in missing)
    if any(name.endswith(_CORRECTED) for name in missing):
        raw = (NETWORK, *map(physics_name, evaluate.physics))
        forecasts += training_indices(store, evaluate).size * sum(not _training_path(n, folder).exists() for n in raw)
    cells = verified_leads(evaluate).size * len(store.spec.state_channels) * math.prod(store.grid.shape)
    return 4 * cells * forecasts


def forecast_path(name: str, config: ExperimentConfig, folder: Path) -> Path:
    """The file of a forecaster of the experiment. Those of means lie apart: a new network makes them worthless."""
    return _path(f"means/{name}" if name in config.evaluate.means else name, folder)


def physics_name(baseline: PhysicsBaseline) -> str:
    """What a baseline is called in files and tables."""
    return f"physics_t{baseline.truncation}"


def twin_name(config: ExperimentConfig) -> str:
    """What the twin is called: by the truncation of the truth."""
    assert config.simulate is not None  # the config holds no twin without
    return f"twin_t{config.simulate.truncation}"


def predictability_limit(config: ExperimentConfig) -> str | None:
    """Whose error is the limit of what can be forecast: the twin's ensemble, else the single twin, else unknown."""
    if config.evaluate.twin is None:
        return None
    return twin_name(config) + (_ENSEMBLE if config.evaluate.twin.members > 1 else "")


def truth_of(config: ExperimentConfig) -> str:
    """What the truth is, in words: ``nature run SPEEDY T31``, ``simulation by MODEL, historical`` or ``analysis``.

    Files that another experiment made are told by their attributes; what is not there any more is ``not known``.
    """
    if config.simulate is not None:
        return f"nature run SPEEDY T{config.simulate.truncation}"
    try:
        for pattern in config.data.inputs:
            with open_lazily(find_inputs([pattern], config.path)[0]) as first:
                attributes = first.attrs
            if match := re.match(r"SPEEDY T\d+", str(attributes.get("source", ""))):
                return f"nature run {match[0]}"
            if experiment := attributes.get("experiment_id"):  # as CMIP requires
                return f"simulation by {attributes.get('source_id', 'an unknown model')}, {experiment}"
    except DataError:
        return "not known"
    return "analysis"


def lateral_boundary_of(store: Store) -> str | None:
    """Where the network's lateral boundary values are from, in words; ``None`` where it has none."""
    if not store.forcing_builder.is_lateral.any():
        return None
    return "the driving data set at valid time"


def _network(folder: Path, store: Store) -> Forecaster:
    from emulator.checkpoint import load_forecaster

    forecaster = load_forecaster(folder / "run")
    return replace(forecaster, lateral=store.lateral_at) if store.forcing_builder.is_lateral.any() else forecaster


def _with_ensemble(
    name: str, make: Maker, options: EnsembleOptions, config: ExperimentConfig, store: Store
) -> dict[str, Maker]:
    """A single forecaster and, where there are members, its ensemble."""
    if options.members == 1:
        return {name: make}
    fields = RandomFields(store, options.perturbation, config.seed)

    def ensemble() -> Forecaster:
        return EnsembleForecaster(make(), options.members, fields, config.evaluate.batch)

    return {name: make, f"{name}{_ENSEMBLE}": ensemble}


def _physics(store: Store, baseline: PhysicsBaseline) -> Forecaster:
    from emulator.forecasters.physics import PhysicsForecaster  # needs the extra 'physics', which the core does without

    return PhysicsForecaster.for_store(
        store, baseline.truncation, baseline.time_step_minutes, baseline.digital_filter_hours
    )


def _twin(config: ExperimentConfig, store: Store) -> Forecaster:
    from emulator.forecasters.physics import PhysicsForecaster

    assert config.simulate is not None
    return PhysicsForecaster.for_store(
        store, config.simulate.truncation, config.simulate.time_step_minutes, name=twin_name(config)
    )


def _fit(raw: str, make: Maker, config: ExperimentConfig, folder: Path, store: Store) -> Correction:
    """The correction of a forecaster, from training forecasts that are made now if they are not there."""
    path = _training_path(raw, folder)
    if not path.exists():
        indices = training_indices(store, config.evaluate)
        logger.info("forecast: %d training forecasts, to correct %s by", indices.size, raw)
        write_forecasts(
            make(),
            store.lazy_dataset(indices),
            verified_leads(config.evaluate),
            path,
            batch=config.evaluate.batch,
            attributes={"data_hash": store.data_hash},
        )
    return fit_correction(path, store)


def _corrected(raw: str, word: str, folder: Path, store: Store, fitted: Callable[[], Correction]) -> Forecaster:
    written = WrittenForecasts(_path(raw, folder), store.spec)
    name, damped = f"{raw}_{word}", word == "damped"
    return CorrectedForecaster(name, store.grid, store.timestep, store.climatology, written, fitted(), damped)


def _refuse_taken(key: str, names: Iterable[str], taken: Container[str]) -> None:
    for name in names:
        if name in taken:
            raise ConfigError(f"evaluate.{key}.{name}: a forecaster of the experiment has this name; choose another")


def _mean_maker(name: str, of: Sequence[str], single: Sequence[str], folder: Path, store: Store) -> Maker:
    for member in of:
        if member not in single:
            raise ConfigError(f"evaluate.means.{name}: {member}: no single forecaster; there are {', '.join(single)}")
    members = tuple(WrittenForecasts(_path(member, folder), store.spec) for member in of)
    return partial(MeanForecaster, name, store.grid, store.timestep, members)


def _training_path(name: str, folder: Path) -> Path:
    return folder / "forecasts" / "training" / f"{name}.nc"


def _path(name: str, folder: Path) -> Path:
    return folder / "forecasts" / f"{name}.nc"
