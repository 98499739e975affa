"""How fast forecasts are scored, beside how fast the same files can be read and subtracted at all."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import netCDF4
import numpy as np
import xarray as xr

from data_prep.forcing import ForcingBuilder
from data_prep.grid import Grid
from data_prep.preparation.climatology_fit import StoreFit
from data_prep.preparation.statistics import Statistics
from data_prep.preparation.store import Segment, Store, open_store
from data_prep.preparation.store_writer import StoreWriter
from data_prep.spec import StateSpec, Variable, unstack_channels
from emulator.benchmarks.measure import Run, alone, peak_gib, timed
from emulator.benchmarks.synthetic import TIMESTEP, smooth_waves
from emulator.benchmarks.table import Row, Table
from emulator.evaluation.fields import Verification
from emulator.evaluation.forecast_file import ForecastFile
from emulator.evaluation.regions import default_regions
from emulator.evaluation.scoring import Scoring, tallies
from emulator.hardware.machine import describe
from emulator.progress import track

_PATTERNS = 40
_LEVELS = (50.0, 100.0, 200.0, 300.0, 500.0, 700.0, 850.0, 925.0)
_UPPER = ("temperature", "geopotential", "u_component_of_wind", "v_component_of_wind")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the sizes."""
    parser.add_argument("--inits", type=int, default=200, help="initial times (default 200)")
    parser.add_argument("--leads", type=int, default=40, help="six-hourly leads (default 40)")
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2], help="numbers of worker processes")


def run(arguments: argparse.Namespace) -> list[Table]:
    """Makes the files and measures. Returns the table."""
    with tempfile.TemporaryDirectory() as name:
        files = _make_files(Path(name), arguments.inits, arguments.leads)
        return [_table(files, *_measure(files, arguments.workers))]


@dataclass(frozen=True)
class _Files:
    """What is scored: 33 channels on 64 x 32 points, compressed."""

    store: Path
    forecasts: Path

    @property
    def values(self) -> int:
        return int(np.prod(self.shape))

    @cached_property
    def shape(self) -> tuple[int, ...]:
        store = open_store(self.store)
        file = ForecastFile.open(self.forecasts, store)
        return (file.init_times.size, file.lead_times.size, len(store.spec.state_channels), *store.grid.shape)


def _measure(files: _Files, workers: Sequence[int]) -> tuple[Run, dict[str, Run]]:
    """The ceiling and what is compared with it, each in a process of its own, one after the other."""
    jobs = {"error moments, ACC, activity": (False, 0), "the same, spectra and quantiles": (True, 0)}
    jobs |= {f"all of it, {n} worker{'s' if n > 1 else ''}": (True, n) for n in workers}
    with track(1 + len(jobs), "measured") as progress:
        ceiling = alone(_read_and_subtract, files)
        progress.advance(1)
        found = {}
        for label, (everything, count) in jobs.items():
            found[label] = alone(_score, files, everything, count)
            progress.advance(1)
    return ceiling, found


def _read_and_subtract(files: _Files) -> Run:
    """Every forecast once, and every time of the truth once: less reading than this is not possible."""
    scoring = _scoring(files)
    verification, file = scoring.verification, scoring.files["forecast"]
    start = time.perf_counter()
    rows = np.unique(verification.rows)
    truth = {int(row): verification.store.state[int(row)] for row in rows}
    names = [v.name for v in verification.store.spec.variables]
    for init in range(verification.init_times.size):
        observed = np.stack([truth[int(row)] for row in verification.rows[init]])
        read = file.read(names, slice(init, init + 1))
        channel = 0
        for name in names:
            field = read[name].values[0]
            for level in np.moveaxis(field, 1, 0) if field.ndim == 4 else field[None]:
                np.subtract(level, observed[..., channel])
                channel += 1
    return Run(time.perf_counter() - start, peak_gib())


def _score(files: _Files, everything: bool, workers: int) -> Run:
    scoring = replace(_scoring(files), with_distributions=everything)
    return timed(lambda pool: deque(tallies(scoring, pool), maxlen=0), workers, "emulator.evaluation.scoring")


def _scoring(files: _Files) -> Scoring:
    store = open_store(files.store)
    file = ForecastFile.open(files.forecasts, store)
    verification = Verification(store, file.init_times, file.lead_times, _LEVELS)
    truth = verification.truth(verification.rows[:1, 0])
    return Scoring.of(
        verification, {"forecast": file}, list(truth), default_regions(store.grid, store.land_share), store
    )


