"""The run folder: everything a forecast needs, and everything training needs to go on.

    run.json            what was trained: config, spec, grid, time step, hash and dates of the data
    arrays.npz          statistics, profiles from south to north, forcing tables, static fields, the climatology where
                        anomalies were learned
    weights.npz         averaged weights of the last checkpoint: what forecasts use
    checkpoints/STEP/   Orbax: weights, averaged weights, optimiser state and step, to go on training
    metrics.jsonl, tensorboard/

``load_forecaster`` reads the first three alone, so a folder without ``checkpoints`` can be handed on. Plain JSON and
arrays: nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax import nnx
from pydantic import TypeAdapter, ValidationError

from data_prep.errors import DataError, how_to_run, one_line
from data_prep.files.disk import trouble, write_text
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
STATE_VERSION = 2
"""Of the states in ``checkpoints``; those of version 1 had an array for each kernel."""
ARRAYS = "arrays.npz"
CHECKPOINTS = "checkpoints"

Tree = TypeVar("Tree")


class _Manager(ocp.CheckpointManager):
    """Orbax's, which asks nobody whether the job is to end: the loop does, once a step and in all processes alike."""

    def reached_preemption(self, step: int) -> bool:
        """Never: what is to be saved, and when, the caller says."""
        return False


class Checkpoints:
    """The training states of a run, newest last; written in the background, each complete or not there.

    A state is written under a temporary name that is changed at the end, so a kill in the middle of a save leaves the
    one before it as it was. Of several processes the first alone reads and writes: every one of them holds all of it.

    Training waits for the copy to the host, and for a save that is still being written when the next one comes.
    """

    def __init__(self, run_dir: Path, order: str = "") -> None:
        """Opens the checkpoints of a run folder, making it if need be.

        Args:
          run_dir: The run folder.
          order: Of what lies in the states' arrays, where their names do not tell it: one of another is refused.
        """
        self._order = order
        self._manager: ocp.CheckpointManager | None = None
        self._weights = run_dir / WEIGHTS
        self._writer = ThreadPoolExecutor(1, "checkpoint")
        self._being_written: Future[None] | None = None
        self._saves, self._waited = 0, 0.0
        if jax.process_index() == 0:
            several = jax.process_count() > 1
            processes = ocp.options.MultiprocessingOptions(primary_host=0, active_processes={0} if several else None)
            options = ocp.CheckpointManagerOptions(
                max_to_keep=2,
                create=not several,
                cleanup_tmp_directories=True,
                multiprocessing_options=processes,
            )
            folder = (run_dir / CHECKPOINTS).resolve()
            folder.mkdir(parents=True, exist_ok=True)
            handler = ocp.StandardCheckpointHandler(multiprocessing_options=processes)  # named, or Orbax warns
            with _readable(folder, "delete the damaged one of its folders, and training goes on from the other"):
                self._manager = _Manager(folder, options=options, item_handlers=handler)

    def save(self, step: int, state: Any, weights: Any = None) -> None:
        """Saves a pytree of arrays under a step, if nothing is there, and then the weights that forecasts use.

        Both are copied first: training gives their buffers away with its next step. Hashes and files are made in the
        background; what goes wrong there is raised by the next call, or by ``close``.
        """
        if self._manager is None:
            return
        self.finish()
        start = time.perf_counter()
        copies = named_leaves(state), None if weights is None else named_leaves(weights)
        self._being_written = self._writer.submit(self._write, self._manager, step, *copies)
        self._saves, self._waited = self._saves + 1, self._waited + time.perf_counter() - start

    def _write(
        self,
        manager: ocp.CheckpointManager,
        step: int,
        leaves: dict[str, np.ndarray],
        weights: dict[str, np.ndarray] | None,
    ) -> None:
        if step not in manager.all_steps():
            facts = {"format_version": STATE_VERSION, "sha256": _digest_of_leaves(leaves), "order": self._order}
            manager.save(step, args=ocp.args.StandardSave(leaves), custom_metadata=facts)
            manager.wait_until_finished()
        if weights is not None:
            write_arrays(self._weights, weights)

    def finish(self) -> None:
        """Waits for what is being written, and raises what went wrong there."""
        if self._being_written is not None:
            start = time.perf_counter()
            written, self._being_written = self._being_written, None
            written.result()
            self._waited += time.perf_counter() - start

    def restore(self, template: Tree) -> Tree | None:
        """The newest state, in the structure of ``template``; ``None`` when nothing was saved.

        Raises:
          DataError: it does not fit the template, is damaged, or of another format version or order.
        """
        step = self._manager.latest_step() if self._manager is not None else None
        if self._manager is None or step is None:
            return None
        folder = self._manager.directory / str(step)
        remedy = f"delete {folder}, and training goes on from the checkpoint before it"
        with _readable(folder, remedy):
            facts = self._manager.metadata(step).custom_metadata or {}
        version = facts.get("format_version", STATE_VERSION)
        otherwise = f"{_how_to_train(self._weights.parent)}, or go on with the program that began it"
        if version != STATE_VERSION:
            raise DataError(f"{folder}: format version {version}, this program reads {STATE_VERSION}; {otherwise}")
        if facts.get("order", self._order) != self._order:
            raise DataError(f"{folder}: its weights have other names or another order than this program's; {otherwise}")
        with _readable(folder, remedy):
            saved = self._manager.restore(step, args=ocp.args.StandardRestore(_shapes_by_path(template)))
            leaves = {name: np.asarray(array) for name, array in saved.items()}
        if facts.get("sha256") != _digest_of_leaves(leaves):
            raise DataError(f"{folder}: damaged, its arrays do not match their hash; {remedy}")
        return replace_leaves(template, leaves, source=str(folder))

    def close(self) -> None:
        """Waits for what is being written."""
        try:
            self.finish()
        finally:
            self._writer.shutdown()
            if self._manager is not None:
                self._manager.close()
        if self._saves:
            logger.info("checkpoints: training waited %.3g s for %d of them", self._waited, self._saves)


