"""The nature run: an ensemble of SPEEDY simulations, written as ordinary CF NetCDF that enters through any door.

The run is cut into chunks of equal length, so one compiled graph serves all of it. A chunk's fields go to a part
file, then the run state of all members to the state file, each under a temporary name and renamed: a killed run goes
on behind the last state, and what a half-written chunk left is written over. The parts become one file a member at
the end. Memory holds one chunk, whatever the length.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import shutil
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import netCDF4
import numpy as np
from jcm.model import RunState

import emulator
from data_prep.clock import parse_instant
from data_prep.errors import ConfigError, DataError
from data_prep.files.disk import closing_once, replacing, write_text
from data_prep.files.json_file import read_object
from data_prep.files.netcdf_file import write_netcdf
from data_prep.files.npz import read_arrays, write_arrays
from data_prep.spec import (
    CALENDAR_ATTRS,
    CONVENTIONS,
    PRESSURE_AT_TOP,
    VERTICAL_ATTRS,
    grid_coords,
    sigma_formula,
    unit_attrs,
)
from data_prep.variables import UPPER_AIR, is_accumulation, known
from emulator.config import SimulateConfig
from emulator.physics import transfer
from emulator.physics.boundary import boundary_dataset, write_blank_boundary
from emulator.physics.ensemble import Ensemble, batch_width
from emulator.physics.speedy import (
    SpeedyModel,
    member_count,
    one_member,
    perturb_vorticity,
    replicate,
    run_state_structure,
)
from emulator.progress import track
from emulator.speedy_facts import NEAR_SURFACE_TEMPERATURE, precipitation_name

logger = logging.getLogger(__name__)

FOUR_YEARS_DAYS = 1461
"""Members share a clock, and are relabelled by multiples of four years, which keep the calendar."""
_GAP_DAYS = 31  # that parts records: a month, up to which the verification takes two for one

FORMAT_VERSION = 1
RECORD = "simulate.json"

_PARTS = "parts"
_STATE = "state.npz"
_EPOCH = np.datetime64("1900-01-01T00", "h")
_TIME_UNITS = "hours since 1900-01-01 00:00:00"
_END_OF_TIME = np.datetime64("2262-04-01", "h")  # of datetime64[ns]
_CHUNK_STEPS = 16
"""Times in a chunk of a NetCDF file: some megabytes, and windows of a few steps are read without waste."""

# What no member can reach and live: far outside the climate of SPEEDY, well before the numbers overflow. (SPEEDY's top
# layer cools to below 120 K in the polar night.)
_POSSIBLE = {
    "temperature": (50.0, 400.0),
    "u_component_of_wind": (-250.0, 250.0),
    "v_component_of_wind": (-250.0, 250.0),
}


def simulate(config: SimulateConfig, out_dir: Path, seed: int) -> Path:
    """Makes a nature run, or goes on with one that was interrupted.

    The ensemble starts from one isothermal atmosphere at rest, develops for ``develop_days``, is perturbed in its
    vorticity, runs ``spinup_days`` that are discarded, and then the ``days`` that are kept, first and last moment
    included.

    Args:
      config: The ``simulate`` section.
      out_dir: Folder of the results; made if need be.
      seed: Of the perturbations.

    Returns:
      ``out_dir``, with ``member_000.nc`` ..., ``boundary.nc`` and, written last, ``simulate.json`` (provenance and
      cost).

    Raises:
      ConfigError: a date is no date, or those of the members run out of the calendar.
      DataError: a member became unstable (the message names it and the date), or the folder holds the parts of
        another run.
    """
    start = _start_of(config)
    parts = out_dir / _PARTS
    if _is_finished(out_dir, config, seed):  # a kill came while the parts were being removed
        shutil.rmtree(parts, ignore_errors=True)
        return out_dir
    parts.mkdir(parents=True, exist_ok=True)
    plan = _Plan.of(config)
    model = SpeedyModel(config.truncation, config.layers, config.time_step_minutes)
    run = _load(parts, model, config, seed) or _Run()
    ensemble: Ensemble | None = None
    with (
        ThreadPoolExecutor(1) as writer,  # of a chunk, while the model goes on with the next
        track(plan.chunks, "simulate", done=run.done, work=plan.work) as progress,
    ):
        saving: Future[None] = writer.submit(lambda: None)
        while run.done < plan.chunks:
            if run.states is None:
                run.states = replicate(model.at_rest(start), batch_width(config.members))
            if ensemble is None:
                with progress.once():
                    ensemble = Ensemble(
                        model,
                        run.states,
                        intervals=config.chunk_days * 24 // config.output_hours,
                        interval_hours=config.output_hours,
                        output_truncation=config.output_truncation,
                    )
                run.compile_seconds += ensemble.compile_seconds
            began = time.perf_counter()
            run.states, fields = ensemble.advance(run.states)
            run.seconds += time.perf_counter() - began
            run.days += config.chunk_days * member_count(run.states)
            _check(fields, start + np.timedelta64(run.done * config.chunk_days, "D"), config.output_hours)
            run.done += 1
            if run.done == plan.develop:
                run.states = perturb_vorticity(
                    replicate(one_member(model, run.states, 0), config.members), config.perturbation, seed
                )
            kept: dict[str, np.ndarray] = {}
            if run.done >= plan.discarded:
                # The last discarded moment is the first that is kept.
                moments = slice(-1, None) if run.done == plan.discarded else slice(None)
                kept = {name: field[:, moments] for name, field in fields.items()}
            saving.result()
            saving = writer.submit(_save, parts, replace(run), kept, config, seed)
            progress.advance(days_per_second=run.days / run.seconds)
        saving.result()
    _write_members(config, out_dir, model, start)
    boundary = boundary_dataset(model, config.output_truncation)
    boundary.attrs = {"title": "Boundary fields of a SPEEDY nature run", **_attributes(config)}
    with replacing(out_dir / "boundary.nc") as temporary:
        write_netcdf(boundary, temporary)
    write_text(out_dir / RECORD, json.dumps(_record(config, seed, run), indent=2))
    shutil.rmtree(parts)
    return out_dir


def check(config: SimulateConfig) -> None:
    """Refuses what ``simulate`` would before it begins; see there."""
    _start_of(config)


def write_blank(config: SimulateConfig, out_dir: Path) -> None:
    """Writes the files that ``simulate`` would, without the fields: what can be asked of them is known before hours of
    simulation.

    Args:
      config: The ``simulate`` section.
      out_dir: A new folder for ``member_000.nc`` ... and ``boundary.nc``, whose variables hold no values.

    Raises:
      ConfigError: as ``simulate`` does.
    """
    start = _start_of(config)
    out_dir.mkdir(parents=True)
    model = SpeedyModel(config.truncation, config.layers, config.time_step_minutes)
    surface = ("surface_pressure", NEAR_SURFACE_TEMPERATURE, precipitation_name(config.output_hours))
    ranks = dict.fromkeys(UPPER_AIR, 3) | dict.fromkeys(surface, 2)
    for member in range(config.members):
        with netCDF4.Dataset(out_dir / f"member_{member:03d}.nc", "w") as file:
            _define(file, config, model, ranks, _times(config, start, member))
    write_blank_boundary(out_dir / "boundary.nc", config.output_truncation)


@dataclass(frozen=True)
class _Plan:
    """Chunks until the perturbation, until the first that is kept, and in all; calls of the model in a later one."""

    develop: int
    discarded: int
    chunks: int
    calls: int

    @classmethod
    def of(cls, config: SimulateConfig) -> _Plan:
        develop = config.develop_days // config.chunk_days
        discarded = develop + config.spinup_days // config.chunk_days
        calls = config.members // batch_width(config.members)
        return cls(develop, discarded, discarded + config.days // config.chunk_days, calls)

    def work(self, chunks: int) -> float:
        """Calls of the model that so many chunks take: a single one each until the perturbation."""
        return chunks + (self.calls - 1) * max(chunks - self.develop, 0)


@dataclass
class _Run:
    """How far a run is: what the state file holds.

    Attributes:
      done: Chunks finished.
      states: Run states behind the last of them; ``None`` before the first.
      seconds, days: Wall time of the simulation proper, and the days of all members that it bought.
      compile_seconds: Wall time of the compiler.
    """

    done: int = 0
    states: RunState | None = None
    seconds: float = 0.0
    days: float = 0.0
    compile_seconds: float = 0.0


def _start_of(config: SimulateConfig) -> np.datetime64:
    try:
        start = parse_instant(config.start).astype("datetime64[h]")
    except ValueError as error:
        raise ConfigError(f"simulate.start: {error}") from None
    apart = days_apart(config)
    days = config.develop_days + config.spinup_days + config.days + apart * (config.members - 1)
    if start + np.timedelta64(days, "D") >= _END_OF_TIME:
        raise ConfigError(
            f"simulate.start: the dates of {config.members} members, {4 * apart // FOUR_YEARS_DAYS} years apart from "
            f"{config.start}, must lie before {_END_OF_TIME}; start earlier or ask for fewer members"
        )
    last = start + np.timedelta64(apart * (config.members - 1), "D")
    length = np.timedelta64(days, "D") - (last - start)
    if any(str(first)[5:10] != str(same)[5:10] for first, same in ((start, last), (start + length, last + length))):
        raise ConfigError(
            f"simulate.start: the dates of {config.members} members, {4 * apart // FOUR_YEARS_DAYS} years apart from "
            f"{config.start}, pass a year without the 29 February that every fourth has, such as 2100, so their "
            "calendars would differ; start later or earlier, or ask for fewer members"
        )
    return start


def days_apart(config: SimulateConfig) -> int:
    """Between the labels of one member and the next: four years, or as many times as part their records by a gap."""
    return FOUR_YEARS_DAYS * ((config.days + _GAP_DAYS) // FOUR_YEARS_DAYS + 1)


def _check(fields: dict[str, np.ndarray], chunk_start: np.datetime64, interval_hours: int) -> None:
    """Stops at the first moment at which a member is not a possible atmosphere."""
    for name, (lowest, highest) in _POSSIBLE.items():
        field = fields[name]
        good = (np.isfinite(field) & (field > lowest) & (field < highest)).all(axis=(2, 3, 4))
        if not good.all():
            interval = int(np.flatnonzero(~good.all(axis=0))[0])
            member = int(np.flatnonzero(~good[:, interval])[0])
            date = chunk_start + np.timedelta64((interval + 1) * interval_hours, "h")
            raise DataError(
                f"simulate: member {member} became unstable before {date}: {name} left {lowest:g} to {highest:g}; "
                "shorten simulate.time_step_minutes or lower simulate.perturbation"
            )


def _is_finished(out_dir: Path, config: SimulateConfig, seed: int) -> bool:
    """Whether the folder holds this very run, whole: its record is written last.

    Raises:
      DataError: the record is damaged, or of another format version.
    """
    path = out_dir / RECORD
    if not path.exists():
        return False
    record = read_object(path, f"delete {out_dir} to simulate again")
    if not {"config", "seed"} <= set(record):
        raise DataError(f"{path}: damaged, config or seed is missing; delete {out_dir} to simulate again")
    written, found = record.get("format_version", 1), [record["config"], record["seed"]]
    if written != FORMAT_VERSION:
        raise DataError(
            f"{path}: format version {written}, this program reads {FORMAT_VERSION}; delete {out_dir} to simulate again"
        )
    return found == [config.model_dump(mode="json"), seed]


def _record(config: SimulateConfig, seed: int, run: _Run) -> dict[str, Any]:
    """What ``simulate.json`` says of a finished run: how it was made, and what it cost."""
    return {
        "format_version": FORMAT_VERSION,
        "config": config.model_dump(mode="json"),
        "seed": seed,
        "versions": {name: version(name) for name in ("jax", "jcm", "dinosaur")} | {"emulator": emulator.__version__},
        "hardware": f"{os.cpu_count()} x {platform.machine()}, {jax.devices()[0].device_kind}",
        "cost": {
            "simulated_days": run.days,
            "seconds": run.seconds,
            "simulated_days_per_second": run.days / run.seconds,
            "compile_seconds": run.compile_seconds,
        },
    }


def _fingerprint(config: SimulateConfig, seed: int) -> str:
    return json.dumps([FORMAT_VERSION, config.model_dump(mode="json"), seed], sort_keys=True)


def _save(parts: Path, run: _Run, kept: dict[str, np.ndarray], config: SimulateConfig, seed: int) -> None:
    """Writes a chunk's fields, if any are kept, and then the state, from which the next run goes on behind them."""
    if kept:
        write_arrays(_part(parts, run.done), kept)
    leaves = {f"leaf_{i:03d}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(run.states))}
    facts = {
        "fingerprint": np.asarray(_fingerprint(config, seed)),
        "done": np.asarray(run.done),
        "cost": np.asarray([run.seconds, run.days, run.compile_seconds]),
    }
    write_arrays(parts / _STATE, facts | leaves)


def _load(parts: Path, model: SpeedyModel, config: SimulateConfig, seed: int) -> _Run | None:
    path = parts / _STATE
    if not path.exists():
        return None
    saved = read_arrays(path, f"delete {parts} to start over")
    try:
        if str(saved["fingerprint"]) != _fingerprint(config, seed):
            raise DataError(
                f"{path}: belongs to a run with another config, seed or format; delete {parts} to start over"
            )
        leaves = [jnp.asarray(saved[name]) for name in sorted(saved) if name.startswith("leaf_")]
        seconds, days, compile_seconds = saved["cost"].tolist()
        done = int(saved["done"])
    except (KeyError, ValueError, TypeError) as error:
        raise DataError(f"{path}: damaged ({error}); delete {parts} to start over") from None
    logger.info("simulate: going on behind chunk %d", done)
    return _Run(done, jax.tree.unflatten(run_state_structure(model), leaves), seconds, days, compile_seconds)


def _part(parts: Path, chunk: int) -> Path:
    return parts / f"chunk_{chunk:06d}.npz"


def _write_members(config: SimulateConfig, out_dir: Path, model: SpeedyModel, start: np.datetime64) -> None:
    """One file a member from the parts; all are written side by side, so that each part is read once."""
    plan = _Plan.of(config)
    finals = [out_dir / f"member_{m:03d}.nc" for m in range(config.members)]
    chunks = range(plan.discarded, plan.chunks + 1)
    with track(len(chunks), "simulate, writing files") as progress, ExitStack() as stack:
        temporaries = [stack.enter_context(replacing(path)) for path in finals]
        files = [netCDF4.Dataset(path, "w") for path in temporaries]
        for file in files:
            stack.enter_context(closing_once(file))
        record = 0
        for chunk in chunks:
            fields = read_arrays(_part(out_dir / _PARTS, chunk), f"delete {out_dir / _PARTS} to start over")
            if record == 0:
                for member, file in enumerate(files):
                    ranks = {name: field.ndim - 2 for name, field in fields.items()}
                    _define(file, config, model, ranks, _times(config, start, member))
                    file.setncattr("member", np.int32(member))
            for name, values in fields.items():
                for member, file in enumerate(files):
                    file[name][record : record + values.shape[1]] = values[member]
            record += values.shape[1]
            progress.advance()


def _times(config: SimulateConfig, start: np.datetime64, member: int) -> np.ndarray:
    """What is kept of a member that starts from rest with the others."""
    days = config.develop_days + config.spinup_days + days_apart(config) * member
    return start + np.timedelta64(days, "D") + np.arange(0, config.days * 24 + 1, config.output_hours)


def _define(
    file: netCDF4.Dataset, config: SimulateConfig, model: SpeedyModel, ranks: dict[str, int], times: np.ndarray
) -> None:
    """Dimensions, coordinates and empty fields of a member's file; ``ranks`` are the fields' dimensions beside time."""
    grid = transfer.gaussian_grid(config.output_truncation)
    file.setncatts({"title": "SPEEDY nature run", **_attributes(config)})
    sizes = {"time": times.size, "level": config.layers, "latitude": grid.shape[0], "longitude": grid.shape[1]}
    for name, size in sizes.items():
        file.createDimension(name, size)
    time_attrs = {"standard_name": "time", "long_name": "time", "axis": "T", "units": _TIME_UNITS}
    sigma_attrs = VERTICAL_ATTRS["sigma"] | sigma_formula("level")
    coordinates = {
        "time": (
            (times.astype("datetime64[h]") - _EPOCH).astype(np.int64),
            time_attrs | CALENDAR_ATTRS,
        ),
        "level": (np.asarray(model.sigma), sigma_attrs),
        **{name: (values, attrs) for name, (_, values, attrs) in grid_coords(grid).items()},
    }
    for name, (values, attrs) in coordinates.items():
        variable = file.createVariable(name, values.dtype, (name,), fletcher32=True, chunksizes=values.shape)
        variable.setncatts(attrs)
        variable[:] = values
    top = file.createVariable(PRESSURE_AT_TOP, np.float32, ())
    top.setncatts({"long_name": "pressure at the top of the model", "units": "Pa"})
    top[...] = 0.0
    for name, rank in ranks.items():
        dims = ("time", "level", "latitude", "longitude") if rank == 3 else ("time", "latitude", "longitude")
        chunks = (min(_CHUNK_STEPS, times.size), *(sizes[d] for d in dims[1:]))
        variable = file.createVariable(
            name,
            np.float32,
            dims,
            fletcher32=True,  # HDF5 compares it when it reads; zlib would take a third off in twelve times the time
            chunksizes=chunks,
            fill_value=False,
        )
        facts = known(name)
        assert facts is not None
        rain = is_accumulation(name)
        sampling = f"sum (interval: {config.output_hours} hours comment: ending at the time stamp)" if rain else "point"
        variable.setncatts(
            {
                **unit_attrs(facts.units),
                "standard_name": facts.standard_name,
                "long_name": name.replace("_", " "),
                "cell_methods": f"time: {sampling}",
            }
        )


def _attributes(config: SimulateConfig) -> dict[str, str]:
    return {
        "Conventions": CONVENTIONS,
        "source": f"SPEEDY T{config.truncation} with {config.layers} sigma layers through jcm {version('jcm')}, "
        f"truncated to T{config.output_truncation}",
        "history": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} emulator {emulator.__version__} simulate",
        "references": "Molteni (2003), Climate Dynamics 20, 175-191",
    }
