"""How fast random training windows are read, beside a plain xarray loop over the same NetCDF; how long training waits
for them; and other layouts."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import numpy as np
import xarray as xr
import zarr
from zarr.abc.codec import BytesBytesCodec
from zarr.codecs import BloscCodec, ZstdCodec

from data_prep.preparation.pipeline import prepare
from data_prep.preparation.rows import StoredRows
from data_prep.preparation.store import Store, open_store
from emulator.benchmarks.netcdf_set import VARIABLES, NetcdfSet, write_netcdf_set
from emulator.benchmarks.table import Row, Table
from emulator.benchmarks.train import DEMO_NETWORK, parse_model
from emulator.config import MeshConfig, RolloutStage, TrainConfig
from emulator.hardware.machine import describe
from emulator.progress import track_blocks
from emulator.training.budget import Programs
from emulator.training.devices import WHOLE, Layout
from emulator.training.job import set_up
from emulator.training.loader import Shape, Windows
from emulator.training.record import Clock

_ROUNDS = 5
_MOST_STEPS = 100_000
_LAYOUT_ROWS = 512


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the sizes."""
    parser.add_argument("--gigabytes", type=float, default=0.3, help="size of the set (default 0.3)")
    parser.add_argument("--batch", type=int, default=16, help="windows in a batch (default 16)")
    parser.add_argument("--steps", type=int, default=1, help="model steps of a window (default 1)")
    parser.add_argument("--batches", type=int, default=8, help="batches a round (default 8)")
    parser.add_argument("--seconds", type=float, default=20.0, help="of training, to see how long it waits (20)")
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
    """All ways take turns, so that what else the machine does slows them alike; the best round of each counts."""
    starts = store.windows("train", arguments.steps + 1)
    on_disk = Windows(store, starts, Shape(arguments.batch, arguments.steps), seed=(0,))
    in_memory = replace(on_disk, store=open_store(str(store.path), in_memory=True))
    data = [xr.open_dataset(path) for path in files.paths]
    edges = np.cumsum([0, *(one.sizes["time"] for one in data)])

    def plain(steps: range) -> None:
        for start in np.concatenate([on_disk.rows(step) for step in steps]).tolist():
            where = int(np.searchsorted(edges, start, side="right")) - 1
            rows = slice(start - edges[where], start - edges[where] + arguments.steps + 1)
            fields = data[where].isel(time=rows)
            for name in VARIABLES:
                np.asarray(fields[name].values, np.float32)

    rounds = [range(i * arguments.batches, (i + 1) * arguments.batches) for i in range(_ROUNDS)]
    ways = (plain, partial(_load, on_disk), partial(_load, in_memory))
    plainly, loaded, copied = np.array([[_seconds(partial(way, r), 1) for way in ways] for r in rounds]).min(axis=0)
    count = arguments.batches * arguments.batch
    against = "xarray isel"
    rows = [
        Row(f"{against}, windows of {arguments.steps + 1} times, 69 fields of 64 x 32", count / plainly, "windows/s"),
        Row("loader, forcings included, on the device", count / loaded, "windows/s", count / plainly, against),
        Row("loader of a store in memory", count / copied, "windows/s", count / plainly, against),
        Row("the demo's training waits for batches from disk", _waiting(arguments, store), "%", 3.0, "wanted at most"),
    ]
    return Table("Random training windows", describe(), rows)


def _load(windows: Windows, steps: range) -> None:
    with closing(windows.batches(steps, Layout.of(MeshConfig()))) as batches:
        for batch in batches:
            jax.block_until_ready(batch)


