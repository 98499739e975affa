"""Raw files to the prepared store: in blocks, in bounded memory, by many workers if there are, resumable at any time.

Work happens in ``NAME.partial`` beside the store, which a rename puts in place at the end: what lies under its own name
is whole. ``blocks.jsonl`` there logs each block once its rows are written, with its digests and moments; a run that
finds the log of the same plan reads those blocks back and skips the whole ones: a power cut takes rows that the system
had not brought to the disk yet, and may leave their line. Rows are written again without harm, so a block that was cut
off half-way is simply redone. Sums of many blocks are taken in the order of the blocks, whoever made them and when, so
the store is the same to the last bit.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial as with_arguments
from itertools import count
from pathlib import Path

import numpy as np

from data_prep.config import DataConfig
from data_prep.errors import DataError, UnreadableError, UserError
from data_prep.files.disk import disk_in_one_line, put_in_place, take_back, write_text
from data_prep.grid import Grid
from data_prep.preparation.blocks import (
    Block,
    Ingredients,
    Recipe,
    Written,
    edge_moments,
    is_there,
    open_recipe,
    write_block,
)
from data_prep.preparation.climatology_fit import StoreFit
from data_prep.preparation.splits import split_segments
from data_prep.preparation.statistics import Moments, Statistics, sum_moments, with_lateral_as_state
from data_prep.preparation.store import FORMAT_VERSION, read_manifest, row_bytes
from data_prep.preparation.store_writer import StoreWriter, chunk_rows
from data_prep.preparation.tally import judge_record, together
from data_prep.preparation.tasks import in_order, lost_worker
from data_prep.reading import checks
from data_prep.reading.inputs import open_canonical
from data_prep.reading.locations import Location, find_inputs, locate, stamp
from data_prep.reading.sources import warn_of_slow_chunks
from data_prep.spec import StateSpec

logger = logging.getLogger(__name__)

_BLOCK_BYTES = 32 * 2**20
_MAX_BLOCK_ROWS = 64
_EDGES = 64
_LOG_VERSION = 5

Hook = Callable[[int, int], None]
"""Called with (tasks done, tasks in all) after each block that is written, and each part of what is fitted."""


def prepare(
    config: DataConfig,
    out: Path,
    workdir: Path,
    on_block: Hook | None = None,
    executor: Executor | None = None,
) -> Path:
    """Turns raw files into a prepared store.

    Args:
      config: The config's ``data`` section.
      out: Where the store goes; an older one there is replaced once the new one is complete.
      workdir: What ``{workdir}`` in ``data.inputs`` stands for.
      on_block: Told about every block, for progress. What it raises ends the run, resumable.
      executor: Processes, here or elsewhere, that see the same files; two threads of this one when left out.

    Returns:
      ``out``.

    Raises:
      DataError: one line on what is wrong with the files.
      UserError: one line on what happened to a worker or to the disk; the same call goes on from there. So it does
        after an ``UnreadableError``.
    """
    paths = find_inputs(config.inputs, workdir)
    driving = find_inputs(config.lateral.inputs, workdir, "data.lateral.inputs") if config.lateral is not None else ()
    recipe = Recipe(config.model_dump_json(), paths, driving, _identity(config, paths + driving))
    partial = out.absolute().with_name(f"{out.name}.partial")  # workers may run in another folder
    if out.is_symlink() or out.is_file():
        kind = "link" if out.is_symlink() else "file"
        raise DataError(f"{out}: is a {kind}, whose place no store can take; remove it, or choose another workdir")
    with disk_in_one_line(out):
        take_back(partial / "store", out)
        if _is_in_place(partial, out, recipe):
            logger.info("%s is complete: what was left of making it is removed", out)
            shutil.rmtree(partial)
            return out
    try:
        with disk_in_one_line(out), _in_one_line(out):
            # what is refused here leaves what was begun before, by another config perhaps
            recipe = replace(recipe, mendings=open_recipe(recipe).mendings)
            try:
                _prepare(recipe, partial, on_block, executor)
            except UnreadableError:
                raise  # a network may have failed, and all else that was read is there
            except DataError:
                shutil.rmtree(partial, ignore_errors=True)  # the files must be mended first: nothing to take up
                raise
    finally:
        open_recipe.cache_clear()
    with disk_in_one_line(out):
        put_in_place(partial / "store", out)
        shutil.rmtree(partial)
    return out


def rehearse(config: DataConfig, workdir: Path) -> None:
    """Refuses what ``prepare`` would of files whose values nobody knows yet: names, levels, times and splits alone.

    Args:
      config: The config's ``data`` section.
      workdir: What ``{workdir}`` in ``data.inputs`` stands for.

    Raises:
      DataError: as ``prepare`` does.
    """
    inputs = open_canonical(find_inputs(config.inputs, workdir), config, mendings={})
    split_segments(inputs.segments, config.split)


def _is_in_place(partial: Path, out: Path, recipe: Recipe) -> bool:
    """Whether a run that ended while it tidied up had put this very store in place."""
    if not (partial / "plan.txt").is_file() or (partial / "store").exists():
        return False
    with suppress(DataError):
        return bool(read_manifest(out)["config_hash"] == recipe.identity)
    return False


def _prepare(recipe: Recipe, partial: Path, on_block: Hook | None, executor: Executor | None) -> None:
    """Makes the store in ``partial``."""
    ingredients = open_recipe(recipe)
    spec, grid, times = ingredients.inputs.spec, ingredients.inputs.grid, ingredients.times
    segments, channels = len(ingredients.segments), len(spec.state_channels)
    size = f"{times.size} times in {segments} segment{'s' * (segments != 1)}"
    size += f", {channels} state channel{'s' * (channels != 1)}"
    logger.info("%s on a grid of %s", size, grid.describe())

    rows = _rows_per_block(spec, grid)
    timelines = ingredients.inputs.segments[0].timelines
    warn_of_slow_chunks((source, name, rows) for name, timeline in timelines.items() for source in timeline.sources)
    plan = f"{recipe.identity} in blocks of {rows}, version {_LOG_VERSION}, format {FORMAT_VERSION}"
    done = _resume(partial, plan, times, executor)
    store = partial / "store"
    if not done:
        shutil.rmtree(partial, ignore_errors=True)
        StoreWriter.create(store, spec, grid, times)
        write_text(partial / "plan.txt", plan)
    writer = StoreWriter(store)
    fit = StoreFit(store, partial / "fit", ingredients.training, ingredients.builder.timestep)
    starts = range(0, times.size, rows)
    tick = _ticker(on_block, len(starts) + fit.n_tasks)
    for _ in done:
        tick()
    blocks = [Block(recipe, store, s, min(s + rows, times.size)) for s in starts if s not in done]
    with (partial / "blocks.jsonl").open("a", encoding="utf-8") as log:
        log.write("\n")  # a line that a kill cut off ends here
        for written in in_order(write_block, blocks, executor):
            log.write(f"{json.dumps(written.to_json())}\n")
            log.flush()
            done[written.start] = written
            tick()
    in_time = [done[start] for start in starts]
    judge_record(together([written.tallies for written in in_time]))
    statistics = _statistics(ingredients, in_time, _edges(ingredients, store, starts, executor))
    climatology = fit.run(executor, tick)
    training = sum(last - first for first, last in ingredients.training)
    logger.info("%d training times; climatology: %s", training, climatology.kind)
    writer.write_digests(0, b"".join(written.digests for written in in_time))
    writer.finish(
        spec=spec,
        grid=grid,
        timestep=ingredients.inputs.timestep,
        segments=ingredients.segments,
        static=ingredients.static,
        statistics=statistics,
        climatology=climatology,
        forcing_builder=ingredients.builder.with_interior(statistics.mean[: spec.n_prognostic]),
        config_hash=recipe.identity,
    )


@contextmanager
def _in_one_line(out: Path) -> Iterator[None]:
    """Says in one line that a worker is gone."""
    try:
        yield
    except Exception as error:
        if not lost_worker(error):
            raise
        raise UserError(
            f"{out}: a worker died (killed, or out of memory?); run the same command again, it goes on from there"
        ) from None


def _ticker(hook: Hook | None, total: int) -> Callable[[], None]:
    """A function that counts its calls and passes the count on."""
    counter = count(1)

    def tick() -> None:
        done = next(counter)
        if hook is not None:
            hook(done, total)

    return tick


def _edges(ingredients: Ingredients, store: Path, starts: range, executor: Executor | None) -> Moments:
    """Moments of the changes from one block to the next, which no block can see alone."""
    inside = [s for s in starts if any(first < s < last for first, last in ingredients.training)]
    parts = [inside[i : i + _EDGES] for i in range(0, len(inside), _EDGES)]
    weights = ingredients.inputs.grid.latitude_weights
    moments = in_order(with_arguments(edge_moments, store, latitude_weights=weights), parts, executor)
    return sum_moments(moments, len(ingredients.inputs.spec.state_channels))


def _statistics(ingredients: Ingredients, blocks: list[Written], edges: Moments) -> Statistics:
    """All blocks together, and no channel that does not vary."""
    spec, static = ingredients.inputs.spec, ingredients.static
    n_state = len(spec.state_channels)
    state = sum_moments((b.state for b in blocks), n_state)
    tendency = sum_moments((b.tendency for b in blocks), n_state).combine(edges)
    forcing = sum_moments((b.forcing for b in blocks), len(spec.forcing_channels))
    constant = Moments.of(static[None], ingredients.inputs.grid.latitude_weights)
    for what, channels, found in (
        ("state", spec.state_channels, state),
        ("forcing", spec.forcing_channels, forcing),
        ("static", spec.static_channels, constant),
    ):
        checks.check_varies(found.mean, found.std, channels, what)
    # A change is measured against the size of the values: what is below their float32 resolution is rounding.
    checks.check_varies(state.mean, tendency.std, spec.state_channels, "one-step changes")
    arrays = [x for m in (state, tendency, forcing, constant) for x in (m.mean, m.std)]
    ranges = [x for m in (state, forcing) for x in (m.lowest, m.highest)]
    return with_lateral_as_state(Statistics(*(x.astype(np.float32) for x in (*arrays, *ranges))), spec)


def _rows_per_block(spec: StateSpec, grid: Grid) -> int:
    """Rows read and written at a time: some 32 MiB, in whole chunks."""
    chunk = chunk_rows(spec, grid)
    return chunk * max(1, min(_BLOCK_BYTES // row_bytes(spec, grid), _MAX_BLOCK_ROWS) // chunk)


def _identity(config: DataConfig, paths: tuple[Location, ...]) -> str:
    """Hash of config and files (path and ``locations.stamp``), the grid's too: what a half-finished run must share."""
    like = (locate(config.regrid.like),) if config.regrid is not None and config.regrid.like is not None else ()
    files = [[str(p), *stamp(p)] for p in (*paths, *like)]
    return hashlib.sha256(json.dumps([config.model_dump(mode="json"), files], sort_keys=True).encode()).hexdigest()


