"""The run folder: everything a forecast needs, and everything training needs to go on.

    run.json            what was trained: config, spec, grid, time step, hash and dates of the data
    arrays.npz          statistics, profiles from south to north, forcing tables, static fields, the climatology where
                        anomalies were learned
    weights.npz         averaged weights of the last checkpoint: what forecasts use
    checkpoints/STEP/   what training goes on from (training.checkpoints)
    metrics.jsonl, tensorboard/

``load_forecaster`` reads the first three alone, so a folder without ``checkpoints`` can be handed on. Plain JSON and
arrays: nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from flax import nnx
from pydantic import TypeAdapter, ValidationError

from data_prep.errors import DataError, how_to_run, one_line
from data_prep.files.disk import write_text
from data_prep.files.json_file import read_object
from data_prep.files.npz import read_arrays, write_arrays
from data_prep.forcing import ForcingBuilder
from data_prep.grid import Grid
from data_prep.preparation.climatology import Climatology
from data_prep.preparation.statistics import Statistics
from data_prep.preparation.store import Store
from data_prep.spec import StateSpec
from emulator import __version__
from emulator.anomalies import without_bounds
from emulator.config import ModelConfig
from emulator.forecasters.neural import NeuralForecaster
from emulator.forecasters.profiles import Profiles
from emulator.learned_from import LEARNED_FROM, Period, as_text, learned_periods, training_periods
from emulator.packing import unpack_table
from emulator.run_folder import DESCRIPTION, SHIPPED, WEIGHTS, is_half_trained, run_folder
from emulator.stepping.stepper import make_stepper

logger = logging.getLogger(__name__)

FORMAT_VERSION = 1
"""Of run folders."""
ARRAYS = "arrays.npz"

Tree = TypeVar("Tree")


def named_leaves(tree: Any) -> dict[str, np.ndarray]:
    """Copies of all arrays of a pytree by their path, e.g. ``encoder/0/1/first/kernel``."""
    leaves = leaves_by_path(tree)
    for leaf in leaves.values():  # all on their way before the first is waited for
        if isinstance(leaf, jax.Array):
            leaf.copy_to_host_async()
    return {name: np.array(leaf) for name, leaf in leaves.items()}


def leaves_by_path(tree: Any) -> dict[str, Any]:
    """All leaves of a pytree by their path, as they are."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def replace_leaves(tree: Tree, arrays: Mapping[str, Any], *, source: str) -> Tree:
    """The pytree with its arrays replaced by those of the same path, on the host; inverse of ``named_leaves``.

    Of its own arrays shapes and types are asked, so ``jax.ShapeDtypeStruct`` do as well.

    Raises:
      DataError: paths or shapes differ; the first is named.
    """
    expected = leaves_by_path(tree)
    for name in sorted(set(expected) ^ set(arrays)):
        raise DataError(
            f"{source}: array {name} is {'missing' if name in expected else 'unknown'}; another model wrote it"
        )
    for name, array in expected.items():
        if np.shape(arrays[name]) != array.shape:
            raise DataError(f"{source}: array {name} has shape {np.shape(arrays[name])}, expected {array.shape}")
    leaves = [np.asarray(arrays[name], dtype=array.dtype) for name, array in expected.items()]
    return jax.tree.unflatten(jax.tree.structure(tree), leaves)