def _table(files: _Files, ceiling: Run, found: dict[str, Run]) -> Table:
    n_init, n_lead, channels, rows, columns = files.shape
    title = f"Scoring {n_init} initial times x {n_lead} leads x {channels} channels x {columns} x {rows}"
    unit, against = "million values/s", "reading and subtracting the same files"

    def rate(one: Run) -> float:
        return files.values / one.seconds / 1e6

    speeds = [Row(label, rate(one), unit, rate(ceiling), against) for label, one in found.items()]
    memory = [Row(f"most memory of a process: {label}", one.memory_gib, "GiB") for label, one in found.items()]
    return Table(title, describe(), [*speeds, *memory])


def _make_files(folder: Path, n_init: int, n_lead: int) -> _Files:
    """A made-up reanalysis, an initial time a day, and a forecast that departs from it; both compressed."""
    spec = StateSpec(
        (
            *(Variable(name, "prognostic", _LEVELS, "K") for name in _UPPER),
            Variable("2m_temperature", "prognostic", (), "K"),
        ),
        "pressure",
    )
    grid, rng = Grid.gaussian(32), np.random.default_rng(0)
    n_times, channels = 4 * n_init + n_lead, len(spec.state_channels)
    times = np.datetime64("2001-01-01", "ns") + np.arange(n_times) * TIMESTEP
    patterns = smooth_waves(rng, grid, _PATTERNS)
    series = rng.normal(size=(n_times, _PATTERNS, channels)).astype(np.float32)

    def state(rows: slice) -> np.ndarray:
        return np.einsum("tkc,kyx->tyxc", series[rows], patterns, optimize=True).astype(np.float32)

    store = folder / "store.zarr"
    writer = StoreWriter.create(store, spec, grid, times)
    persisted = np.zeros((64, *grid.shape, 0), np.float32)
    for start in range(0, n_times, 64):
        rows = slice(start, min(start + 64, n_times))
        block = state(rows)
        writer.write(start, block, persisted[: len(block)])
    fit = StoreFit(store, folder / "fit", ((0, n_times),), TIMESTEP)
    ones, none = np.ones(channels, np.float32), np.zeros(0, np.float32)
    writer.finish(
        spec=spec,
        grid=grid,
        timestep=TIMESTEP,
        segments=[Segment("year", 0, n_times, "test", times[0], times[-1])],
        static=np.zeros((*grid.shape, 0), np.float32),
        statistics=Statistics(ones, ones, ones, ones, none, none, none, none),
        climatology=fit.run(None, lambda: None),
        forcing_builder=ForcingBuilder(grid, spec, TIMESTEP, np.empty((366, *grid.shape, 0), np.float32)),
        config_hash="benchmark",
    )
    _write_forecasts(folder / "forecasts.nc", open_store(store), n_init, n_lead)
    return _Files(store, folder / "forecasts.nc")


def _write_forecasts(path: Path, store: Store, n_init: int, n_lead: int) -> None:
    rng = np.random.default_rng(1)
    leads = np.arange(1, n_lead + 1) * TIMESTEP
    with netCDF4.Dataset(path, "w") as file, track(n_init, "forecasts made") as progress:
        for init in range(n_init):
            truth = np.asarray(store.state[4 * init + 1 : 4 * init + 1 + n_lead])
            field = truth + (0.2 * rng.normal(size=truth.shape)).astype(np.float32)
            coords = {"init_time": store.times[4 * init : 4 * init + 1], "lead_time": leads}
            block = unstack_channels(field[None], store.spec, store.spec.state_channels, store.grid, coords)
            if not init:
                _create(file, block, store.times[: 4 * n_init : 4])
            for name, values in block.data_vars.items():
                file[str(name)][init] = values.values[0]
            progress.advance(1)


def _create(file: netCDF4.Dataset, block: xr.Dataset, init_times: np.ndarray) -> None:
    for dim, size in {**block.sizes, "init_time": init_times.size}.items():
        file.createDimension(str(dim), size)
    for name, values, attributes in (
        ("init_time", init_times.astype("datetime64[h]").astype(int), {"units": "hours since 1970-01-01"}),
        ("lead_time", block["lead_time"].values // TIMESTEP * 6, {"units": "hours", "dtype": "timedelta64[ns]"}),
        *((name, block[name].values, block[name].attrs) for name in ("level", "latitude", "longitude")),
    ):
        variable = file.createVariable(name, np.asarray(values).dtype, (name,))
        variable.setncatts(attributes)
        variable[:] = values
    for key, field in block.data_vars.items():
        chunks = (1, min(32, field.shape[1]), *field.shape[2:])
        file.createVariable(
            str(key), "f4", tuple(map(str, field.dims)), zlib=True, complevel=1, shuffle=True, chunksizes=chunks
        )