@contextmanager
def _readable(folder: Any, remedy: str) -> Iterator[None]:
    """Turns whatever Orbax, TensorStore and JSON say of damaged bytes into one line."""
    try:
        yield
    except Exception as error:
        if trouble(error):
            raise
        raise DataError(f"{folder}: cannot be read ({one_line(error)}); {remedy}") from None


def named_leaves(tree: Any) -> dict[str, np.ndarray]:
    """Copies of all arrays of a pytree by their path, e.g. ``encoder/0/1/first/kernel``."""
    leaves = _leaves_by_path(tree)
    for leaf in leaves.values():  # all on their way before the first is waited for
        if isinstance(leaf, jax.Array):
            leaf.copy_to_host_async()
    return {name: np.array(leaf) for name, leaf in leaves.items()}


def _leaves_by_path(tree: Any) -> dict[str, Any]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def _shapes_by_path(tree: Any) -> dict[str, np.ndarray]:
    """Arrays that hold nothing, for Orbax: of ``jax.ShapeDtypeStruct`` it would make arrays on a device."""
    return {name: np.broadcast_to(np.empty((), a.dtype), a.shape) for name, a in _leaves_by_path(tree).items()}


def _digest_of_leaves(leaves: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of names, shapes, types and bytes."""
    digest = hashlib.sha256()
    for name in sorted(leaves):
        array = np.ascontiguousarray(leaves[name])
        digest.update(f"{name} {array.dtype.name} {np.shape(leaves[name])}".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)  # no copy of them
    return digest.hexdigest()


def replace_leaves(tree: Tree, arrays: Mapping[str, Any], *, source: str) -> Tree:
    """The pytree with its arrays replaced by those of the same path, on the host; inverse of ``named_leaves``.

    Of its own arrays shapes and types are asked, so ``jax.ShapeDtypeStruct`` do as well.

    Raises:
      DataError: paths or shapes differ; the first is named.
    """
    expected = _leaves_by_path(tree)
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
    arrays = read_arrays(file, _how_to_train(run_dir))
    return jax.tree.map(jax.numpy.asarray, replace_leaves(template, arrays, source=str(file)))


def read_statistics(run_dir: Path) -> Statistics:
    """What a run folder's network learned with.

    Raises:
      DataError: the file is missing or damaged.
    """
    return Statistics.from_arrays(_below(read_arrays(run_dir / ARRAYS, _how_to_train(run_dir)), "statistics/"))


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
    again = _how_to_train(run_dir)
    description = read_object(file, again)
    version = description.get("format_version", "missing")
    if version != FORMAT_VERSION:
        raise DataError(f"{file}: format version {version}, this program reads {FORMAT_VERSION}; {again}")
    if description.pop("sha256", None) != _digest_of(description):
        raise DataError(f"{file}: damaged, its contents do not match its hash; {again}")
    return description


def _how_to_train(run_dir: Path) -> str:
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
    arrays = read_arrays(folder / ARRAYS, _how_to_train(folder))
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
        raise DataError(f"{folder}: damaged run folder ({one_line(error)}); {_how_to_train(folder)}") from None
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