def _resume(partial: Path, plan: str, times: np.ndarray, executor: Executor | None) -> dict[int, Written]:
    """The blocks that an interrupted run of the same plan has written, by their start; empty where there is none.

    Each is read back, which takes a fraction of the time of making it.
    """
    log, recorded, store = partial / "blocks.jsonl", partial / "plan.txt", partial / "store"
    if not store.is_dir() or not log.is_file() or not recorded.is_file():
        return {}
    if recorded.read_text(encoding="utf-8", errors="replace") != plan or not _is_begun(store, times):
        logger.info("what was begun is of another config, or of files that have changed since, and is made anew")
        return {}
    logged: dict[int, Written] = {}
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        with suppress(ValueError, KeyError, TypeError):  # a line that a kill cut off, or what a power cut left of it
            written = Written.from_json(json.loads(line))
            logged[written.start] = written
    if not logged:
        return {}
    logger.info("resuming: reading back the %d blocks that are there already", len(logged))
    whole = in_order(with_arguments(is_there, store), list(logged.values()), executor)
    done = {start: logged[start] for start, sound in zip(list(logged), whole, strict=True) if sound}
    if len(done) < len(logged):
        logger.warning("%d of them are damaged (a power cut?) and are made again", len(logged) - len(done))
    return done


def _is_begun(store: Path, times: np.ndarray) -> bool:
    """Whether the folder is the begun store of these times: a power cut may take any of its files."""
    try:
        writer = StoreWriter(store)
        sizes = {writer.array(name).shape[0] for name in ("state", "persisted", "digest")}
        return sizes == {times.size} and np.array_equal(writer.times, times)
    except Exception:  # noqa: BLE001 - what libraries make of damaged metadata is anything
        return False
