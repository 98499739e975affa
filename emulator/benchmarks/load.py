"""How fast random training windows are read, beside a plain xarray loop over the same NetCDF; and other layouts."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import jax
import numpy as np
import xarray as xr
import zarr
from zarr.abc.codec import BytesBytesCodec
from zarr.codecs import BloscCodec, ZstdCodec

from data_prep.pipeline import prepare
from data_prep.store import Store, open_store
from emulator.benchmarks.netcdf_set import VARIABLES, NetcdfSet, write_netcdf_set
from emulator.benchmarks.table import Row, Table
from emulator.config import MeshConfig
from emulator.devices import Layout
from emulator.loader import Windows
from emulator.machine import describe
from emulator.progress import track_blocks

_ROUNDS = 3
_LAYOUT_ROWS = 512


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the sizes."""
    parser.add_argument("--gigabytes", type=float, default=0.3, help="size of the set (default 0.3)")
    parser.add_argument("--batch", type=int, default=16, help="windows in a batch (default 16)")
    parser.add_argument("--steps", type=int, default=1, help="model steps of a window (default 1)")
    parser.add_argument("--batches", type=int, default=8, help="batches a round (default 8)")
    parser.add_argument("--layouts", action="store_true", help="compare chunks, shards and compressors too")
    parser.add_argument("--folder", help="where the files go meanwhile; the system's temporary folder by default")


def run(arguments: argparse.Namespace) -> list[Table]:
    """The table; with ``--layouts`` one of those below it."""
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        files = write_netcdf_set(Path(name), arguments.gigabytes)
        with track_blocks("prepare") as on_block:
            store = open_store(prepare(files.config, Path(name) / "store.zarr", Path(name), on_block))
        tables = [_windows(arguments, files, store)]
        if arguments.layouts:
            tables.append(_layouts(arguments, store, Path(name) / "layout.zarr"))
    return tables


def _windows(arguments: argparse.Namespace, files: NetcdfSet, store: Store) -> Table:
    """Both ways take turns, so that what else the machine does slows both; the best round of each counts."""
    starts = store.windows("train", arguments.steps + 1)
    windows = Windows(store, starts, arguments.steps, arguments.batch, seed=(0,))
    layout = Layout.of(MeshConfig())
    data = [xr.open_dataset(path) for path in files.paths]
    edges = np.cumsum([0, *(one.sizes["time"] for one in data)])

    def plain(start: int) -> None:
        where = int(np.searchsorted(edges, start, side="right")) - 1
        rows = slice(start - edges[where], start - edges[where] + arguments.steps + 1)
        fields = data[where].isel(time=rows)
        for name in VARIABLES:
            np.asarray(fields[name].values, np.float32)

    plainly = loaded = np.inf
    for round_number in range(_ROUNDS):
        steps = range(round_number * arguments.batches, (round_number + 1) * arguments.batches)
        begin = time.perf_counter()
        for step in steps:
            for start in windows.rows(step).tolist():
                plain(start)
        middle = time.perf_counter()
        with closing(windows.batches(steps, layout)) as batches:
            for batch in batches:
                jax.block_until_ready(batch)
        end = time.perf_counter()
        plainly, loaded = min(plainly, middle - begin), min(loaded, end - middle)
    count = arguments.batches * arguments.batch
    what = f"windows of {arguments.steps + 1} times, 69 fields of 64 x 32"
    rows = [
        Row(f"xarray isel, {what}", count / plainly, "windows/s"),
        Row("loader, forcings included, on the device", count / loaded, "windows/s", count / plainly, "xarray isel"),
    ]
    return Table("Random training windows", describe(), rows)


def _layouts(arguments: argparse.Namespace, store: Store, path: Path) -> Table:
    """What a window costs, and what a row does on disk, by chunk, shard and compressor."""
    data = np.asarray(store.state[:_LAYOUT_ROWS])
    field, lz4 = data.shape[1:], BloscCodec(cname="lz4", clevel=3, shuffle="shuffle")
    layouts: dict[str, tuple[int, int | None, BytesBytesCodec | None]] = {
        "lz4, 1 row a chunk (the store's)": (1, None, lz4),
        "lz4, 4 rows a chunk": (4, None, lz4),
        "lz4, 1 row a chunk, 32 a shard": (1, 32, lz4),
        "lz4 bitshuffle, 1 row a chunk": (1, None, BloscCodec(cname="lz4", clevel=3, shuffle="bitshuffle")),
        "blosc-zstd, 1 row a chunk": (1, None, BloscCodec(cname="zstd", clevel=1, shuffle="shuffle")),
        "zstd, 1 row a chunk": (1, None, ZstdCodec(level=1)),
        "none, 1 row a chunk": (1, None, None),
    }
    starts = np.random.default_rng(0).integers(0, len(data) - arguments.steps, 100).tolist()
    found = []
    for label, (chunk_rows, shard, codec) in layouts.items():
        array = zarr.create_array(
            path,
            shape=data.shape,
            chunks=(chunk_rows, *field),
            shards=None if shard is None else (shard, *field),
            dtype="float32",
            compressors=codec,
            overwrite=True,
        )
        written = _seconds(partial(array.__setitem__, slice(None), data), 1)
        read = _seconds(partial(_read_windows, array, starts, arguments.steps + 1), _ROUNDS)
        files = [file for file in path.rglob("*") if file.is_file()]
        size = sum(file.stat().st_size for file in files) / data.nbytes
        rate = data.nbytes / written / 1e6
        what = f"{label}: size {size:.2f} in {len(files)} files, written at {rate:.0f} MB/s"
        found.append(Row(what, len(starts) / read, "windows/s"))
    return Table(f"Layouts of {len(data)} rows of {data[0].nbytes / 1024:.0f} KiB", describe(), found)


def _read_windows(array: zarr.Array, starts: list[int], length: int) -> None:
    for start in starts:
        array[start : start + length]


def _seconds(work: Callable[[], object], rounds: int) -> float:
    """The best of some rounds."""
    best = np.inf
    for _ in range(rounds):
        begin = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - begin)
    return best
