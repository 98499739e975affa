"""Who competes in an experiment: network and physics, raw and corrected, ensembles, the twin, references, pools."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import re
from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_prep import clock
from data_prep.errors import ConfigError, DataError, UserError, how_to_run
from data_prep.files.disk import link, reading
from data_prep.preparation.store import Store
from data_prep.reading.locations import find_inputs
from data_prep.reading.opening import open_lazily
from emulator.config import EnsembleOptions, EvaluateConfig, ExperimentConfig, PhysicsBaseline
from emulator.evaluation.forecaster_names import is_physics, is_twin
from emulator.experiment.contest import Contest
from emulator.experiment.forecast_files import CORRECTED, DAMPED, ENSEMBLE, NETWORK, is_of_network, training_path
from emulator.experiment.initial_times import training_indices
from emulator.forecast_form import forecast_attributes
from emulator.forecast_io import write_forecasts
from emulator.forecasters.base import Forecaster
from emulator.forecasters.corrected import CorrectedForecaster
from emulator.forecasters.correction import Correction, fit_correction
from emulator.forecasters.ensemble import EnsembleForecaster
from emulator.forecasters.perturbations import RandomFields
from emulator.forecasters.physics_start import check_store
from emulator.forecasters.pooled import PooledForecaster
from emulator.forecasters.written import WrittenForecasts
from emulator.run_folder import WEIGHTS, run_folder

if TYPE_CHECKING:
    from emulator.forecasters.neural import NeuralForecaster

logger = logging.getLogger(__name__)

_TIMES = {"split", "lead_hours", "lead_step_hours", "init_every_hours", "max_inits"}  # keys of `evaluate`
# Global attributes of a forecast file; the last one of files that ``is_of_network``
_DATA_HASH, _OPTIONS, _WEIGHTS = "data_hash", "options", "network_weights"
_NOT_KNOWN = "not known"

Maker = Callable[[], Forecaster]
"""Makes a forecaster when it is needed: a physics model takes a while to build, a correction to fit."""


@dataclass(frozen=True)
class Competitor:
    """One that forecasts in an experiment.

    Attributes:
      make: Makes the forecaster.
      options: What its forecasts depend on beside data and network; its file keeps them.
    """

    make: Maker
    options: Mapping[str, Any]


def competitors(contest: Contest) -> dict[str, Competitor]:
    """Every forecaster that the experiment runs, by name, in the order of tables and in which they are to be run.

    Corrected forecasts, means and ensembles of several read the files of others, so these come before them.

    Raises:
      ConfigError: a mean, ensemble or supermodel is of one that cannot be a member, two forecasters have one name, or
        one is to be perturbed or corrected that is not there.
      DataError: another network is not there.
    """
    from emulator.forecasters.statistical import make_reference

    config, store, evaluate = contest.config, contest.store, contest.evaluate
    everybody = _with_ensemble(NETWORK, partial(_network, NETWORK, contest), {}, evaluate.network, contest)
    for baseline in evaluate.physics:
        own = baseline.model_dump(include={"time_step_minutes", "digital_filter_hours"})
        simulate = partial(_physics, store, baseline)
        everybody |= _with_ensemble(physics_name(baseline), simulate, own, baseline, contest)
    corrected = corrected_models(config)
    for name in [name for name in corrected if name in everybody]:
        everybody |= _with_corrected(name, everybody[name], contest)
    if evaluate.twin is not None:
        everybody |= _with_ensemble(twin_name(config), partial(_twin, config, store), {}, evaluate.twin, contest)
        for hours in evaluate.twin.restart_hours:
            name = f"{twin_name(config)}_restarted_{hours}h"
            everybody[name] = Competitor(partial(_restarted, name, hours, config, store), {"restart_hours": hours})
    for reference in evaluate.references:
        everybody[reference] = Competitor(partial(make_reference, reference, store, contest.leads), {})
    _check_asked(evaluate)
    _refuse_taken("networks", evaluate.networks, everybody)
    for name, run in evaluate.networks.items():
        own = {"weights": _digest_of(name, run)}
        everybody |= _with_ensemble(name, partial(_network, name, contest), own, evaluate.perturbed.get(name), contest)
    of_networks = {name: everybody[name] for name in (NETWORK, *evaluate.networks)}
    _refuse_taken("supermodels", evaluate.supermodels, everybody)
    for name, of in evaluate.supermodels.items():
        _check_members("supermodels", name, of, of_networks)
        own, step = _options_of("supermodel", of, of_networks), partial(_supermodel, name, of, contest)
        everybody |= _with_ensemble(name, step, own, evaluate.perturbed.get(name), contest)
    for name in [name for name in corrected if f"{name}{DAMPED}" not in everybody]:
        everybody |= _with_corrected(name, everybody[name], contest)
    single = {name: one for name, one in everybody.items() if not name.endswith(ENSEMBLE)}
    for key, pools in {"means": evaluate.means, "ensembles": evaluate.ensembles}.items():
        _refuse_taken(key, pools, everybody)
        for name, of in pools.items():
            _check_members(key, name, of, single)
            everybody[name] = Competitor(partial(_pool, key, name, of, contest), _options_of(key[:-1], of, single))
    _refuse_taken("forecasts", evaluate.forecasts, everybody)
    times = evaluate.model_dump(include=_TIMES)
    return {name: replace(one, options={**times, **one.options}) for name, one in everybody.items()}


def check_options(contest: Contest) -> None:
    """Refuses forecasts that are there and were made with other options: others of the folder may cost hours to make.

    Raises:
      UserError: a file was; what can be done is said.
    """
    for path, options in _files(contest).items():
        if path.exists() and (found := _attribute(path, _OPTIONS)) != (wanted := _as_text(options)):
            raise UserError(
                f"{path}: was made with other options ({found}) than are asked for ({wanted}); remove it to have it "
                "made again, or 'emulator forecast CONFIG --redo' makes all forecasts again, or choose another workdir"
            )


def outdated_forecasts(contest: Contest) -> list[Path]:
    """Files that are there and were made from other data than the store holds, or by another network than is there."""
    made_from, weights = contest.store.data_hash, _weights(contest)

    def is_outdated(path: Path) -> bool:
        by_another = is_of_network(path) and weights and _attribute(path, _WEIGHTS) not in (weights, _NOT_KNOWN)
        return bool(by_another) or _attribute(path, _DATA_HASH) != made_from

    return [path for path in _files(contest) if path.exists() and is_outdated(path)]


def take_forecasts(contest: Contest) -> None:
    """Links forecasts that ``reuse`` made from the same data with the same options; a network's are each its own."""
    for path, other in _to_be_taken(contest).items():
        link(other, path)
        logger.info("forecast: %s is taken from %s", path.name, contest.config.reuse)


