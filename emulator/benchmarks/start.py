"""How long `emulator train` takes from its start as a process to the first optimiser step, again and again."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

from data_prep.clock import parse_instant
from data_prep.errors import ConfigError, DataError
from data_prep.grid import Grid
from data_prep.spec import grid_coords
from data_prep.variables import Facts, known
from emulator.benchmarks.table import Row, Table
from emulator.config import ExperimentConfig, load_config
from emulator.experiment.running import run_stages
from emulator.hardware.machine import describe

_GOAL_SECONDS = 5.0
_FIRST_STEP = "train: first step done"
_LOOK_EVERY_SECONDS = 0.005
_WAVES = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What may be chosen."""
    parser.add_argument("--config", default="demo", help="of a nature run, such as demo (the default)")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=v", help="override one config value")
    parser.add_argument("--starts", type=int, default=4, help="at least 2; the first finds nothing compiled (4)")


@dataclass(frozen=True)
class Start:
    """Seconds from the start of a process to its first optimiser step: by the clock, and of all its threads."""

    wall: float
    processor: float


def run(arguments: argparse.Namespace) -> list[Table]:
    """The table.

    Raises:
      ConfigError: fewer than two starts.
    """
    if arguments.starts < 2:
        raise ConfigError(f"--starts {arguments.starts}: expected at least 2, the first of which compiles")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        given = [*arguments.set, f"workdir={folder / 'experiment'}"]
        config = load_config(arguments.config, given)
        _make_nature_run(config)
        run_stages(config, ["prepare"])
        words = [word for override in given for word in ("--set", override)]
        starts = [_start([arguments.config, *words], config, folder / "cache") for _ in range(arguments.starts)]
    first, best = starts[0], min(starts[1:], key=lambda start: start.wall)
    rows = [
        Row("first start, all is compiled: wall", first.wall, "s"),
        Row("processor", first.processor, "s"),
        Row(f"best of {len(starts) - 1} later starts: wall", best.wall, "s", _GOAL_SECONDS, "goal"),
        Row("processor", best.processor, "s"),
    ]
    return [Table(f"From the command to the first step of {config.name}", describe(), rows)]


def _start(words: list[str], config: ExperimentConfig, cache: Path) -> Start:
    """Starts a training and kills it after its first step."""
    shutil.rmtree(config.path / "run", ignore_errors=True)
    log = config.path / "log.txt"
    command = [sys.executable, "-m", "emulator", "train", *words]
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(cache)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # a first start keeps the compiled modules too
    with log.open("w") as stream:
        began = time.perf_counter()
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=stream)
        while _FIRST_STEP not in log.read_text() and process.poll() is None:
            time.sleep(_LOOK_EVERY_SECONDS)
        wall = time.perf_counter() - began
    if process.returncode is not None:
        raise DataError(f"the training ended before its first step: {log.read_text().strip()}")
    process.kill()
    _, _, usage = os.wait4(process.pid, 0)  # of this process alone
    process.returncode = -signal.SIGKILL
    return Start(wall, usage.ru_utime + usage.ru_stime)


def _make_nature_run(config: ExperimentConfig) -> None:
    """Smooth noise in place of what ``emulator simulate`` would write: as many values of the same variables."""
    simulate, data = config.simulate, config.data
    if simulate is None:
        raise ConfigError(f"{config.name}: has no simulate section, whose sizes the stand-in could have")
    grid = Grid.gaussian({21: 32, 31: 48, 42: 64, 63: 96, 85: 128}[simulate.output_truncation])
    folder = config.path / "nature"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    sigma = (np.arange(simulate.layers) + 0.5) / simulate.layers
    coords = grid_coords(grid) | {"level": ("level", sigma, {"units": "1"})}
    times = np.arange(0, simulate.days * 24 + 1, simulate.output_hours).astype("timedelta64[h]")
    for member in range(simulate.members):
        first = parse_instant(simulate.start) + np.timedelta64(1461 * member, "D")
        fields = {
            name: _field(name, ("time", times.size), sigma.size, grid, rng)
            for name in [*data.prognostic, *data.diagnostic]
        }
        xr.Dataset(fields, {**coords, "time": first + times}).to_netcdf(folder / f"member_{member:03d}.nc")
    fields = {name: _field(name, ("dayofyear", 366), sigma.size, grid, rng) for name in data.forcing}
    fields |= {name: _field(name, ("dayofyear", 1), sigma.size, grid, rng)[0] for name in data.static}
    xr.Dataset(fields, grid_coords(grid) | {"dayofyear": np.arange(1, 367)}).to_netcdf(folder / "boundary.nc")


def _field(name: str, axis: tuple[str, int], layers: int, grid: Grid, rng: np.random.Generator) -> xr.DataArray:
    """Waves that wander, within the values that the variable may have."""
    facts = known(name) or Facts("1", "", 0.0, 1.0)
    (along, size), on_levels = axis, (layers,) * facts.on_levels
    lat, lon = np.radians(np.asarray(grid.latitude))[:, None], np.radians(np.asarray(grid.longitude))
    waves = np.stack([np.cos(m * lon + p) * np.cos(m * lat) for m, p in enumerate(rng.uniform(0, 6, _WAVES), 1)])
    amounts = rng.standard_normal((size, *on_levels, _WAVES)).cumsum(axis=0) / size**0.5
    shape = np.tanh(np.tensordot(amounts, waves / _WAVES, axes=1))
    middle, width = (facts.lowest + facts.highest) / 2, (facts.highest - facts.lowest) / 2
    dims = (along, *("level",) * len(on_levels), "latitude", "longitude")
    return xr.DataArray((middle + 0.3 * width * shape).astype(np.float32), dims=dims, attrs={"units": facts.units})
