"""How fast files become a store, beside how fast the bare libraries read, decode and write the same bytes."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import Executor
from itertools import repeat
from pathlib import Path

import netCDF4
import numpy as np
import zarr
from zarr.codecs import BloscCodec

from data_prep.preparation.pipeline import prepare
from emulator.benchmarks.measure import Run, alone, timed
from emulator.benchmarks.netcdf_set import VARIABLES, NetcdfSet, write_netcdf_set
from emulator.benchmarks.table import Row, Table
from emulator.hardware.machine import describe
from emulator.progress import track

_BARE = "bare libraries"
_BLOCK_ROWS = 64
_CHUNK_BYTES = 2**18


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the sizes."""
    parser.add_argument("--gigabytes", type=float, nargs="+", default=[1.0], help="sizes of the set (default 1)")
    parser.add_argument("--workers", type=int, nargs="*", default=[2], help="numbers of worker processes (default 2)")
    parser.add_argument("--folder", help="where the files go meanwhile; the system's temporary folder by default")


def run(arguments: argparse.Namespace) -> list[Table]:
    """A table for each size."""
    tables = []
    for gigabytes in arguments.gigabytes:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
            files = write_netcdf_set(Path(name), gigabytes)
            tables.append(_table(files, _measure(files, Path(name), arguments.workers)))
    return tables


def _measure(files: NetcdfSet, folder: Path, workers: list[int]) -> dict[str, Run]:
    """The bare libraries first, then this program; each in a process of its own, one after the other."""
    jobs: dict[str, tuple[Callable[[NetcdfSet, Path, int], Run], int]] = {f"{_BARE}, one loop": (_bare, 0)}
    jobs |= {f"{_BARE}, {n} processes": (_bare, n) for n in workers}
    jobs["prepare"] = (_prepare, 0)
    jobs |= {f"prepare --workers {n}": (_prepare, n) for n in workers}
    found = {}
    with track(len(jobs), "measured") as progress:
        for label, (function, count) in jobs.items():
            found[label] = alone(function, files, folder / "out.zarr", count)
            shutil.rmtree(folder / "out.zarr")
            progress.advance(1)
    return found


def _prepare(files: NetcdfSet, out: Path, workers: int) -> Run:
    return timed(
        lambda pool: prepare(files.config, out, out.parent, executor=pool), workers, "data_prep.preparation.pipeline"
    )


def _bare(files: NetcdfSet, out: Path, workers: int) -> Run:
    """Reads with netCDF4, which decodes, and writes each variable as it lies in the file, with zarr."""
    _create_bare(files, out)
    starts = np.cumsum([0, *(_n_times(path) for path in files.paths)]).tolist()

    def copy(pool: Executor | None) -> None:
        each = map if pool is None else pool.map
        list(each(_copy, files.paths, repeat(out), starts))

    return timed(copy, workers, "data_prep.preparation.pipeline")


def _create_bare(files: NetcdfSet, out: Path) -> None:
    group = zarr.open_group(out, mode="w")
    with netCDF4.Dataset(files.paths[0]) as file:
        for name in VARIABLES:
            field = file[name].shape[1:]
            rows = max(1, _CHUNK_BYTES // (4 * int(np.prod(field))))
            codec = BloscCodec(cname="lz4", clevel=3, shuffle="shuffle")
            shape = (files.n_times, *field)
            group.create_array(name, shape=shape, chunks=(rows, *field), dtype="float32", compressors=codec)


def _copy(path: Path, out: Path, first: int) -> None:
    group = zarr.open_group(out, mode="r+")
    with netCDF4.Dataset(path) as file:
        for name in VARIABLES:
            target = group[name]
            assert isinstance(target, zarr.Array)
            for start in range(0, file[name].shape[0], _BLOCK_ROWS):
                values = np.asarray(file[name][start : start + _BLOCK_ROWS], np.float32)
                target[first + start : first + start + len(values)] = values


def _n_times(path: Path) -> int:
    with netCDF4.Dataset(path) as file:
        return len(file.dimensions["time"])


def _table(files: NetcdfSet, found: dict[str, Run]) -> Table:
    fastest = min((label for label in found if label.startswith(_BARE)), key=lambda label: found[label].seconds)
    on_disk = sum(path.stat().st_size for path in files.paths) / 1e9

    def rate(label: str) -> float:
        return files.nbytes / found[label].seconds / 1e6

    rows = [Row(label, rate(label), "MB/s", rate(fastest), fastest) for label in found]
    rows += [Row(f"{label}, peak memory of a process", one.memory_gib, "GiB") for label, one in found.items()]
    size = f"{files.nbytes / 1e9:.1f} GB ({files.n_times} times, {on_disk:.1f} GB packed and deflated)"
    return Table(f"Preparing {size}", describe(), rows)