def _to_be_taken(contest: Contest) -> dict[Path, Path]:
    """Where forecasts will lie that can be had from ``reuse``, and where they lie there."""
    if contest.config.reuse is None:
        return {}
    found = {}
    for path, options in _files(contest).items():
        other = Path(contest.config.reuse) / path.relative_to(contest.folder)
        if is_of_network(path) or path.exists() or not other.exists():
            continue
        if all(_attribute(other, key) == value for key, value in forecast_marks(contest, path, options).items()):
            found[path] = other
    return found


def forecast_marks(contest: Contest, path: Path, options: Mapping[str, Any]) -> dict[str, str]:
    """What a forecast file says of what it was made from and with."""
    marks = {_DATA_HASH: contest.store.data_hash, _OPTIONS: _as_text(options)}
    return marks | ({_WEIGHTS: weights} if is_of_network(path) and (weights := _weights(contest)) else {})


def missing_forecasts(contest: Contest) -> list[str]:
    """Names of the experiment's own forecasters whose file is not there."""
    return [name for name in competitors(contest) if not contest.path(name).exists()]


def what_is_lacking(contest: Contest) -> str | None:
    """Of the experiment's own forecasts, in words; ``None`` where all are there, from the data of the store."""
    if missing := missing_forecasts(contest):
        return f"no forecasts of {', '.join(missing)}"
    others = len(outdated_forecasts(contest))
    return f"{others} forecast files were made from other data or by another network" if others else None


