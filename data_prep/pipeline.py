"""Raw files to the prepared store: in blocks, so memory is bounded; resumable, so a killed run goes on where it was.

Work happens in ``NAME.partial`` beside the store, which a rename puts in place at the end. ``blocks.jsonl`` there logs
each block once its rows are written; a run that finds the log of the same plan skips those blocks. Rows are written
again without harm, so a block that was cut off half-way is simply redone.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

import numpy as np

from data_prep import checks
from data_prep.climatology import Climatology, ClimatologyFit
from data_prep.config import DataConfig
from data_prep.errors import DataError
from data_prep.forcing import ForcingBuilder, coordinate_fields
from data_prep.grid import Grid
from data_prep.inputs import Inputs, open_canonical
from data_prep.sources import clip_to_minimum
from data_prep.spec import StateSpec, Variable
from data_prep.splits import Piece, split_segments
from data_prep.statistics import Moments, StateMoments, Statistics
from data_prep.store import Segment, StoreWriter, chunk_rows

logger = logging.getLogger(__name__)

_BLOCK_BYTES = 32 * 2**20
_MAX_BLOCK_ROWS = 64

Hook = Callable[[int, int], None]
"""Called with (blocks done, blocks in all) after each block that is read and written, and each that is fitted."""


def prepare(config: DataConfig, out: Path, workdir: Path, on_block: Hook | None = None) -> Path:
    """Turns raw files into a prepared store.

    Args:
      config: The config's ``data`` section.
      out: Where the store goes; an older one there is replaced once the new one is complete.
      workdir: What ``{workdir}`` in ``data.inputs`` stands for.
      on_block: Told about every block, for progress. What it raises ends the run, resumable.

    Returns:
      ``out``.

    Raises:
      DataError: one line on what is wrong with the files.
    """
    paths = find_inputs(config, workdir)
    inputs = open_canonical(paths, config)
    pieces = split_segments(inputs.segments, config.split)
    segments = _store_segments(pieces)
    times = np.concatenate([p.times for p in pieces])
    static, builder = _read_fixed(inputs, config)
    size = f"{times.size} times in {len(segments)} segments, {len(inputs.spec.state_channels)} state channels"
    logger.info("%s on a grid of %s", size, inputs.grid.describe())

    partial = out.with_name(f"{out.name}.partial")
    rows = _rows_per_block(inputs.spec, inputs.grid)
    identity = _identity(config, paths, times)
    plan = f"{identity} in blocks of {rows}"
    done = _resume(partial, plan)
    if not done:
        shutil.rmtree(partial, ignore_errors=True)
        StoreWriter.create(partial / "store", inputs.spec, inputs.grid, times)
        (partial / "plan.txt").write_text(plan, encoding="utf-8")
    writer = StoreWriter(partial / "store")
    to_fit = sum(len(range(s.start, s.stop, rows)) for s in segments if s.split == "train")
    tick = _ticker(on_block, len(range(0, times.size, rows)) + to_fit)
    try:
        with (partial / "blocks.jsonl").open("a", encoding="utf-8") as log:
            for start in range(0, times.size, rows):
                if start not in done:
                    stop = min(start + rows, times.size)
                    writer.write(start, *_read_block(inputs, pieces, start, stop, config))
                    log.write(f"{json.dumps({'start': start})}\n")
                    log.flush()
                tick()
        statistics, climatology = _fit(writer, segments, times, builder, static, tick)
    except DataError:
        shutil.rmtree(partial)  # the files must be mended first, so there is nothing to take up
        raise
    writer.finish(
        spec=inputs.spec,
        grid=inputs.grid,
        timestep=inputs.timestep,
        segments=segments,
        static=static,
        statistics=statistics,
        climatology=climatology,
        forcing_builder=builder,
        config_hash=identity,
    )
    _replace(partial / "store", out)
    shutil.rmtree(partial)
    return out


def find_inputs(config: DataConfig, workdir: Path) -> list[Path]:
    """The files that ``data.inputs`` names, sorted within each glob, each once.

    Raises:
      DataError: a glob matches nothing.
    """
    found: dict[Path, None] = {}
    for pattern in config.inputs:
        text = pattern.replace("{workdir}", str(workdir))
        anchor = Path(text).anchor
        matches = sorted(Path(anchor).glob(text[len(anchor) :]))
        if not matches:
            raise DataError(f"data.inputs: {text} matches no file (from {Path.cwd()})")
        found |= dict.fromkeys(matches)
    return list(found)


def _ticker(hook: Hook | None, total: int) -> Callable[[], None]:
    """A function that counts its calls and passes the count on."""
    counter = count(1)

    def tick() -> None:
        done = next(counter)
        if hook is not None:
            hook(done, total)

    return tick


def _read_fixed(inputs: Inputs, config: DataConfig) -> tuple[np.ndarray, ForcingBuilder]:
    """Static fields and the forcing table, checked before anything is written."""
    spec, grid = inputs.spec, inputs.grid
    static, table = inputs.read_static(), inputs.read_table()
    if config.nan == "fill_mean":
        static, table = checks.fill_with_mean(static[None])[0], checks.fill_with_mean(table)
    for values, sources in ((static[None], inputs.constants), (table, inputs.tables)):
        channels = [c for c in (*spec.static_channels, *spec.forcing_channels) if c.variable in sources]
        for i, channel in enumerate(channels):
            where = str(sources[channel.variable].path)
            checks.check_values(values[..., [i]], [channel], spec, np.empty(0, "datetime64[ns]"), where)
    if "coordinates" in config.computed:
        static = np.concatenate([static, coordinate_fields(grid)], axis=-1)
    return static, ForcingBuilder(grid, spec, inputs.timestep, table)


def _read_block(
    inputs: Inputs, pieces: tuple[Piece, ...], start: int, stop: int, config: DataConfig
) -> tuple[np.ndarray, np.ndarray]:
    """State and persisted forcings of rows ``[start, stop)`` of the store, whatever pieces they lie in."""
    parts = [_read_span(inputs, piece, *span, config) for piece, span in _spans(pieces, start, stop)]
    states, persisted = zip(*parts, strict=True)
    return np.concatenate(states), np.concatenate(persisted)


def _spans(pieces: tuple[Piece, ...], start: int, stop: int) -> Iterator[tuple[Piece, tuple[int, int]]]:
    """The pieces that rows ``[start, stop)`` of the store lie in, each with its own range of rows."""
    offset = 0
    for piece in pieces:
        first, last = max(start - offset, 0), min(stop - offset, piece.times.size)
        if first < last:
            yield piece, (first, last)
        offset += piece.times.size


def _read_span(
    inputs: Inputs, piece: Piece, start: int, stop: int, config: DataConfig
) -> tuple[np.ndarray, np.ndarray]:
    """State and persisted forcings of rows ``[start, stop)`` of a piece, clipped and checked."""
    spec = inputs.spec

    def read(variable: Variable, *, fill: bool) -> np.ndarray:
        first, last = piece.start + start, piece.start + stop
        values = clip_to_minimum(piece.segment.read(variable.name, first, last), variable.minimum)
        values = checks.fill_with_mean(values) if fill else values
        channels = tuple(c for c in spec.channels(variable.role) if c.variable == variable.name)
        where = str(piece.segment.path_of(variable.name, first))
        checks.check_values(values, channels, spec, piece.times[start:stop], where)
        return values

    fill = config.nan == "fill_mean"
    state = [read(v, fill=False) for v in spec.with_role("prognostic", "diagnostic")]
    persisted = [read(v, fill=fill) for v in spec.with_role("forcing") if v.known == "persisted"]
    nothing = np.empty((stop - start, *inputs.grid.shape, 0), np.float32)
    return np.concatenate(state, axis=-1), np.concatenate([nothing, *persisted], axis=-1)


def _fit(
    writer: StoreWriter,
    segments: tuple[Segment, ...],
    times: np.ndarray,
    builder: ForcingBuilder,
    static: np.ndarray,
    tick: Callable[[], None],
) -> tuple[Statistics, Climatology]:
    """Statistics and climatology in one pass over the training rows."""
    spec, grid = builder.spec, builder.grid
    n_state = len(spec.state_channels)
    training_times = np.concatenate([times[s.start : s.stop] for s in segments if s.split == "train"])
    moments = StateMoments.empty(n_state, grid.latitude_weights)
    forcing = Moments.empty(len(spec.forcing_channels))
    fit = ClimatologyFit(training_times, builder.timestep, (*grid.shape, n_state))
    rows = _rows_per_block(spec, grid)
    for segment in (s for s in segments if s.split == "train"):
        previous: np.ndarray | None = None
        for start in range(segment.start, segment.stop, rows):
            stop = min(start + rows, segment.stop)
            state, persisted = writer.read(start, stop)
            moments.update(state, previous)
            fit.update(times[start:stop], state)
            forcings = builder.at(times[start:stop], persisted)
            forcing = forcing.combine(Moments.of(forcings, grid.latitude_weights))
            previous = state[-1]
            tick()
    constant = Moments.of(static[None], grid.latitude_weights)
    for what, channels, found in (
        ("state", spec.state_channels, moments.state),
        ("forcing", spec.forcing_channels, forcing),
        ("static", spec.static_channels, constant),
    ):
        checks.check_varies(found.mean, found.std, channels, what)
    checks.check_varies(np.zeros(n_state), moments.tendency.std, spec.state_channels, "one-step changes")
    climatology = fit.finish()
    logger.info("%d training times; climatology: %s", training_times.size, climatology.kind)
    pairs = (moments.state, moments.tendency, forcing, constant)
    arrays = [x.astype(np.float32) for m in pairs for x in (m.mean, m.std)]
    return Statistics(*arrays), climatology


def _rows_per_block(spec: StateSpec, grid: Grid) -> int:
    """Rows read and written at a time: some 32 MiB, in whole chunks."""
    row_bytes = 4 * grid.shape[0] * grid.shape[1] * len(spec.state_channels)
    chunk = chunk_rows(spec, grid)
    return chunk * max(1, min(_BLOCK_BYTES // row_bytes, _MAX_BLOCK_ROWS) // chunk)


def _store_segments(pieces: tuple[Piece, ...]) -> tuple[Segment, ...]:
    stops = np.cumsum([p.times.size for p in pieces]).tolist()
    return tuple(
        Segment(p.name, stop - p.times.size, stop, p.split, p.times[0], p.times[-1])
        for p, stop in zip(pieces, stops, strict=True)
    )


def _identity(config: DataConfig, paths: list[Path], times: np.ndarray) -> str:
    """Hash of config, files (path, size, time of change) and times: what a half-finished run must share."""
    files = [[str(p.resolve()), *_stamp(p)] for p in paths]
    digest = hashlib.sha256(json.dumps([config.model_dump(mode="json"), files], sort_keys=True).encode())
    digest.update(times.astype("datetime64[ns]").astype(np.int64).tobytes())
    return digest.hexdigest()


def _stamp(path: Path) -> tuple[int, int]:
    """Size and latest change of a file, or of all files of a folder (Zarr)."""
    stats = [f.stat() for f in (path.rglob("*") if path.is_dir() else (path,))]
    return sum(s.st_size for s in stats), max(s.st_mtime_ns for s in stats)


def _resume(partial: Path, plan: str) -> set[int]:
    """Starts of the blocks that an interrupted run of the same plan has written; empty where there is none."""
    log, recorded = partial / "blocks.jsonl", partial / "plan.txt"
    if not log.is_file() or not recorded.is_file() or recorded.read_text(encoding="utf-8") != plan:
        return set()
    done: set[int] = set()
    for line in log.read_text(encoding="utf-8").splitlines():
        with suppress(json.JSONDecodeError):  # the line that a kill cut off
            done.add(json.loads(line)["start"])
    if done:
        logger.info("resuming: %d blocks are there already", len(done))
    return done


def _replace(new: Path, out: Path) -> None:
    """Puts the finished store in place by renames; an older one is deleted only once it has made way."""
    old = out.with_name(f"{out.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.replace(old)
    new.replace(out)
    shutil.rmtree(old, ignore_errors=True)