def describe_run(
    run_dir: Path,
    store: Store,
    model: ModelConfig,
    *,
    precision: str,
    seed: int,
    identity: str,
    experiment: Mapping[str, Any],
    anomalies: bool = False,
    learned_before: Iterable[Period] = (),
) -> None:
    """Writes ``run.json`` and ``arrays.npz``.

    Args:
      run_dir: The run folder.
      store: What is trained on, fields as they are; statistics of departures where those are learned.
      model: Which network.
      precision: Compute precision.
      seed: Of the run.
      identity: Hash of all that decides the course of training; a run goes on only under the same.
      experiment: The resolved config, kept for the reader.
      anomalies: Whether the network steps departures from the store's climatology, which is then kept too.
      learned_before: When the data were of that the weights it begins with learned from.
    """
    arrays = {f"statistics/{k}": v for k, v in store.statistics.to_arrays().items()}
    arrays |= {f"forcing/{k}": v for k, v in store.forcing_builder.to_arrays().items()}
    if anomalies:
        arrays |= {f"climatology/{k}": np.asarray(v) for k, v in store.climatology.to_arrays().items()}
    if (profiles := Profiles.of(store)) is not None:
        arrays |= {f"profiles/{k}": v for k, v in profiles.to_arrays().items()}
    arrays["static"] = store.static
    if store.surface_geopotential is not None:
        arrays["surface_geopotential"] = store.surface_geopotential
    write_arrays(run_dir / ARRAYS, arrays)
    description = {
        "format_version": FORMAT_VERSION,
        "emulator_version": __version__,
        "identity": identity,
        "data_hash": store.data_hash,
        "precision": precision,
        "seed": seed,
        "timestep_seconds": float(store.timestep / np.timedelta64(1, "s")),
        "model": model.model_dump(mode="json"),
        "spec": store.spec.to_dict(),
        "grid": store.grid.to_dict(),
        **_reading_of(experiment),
        "experiment": dict(experiment),
        LEARNED_FROM: as_text([*training_periods(store), *learned_before]),
    }
    write_description(run_dir, description)


def write_description(run_dir: Path, description: Mapping[str, Any]) -> None:
    """Writes ``run.json`` with its hash; inverse of ``read_description``."""
    signed = {**description, "sha256": _digest_of(description)}
    write_text(run_dir / DESCRIPTION, json.dumps(signed, indent=1))


def read_weights(run_dir: Path, template: nnx.State) -> nnx.State:
    """The weights that a run folder forecasts with, in the structure of ``template``.

    Raises:
      DataError: there are none, they are damaged, or of another network.
    """
    file = run_dir / WEIGHTS
    if not file.exists():
        raise DataError(f"{file}: not there yet: training has not reached its first checkpoint; let it go on")
    arrays = read_arrays(file, how_to_train(run_dir))
    return jax.tree.map(jax.numpy.asarray, replace_leaves(template, arrays, source=str(file)))


def read_statistics(run_dir: Path) -> Statistics:
    """What a run folder's network learned with.

    Raises:
      DataError: the file is missing or damaged.
    """
    return Statistics.from_arrays(_below(read_arrays(run_dir / ARRAYS, how_to_train(run_dir)), "statistics/"))


def read_description(run_dir: Path) -> dict[str, Any]:
    """``run.json``.

    Raises:
      DataError: there is none, it is damaged, or another format version wrote it.
    """
    file = run_dir / DESCRIPTION
    if not file.is_file():
        raise DataError(
            f"{run_dir}: no run folder ({DESCRIPTION} is missing); run the train stage, or name a network that ships "
            f"({SHIPPED})"
        )
    again = how_to_train(run_dir)
    description = read_object(file, again)
    version = description.get("format_version", "missing")
    if version != FORMAT_VERSION:
        raise DataError(f"{file}: format version {version}, this program reads {FORMAT_VERSION}; {again}")
    if description.pop("sha256", None) != _digest_of(description):
        raise DataError(f"{file}: damaged, its contents do not match its hash; {again}")
    return description


def how_to_train(run_dir: Path) -> str:
    """What to do about a run folder that cannot be used."""
    return "train again" + how_to_run("train", run_dir.parent, options=" --redo")