def bytes_to_write(contest: Contest) -> int:
    """What forecasts that are not there yet will take on disk, those that corrections learn from included.

    What is taken from ``reuse`` takes nothing.
    """
    store, evaluate = contest.store, contest.evaluate
    members = {f"{name}{ENSEMBLE}": options.members for name, options in asked_ensembles(contest.config).items()}
    members |= {name: len(of) for name, of in evaluate.ensembles.items()}
    taken = _to_be_taken(contest)
    missing = [name for name in missing_forecasts(contest) if contest.path(name) not in taken]
    forecasts = contest.indices.size * sum(members.get(name, 1) for name in missing)
    raw = corrected_models(contest.config)
    if any(f"{name}{form}" in missing for name in raw for form in CORRECTED):
        learnt_from = [training_path(name, contest.config) for name in raw]
        absent = sum(not path.exists() and path not in taken for path in learnt_from)
        forecasts += training_indices(store, evaluate).size * absent
    cells = contest.leads.size * len(store.spec.state_channels) * math.prod(store.grid.shape)
    return 4 * cells * forecasts


def models(config: ExperimentConfig) -> dict[str, EnsembleOptions]:
    """The ensemble that each model is asked for beside its single forecast: network, physics baselines, twin."""
    evaluate = config.evaluate
    twin = {} if evaluate.twin is None else {twin_name(config): evaluate.twin}
    return {NETWORK: evaluate.network} | {physics_name(b): b for b in evaluate.physics} | twin


def asked_ensembles(config: ExperimentConfig) -> dict[str, EnsembleOptions]:
    """Those of ``models`` and of other networks and supermodels."""
    return models(config) | config.evaluate.perturbed


def corrected_models(config: ExperimentConfig) -> list[str]:
    """Whose forecasts are corrected too: the network's if physics' are, for like is to be compared with like."""
    evaluate = config.evaluate
    if not evaluate.correction_inits:
        return []
    physics = [*map(physics_name, evaluate.physics)]
    return [*dict.fromkeys([*([NETWORK] if physics else []), *physics, *evaluate.corrected])]


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
    return twin_name(config) + (ENSEMBLE if config.evaluate.twin.members > 1 else "")


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
            if "mip_era" in attributes or "experiment_id" in attributes:  # as CMIP requires
                model = attributes.get("source_id", "an unknown model")
                return f"simulation by {model}, {attributes.get('experiment_id', 'an unknown experiment')}"
    except DataError:
        return _NOT_KNOWN
    return "analysis"


def _network(name: str, contest: Contest) -> NeuralForecaster:
    """The experiment's own, or one of ``evaluate.networks``."""
    from emulator.checkpoint import load_forecaster
    from emulator.forecasters.driven import driven_by
    from emulator.forecasters.several import differences

    store = contest.store
    if name == NETWORK:
        network = load_forecaster(contest.folder / "run")
    else:
        run = contest.evaluate.networks[name]
        network = replace(load_forecaster(run), name=name)
        if what := differences(network, store.spec, store.grid, store.timestep):
            raise ConfigError(f"evaluate.networks.{name}: {run}: has other {' and '.join(what)} than the data")
    given = store.forcing_builder.is_lateral.any()
    return driven_by(network, store) if given and network.takes_lateral else network


def _digest_of(name: str, run: str) -> str:
    folder = run_folder(run)
    if not (folder / WEIGHTS).is_file():
        raise DataError(f"evaluate.networks.{name}: {run}: no trained network ({WEIGHTS} is missing)")
    return weights_digest(folder)