def _waiting(arguments: argparse.Namespace, store: Store) -> float:
    """Percent of the time that the demo's network, trained on these windows, spends waiting for a batch."""
    config = TrainConfig(
        batch_size=8,
        stages=[RolloutStage(steps=_MOST_STEPS, rollout=arguments.steps)],
        optimiser="muon",
        validation_steps=1,
    )
    model = parse_model(DEMO_NETWORK).model_copy(update={"vertical_motion": False})  # on pressure levels there is none
    job = set_up(config, model, store, 0)
    state = job.layout.place(job.fresh, WHOLE)
    (span,) = job.spans
    program = Programs(job.step, state, job.task, store, job.layout, config).of(span.shape(0))
    clock = Clock()
    with closing(span.batches(range(_MOST_STEPS), job.layout)) as batches:
        start = time.perf_counter()
        while time.perf_counter() - start < arguments.seconds:
            with clock.waiting():
                batch = next(batches)
            state, norms = program(state, batch, job.task)
            jax.block_until_ready(norms)
    return 100 * clock.read().data_wait_share


def _layouts(arguments: argparse.Namespace, store: Store, path: Path) -> Table:
    """What a window costs, and what a row does on disk, by chunk, shard and compressor; read as the loader reads.

    Counted is the processor's time, which is what training on the same processor loses, and what else the machine does
    changes little of it.
    """
    data = np.asarray(store.state[:_LAYOUT_ROWS])
    field = data.shape[1:]
    blosc = partial(BloscCodec, clevel=3, shuffle="shuffle")
    layouts: dict[str, tuple[int, int | None, BytesBytesCodec | None]] = {
        "lz4, 1 row a chunk (the store's)": (1, None, blosc(cname="lz4")),
        "lz4, 2 rows a chunk": (2, None, blosc(cname="lz4")),
        "lz4, 4 rows a chunk": (4, None, blosc(cname="lz4")),
        "lz4, 1 row a chunk, 32 a shard": (1, 32, blosc(cname="lz4")),
        "lz4 bitshuffle, 1 row a chunk": (1, None, blosc(cname="lz4", shuffle="bitshuffle")),
        "blosc-zstd, 1 row a chunk": (1, None, blosc(cname="zstd")),
        "zstd, 1 row a chunk": (1, None, ZstdCodec(level=1)),
        "none, 1 row a chunk": (1, None, None),
    }
    starts = np.random.default_rng(0).integers(0, len(data) - arguments.steps, (8, arguments.batch))
    made: dict[str, StoredRows] = {}
    for number, (label, (chunk_rows, shard, codec)) in enumerate(layouts.items()):
        place = path / str(number)
        zarr.create_array(
            place,
            shape=data.shape,
            chunks=(chunk_rows, *field),
            shards=None if shard is None else (shard, *field),
            dtype="float32",
            compressors=codec,
            chunk_key_encoding={"name": "default", "separator": "."},
        )
        rows = StoredRows.open(place, write=True)
        written = _seconds(partial(rows.write, 0, data), 3, time.process_time)
        files = [file for file in place.rglob("*") if file.is_file()]
        size = sum(file.stat().st_size for file in files) / data.nbytes
        rate = data.nbytes / written / 1e6
        made[f"{label}: size {size:.2f} in {len(files)} files, written at {rate:.0f} MB a CPU second"] = rows
    best = dict.fromkeys(made, np.inf)
    for _ in range(_ROUNDS):  # in turns, as above
        for what, rows in made.items():
            read = partial(_read_windows, rows, starts, arguments.steps + 1)
            best[what] = min(best[what], _seconds(read, 1, time.process_time))
    found = [Row(what, starts.size / least, "windows a CPU second") for what, least in best.items()]
    return Table(f"Layouts of {len(data)} rows of {data[0].nbytes / 1024:.0f} KiB", describe(), found)


def _read_windows(rows: StoredRows, starts: np.ndarray, length: int) -> None:
    for batch in starts:
        rows.read(batch[:, None] + np.arange(length))


def _seconds(work: Callable[[], object], rounds: int, clock: Callable[[], float] = time.perf_counter) -> float:
    """The best of some rounds."""
    best = np.inf
    for _ in range(rounds):
        begin = clock()
        work()
        best = min(best, clock() - begin)
    return best