def _digest_of(description: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()


def load_forecaster(run_dir: str | Path) -> NeuralForecaster:
    """The trained network of a run folder, ready to forecast; needs no other file.

    Of a training that has not come to its end, the network as it is by now, and a warning.

    Args:
      run_dir: The folder, that of its experiment, or the name of a network that ships: ``speedy_t31``.

    Raises:
      DataError: the folder is no run, is damaged, or training has not reached its first checkpoint.
    """
    if not isinstance(run_dir, str | Path):
        raise DataError(f"the path of a run folder is expected, not a {type(run_dir).__name__}")
    folder = run_folder(run_dir)
    description = read_description(folder)
    warn_if_half_trained(folder)
    arrays = read_arrays(folder / ARRAYS, how_to_train(folder))
    try:
        spec, grid = StateSpec.from_dict(description["spec"]), Grid.from_dict(description["grid"])
        timestep = np.timedelta64(round(description["timestep_seconds"] * 1e9), "ns")
        model = TypeAdapter(ModelConfig).validate_python(description["model"])
        climate = _below(arrays, "climatology/")
        statistics = Statistics.from_arrays(_below(arrays, "statistics/"))
        stepper, shapes = make_stepper(
            model,
            without_bounds(spec) if climate else spec,
            grid,
            timestep,
            statistics,
            arrays["static"],
            precision=description["precision"],
            seed=None,
        )
        climatology = Climatology.from_arrays(climate) if climate else None
        forcing = _below(arrays, "forcing/")
        if packed := _below(forcing, "packed/"):  # in a folder that ships
            forcing["table"] = unpack_table(packed)
        builder = ForcingBuilder.from_arrays(forcing, grid, spec, timestep)
        data_hash = description["data_hash"]
        sources, fill_nan = _reading(description)
    except (AttributeError, KeyError, TypeError, ValueError, ValidationError) as error:
        raise DataError(f"{folder}: damaged run folder ({one_line(error)}); {how_to_train(folder)}") from None
    return NeuralForecaster(
        spec=spec,
        grid=grid,
        timestep=timestep,
        stepper=stepper,
        params=read_weights(folder, shapes),
        forcing_builder=builder,
        climatology=climatology,
        surface_geopotential=arrays.get("surface_geopotential"),
        data_hash=data_hash,
        sources=sources,
        fill_nan=fill_nan,
        trained_on=_trained_on(spec, statistics),
        learned_from=learned_periods(description),
        profiles=Profiles.from_arrays(_below(arrays, "profiles/")),
    )


def warn_if_half_trained(folder: Path) -> None:
    """Says in the log that a run folder's training has not come to its end, if so."""
    if is_half_trained(folder):
        logger.warning("%s: its training has not come to its end%s", folder, how_to_run("train", folder.parent))


def _reading(description: Mapping[str, Any]) -> tuple[dict[str, str], bool]:
    """What the training files called the variables, and whether NaN in forcings was filled; not known of all runs."""
    known = description if _SOURCES in description else _reading_of(description["experiment"])
    return _READING.validate_python((known[_SOURCES], known[_FILL_NAN]), strict=True)


def _reading_of(experiment: Mapping[str, Any]) -> dict[str, Any]:
    """The same as a resolved config has it; key by key, for the rest of it may be of another version's schema."""
    data = experiment.get("data", {})
    variables = {n: v for role in ("prognostic", "forcing", "diagnostic") for n, v in data.get(role, {}).items()}
    sources = {n: v["source"] for n, v in variables.items() if v.get("source") is not None}
    return {_SOURCES: sources, _FILL_NAN: data.get("nan") == "fill_mean"}


_SOURCES, _FILL_NAN = "sources", "fill_nan"
_READING = TypeAdapter(tuple[dict[str, str], bool])


def _trained_on(spec: StateSpec, statistics: Statistics) -> dict[str, tuple[float, float]]:
    """Ranges of training values by channel; empty where the store did not keep them."""
    out: dict[str, tuple[float, float]] = {}
    for channels, lowest, highest in (
        (spec.state_channels[: spec.n_prognostic], statistics.lowest, statistics.highest),
        (spec.forcing_channels, statistics.forcing_lowest, statistics.forcing_highest),
    ):
        if lowest is not None and highest is not None:
            ends = zip(lowest.tolist(), highest.tolist(), strict=True)
            out |= {c.name: end for c, end in zip(channels, ends, strict=False)}
    return out


def _below(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