def weights_digest(run: Path) -> str:
    """Of a network's weights, so that what one made that was trained anew since is not taken for its own.

    Raises:
      DataError: they are gone.
    """
    weights = run / WEIGHTS
    if not weights.is_file():
        raise DataError(f"{weights}: is missing; train again{how_to_run('train', run.parent, options=' --redo')}")
    with reading(weights), weights.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _weights(contest: Contest) -> str | None:
    """Digest of the experiment's own network, where there is one."""
    run = contest.folder / "run"
    return weights_digest(run) if (run / WEIGHTS).is_file() else None


def _with_ensemble(
    name: str, make: Maker, own: Mapping[str, Any], ensemble: EnsembleOptions | None, contest: Contest
) -> dict[str, Competitor]:
    """A single forecaster, which depends on some options of its own, and, where there are members, its ensemble."""
    single = Competitor(make, own)
    if ensemble is None or ensemble.members == 1:
        return {name: single}
    seed = contest.config.seed
    fields = RandomFields(contest.store, ensemble.perturbation, seed)

    def make_ensemble() -> Forecaster:
        return EnsembleForecaster(make(), ensemble.members, fields, contest.evaluate.batch)

    drawn = {"members": ensemble.members, "perturbation": ensemble.perturbation, "seed": seed}
    return {name: single, f"{name}{ENSEMBLE}": Competitor(make_ensemble, {**own, **drawn})}


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


def _restarted(name: str, hours: int, config: ExperimentConfig, store: Store) -> Forecaster:
    from emulator.forecasters.restarted import RestartedForecaster

    return RestartedForecaster(name, _twin(config, store), np.timedelta64(hours, "h"))


def check_physics(config: ExperimentConfig, store: Store) -> None:
    """Refuses SPEEDY baselines and a twin that cannot be run from the data; none is built.

    Raises:
      UserError: as ``check_start`` of ``emulator.forecasters.physics_start``.
    """
    for baseline in config.evaluate.physics:
        check_store(physics_name(baseline), store, baseline.truncation, baseline.time_step_minutes)
    if config.evaluate.twin is not None:
        assert config.simulate is not None
        check_store(twin_name(config), store, config.simulate.truncation, config.simulate.time_step_minutes)


def check_restarts(config: ExperimentConfig, store: Store) -> None:
    """Refuses a twin that would be restarted between two times of the data.

    Raises:
      ConfigError: it would.
    """
    step = clock.hours(store.timestep)
    for hours in [] if config.evaluate.twin is None else config.evaluate.twin.restart_hours:
        if hours % step:
            raise ConfigError(f"evaluate.twin.restart_hours: {hours} is no multiple of the data's step of {step:g} h")


def _fit(raw: str, make: Maker, contest: Contest) -> Correction:
    """The correction of a forecaster, from training forecasts that are made now if they are not there."""
    store, path = contest.store, training_path(raw, contest.config)
    if not path.exists():
        indices = training_indices(store, contest.evaluate)
        logger.info("forecast: %d training forecasts, to correct %s by", indices.size, raw)
        write_forecasts(
            make(),
            store.lazy_dataset(indices),
            contest.leads,
            path,
            batch=contest.evaluate.batch,
            attributes=forecast_marks(contest, path, _files(contest)[path]),
        )
    return fit_correction(path, store)


def _corrected(raw: str, form: str, path: Path, store: Store, fitted: Callable[[], Correction]) -> Forecaster:
    written = WrittenForecasts(path, store.spec)
    return CorrectedForecaster(
        f"{raw}{form}", store.grid, store.timestep, store.climatology, written, fitted(), form == DAMPED
    )


def _refuse_taken(key: str, names: Iterable[str], taken: Container[str]) -> None:
    for name in names:
        if name in taken:
            raise ConfigError(f"evaluate.{key}.{name}: a forecaster of the experiment has this name; choose another")
        if is_twin(name) or (is_physics(name) and key != "forecasts"):  # tables and pictures go by names
            raise ConfigError(f"evaluate.{key}.{name}: begins as SPEEDY's own forecasts do; choose another name")
        if key == "networks" and name.startswith(NETWORK):
            raise ConfigError(
                f"evaluate.{key}.{name}: begins as the experiment's own network's do; choose another name"
            )


def _with_corrected(name: str, single: Competitor, contest: Contest) -> dict[str, Competitor]:
    """What is made of a single forecaster's forecasts by its training forecasts."""
    options = {**single.options, "correction_inits": contest.evaluate.correction_inits}
    fitted = cache(partial(_fit, name, single.make, contest))
    path, store = contest.path(name), contest.store
    return {
        f"{name}{form}": Competitor(partial(_corrected, name, form, path, store, fitted), options) for form in CORRECTED
    }


def _check_asked(evaluate: EvaluateConfig) -> None:
    """Refuses that something be made of one that is not there, or that it get the name of another."""
    others = [*evaluate.networks, *evaluate.supermodels]
    if NETWORK in evaluate.perturbed:
        raise ConfigError(f"evaluate.perturbed: {NETWORK}: the ensemble of the experiment's own is evaluate.network")
    for key, names, forms in (
        ("perturbed", [*evaluate.perturbed], (ENSEMBLE,)),
        ("corrected", evaluate.corrected, CORRECTED),
    ):
        for name in names:
            if name not in (NETWORK, *others):
                known = ", ".join(others) or "none"
                raise ConfigError(f"evaluate.{key}: {name}: is none of networks and supermodels; they are {known}")
            if twice := [f"{name}{form}" for form in forms if f"{name}{form}" in others]:
                raise ConfigError(f"evaluate.{key}: {name}: there is another {twice[0]}; give that one another name")


def _check_members(key: str, name: str, of: Sequence[str], admitted: Collection[str]) -> None:
    for member in of:
        if of.count(member) > 1:
            raise ConfigError(f"evaluate.{key}.{name}: {member} is there twice; all members weigh the same")
        if member not in admitted:
            kind = "network" if key == "supermodels" else "single forecaster"
            raise ConfigError(f"evaluate.{key}.{name}: {member}: no {kind}; there are {', '.join(admitted)}")


def _options_of(kind: str, of: Sequence[str], everybody: Mapping[str, Competitor]) -> dict[str, Any]:
    return {f"{kind}_of": {member: everybody[member].options for member in of}}


def _supermodel(name: str, of: Sequence[str], contest: Contest) -> Forecaster:
    from emulator.forecasters.several import SeveralNetworks

    try:
        return SeveralNetworks(tuple(_network(member, contest) for member in of), "supermodel", name)
    except DataError as error:
        raise ConfigError(f"evaluate.supermodels.{name}: {error}") from None


def _pool(key: str, name: str, of: Sequence[str], contest: Contest) -> Forecaster:
    store = contest.store
    members = tuple(WrittenForecasts(contest.path(member), store.spec) for member in of)
    return PooledForecaster(name, store.grid, store.timestep, members, as_ensemble=key == "ensembles")


def _files(contest: Contest) -> dict[Path, Mapping[str, Any]]:
    """Every file that the experiment writes, whether it is there or not, and the options that it depends on."""
    everybody = competitors(contest)
    files = {contest.path(name): one.options for name, one in everybody.items()}
    corrected = corrected_models(contest.config)
    return files | {training_path(n, contest.config): everybody[f"{n}{DAMPED}"].options for n in corrected}


def _attribute(path: Path, name: str) -> str:
    return str(forecast_attributes(path).get(name, _NOT_KNOWN))


def _as_text(options: Mapping[str, Any]) -> str:
    return json.dumps(options, sort_keys=True)
