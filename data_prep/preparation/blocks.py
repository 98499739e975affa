"""One block of a store as a task of its own: read, convert, check, write, and take its moments.

Blocks depend on nothing but the files, so any process that sees files and store can make any of them, at any time and
more than once: the same rows get the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import numpy as np

from data_prep.config import DataConfig
from data_prep.forcing import ForcingBuilder, coordinate_fields
from data_prep.lateral import Rim
from data_prep.preparation.splits import Piece, split_segments
from data_prep.preparation.statistics import Moments, state_moments, sum_moments
from data_prep.preparation.store import Segment
from data_prep.preparation.store_writer import StoreWriter
from data_prep.preparation.tally import Tally, is_counted, together
from data_prep.reading import checks
from data_prep.reading.driving import Driving, open_driving
from data_prep.reading.inputs import Inputs, open_canonical
from data_prep.reading.locations import Location
from data_prep.reading.sources import clip_to_minimum
from data_prep.reading.timelines import Mending, mendings_of
from data_prep.spec import Variable


@dataclass(frozen=True)
class Recipe:
    """What a store is made from, in a form that other processes can be sent.

    Attributes:
      config: The config's ``data`` section as JSON.
      paths: The files, in order.
      driving: Those of the driving data set, if there is one.
      identity: Hash of config and files (path, size, time of change).
      mendings: What is mended of the files and of the driving ones, once it has been found; follows from the others.
    """

    config: str
    paths: tuple[Location, ...]
    driving: tuple[Location, ...]
    identity: str
    mendings: tuple[Mapping[str, Mending], Mapping[str, Mending]] | None = field(default=None, compare=False)


@dataclass(frozen=True, eq=False)
class Ingredients:
    """The files of a recipe, opened, and all that is known before a field of the record is read.

    Attributes:
      config: The config's ``data`` section.
      inputs: The files as one record.
      pieces: Its stretches by split, ascending in time: the rows of the store.
      segments: The same, as the store describes them.
      times: Of all rows, ``datetime64[ns]`` ``(time,)``.
      static: Static fields, checked, float32 ``(latitude, longitude, static)``.
      builder: Forcings; what stands beyond the rim for lateral ones is not known yet and zero.
      driving: Lateral boundary values, if there are any.
    """

    config: DataConfig
    inputs: Inputs
    pieces: tuple[Piece, ...]
    segments: tuple[Segment, ...]
    times: np.ndarray
    static: np.ndarray
    builder: ForcingBuilder
    driving: Driving | None

    @property
    def mendings(self) -> tuple[dict[str, Mending], dict[str, Mending]]:
        """What a recipe can spare others to look for."""
        driving = self.driving.timelines if self.driving is not None else {}
        return mendings_of(self.inputs.segments[0].timelines), mendings_of(driving)

    @property
    def training(self) -> tuple[tuple[int, int], ...]:
        """Half-open ranges of training rows."""
        return tuple((s.start, s.stop) for s in self.segments if s.split == "train")


@dataclass(frozen=True)
class Block:
    """Rows ``[start, stop)`` of the store that lies at ``store``."""

    recipe: Recipe
    store: Path
    start: int
    stop: int


@dataclass(frozen=True, eq=False)
class Written:
    """What is left to know of a block once its rows are written.

    Attributes:
      start: Its first row.
      digests: ``row_digest`` of each row.
      state, tendency, forcing: Moments of its training rows; changes between blocks are ``edge_moments``.
      tallies: By variable, of those that the program does not know.
    """

    start: int
    digests: bytes
    state: Moments
    tendency: Moments
    forcing: Moments
    tallies: Mapping[str, Tally]

    def to_json(self) -> dict[str, Any]:
        """Plain values that give back every bit."""
        moments = {name: getattr(self, name).to_json() for name in ("state", "tendency", "forcing")}
        tallies = {name: tally.to_json() for name, tally in self.tallies.items()}
        return {"start": self.start, "digests": self.digests.hex(), **moments, "tallies": tallies}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Inverse of ``to_json``."""
        state, tendency, forcing = (Moments.from_json(data[name]) for name in ("state", "tendency", "forcing"))
        tallies = {name: Tally.from_json(tally) for name, tally in data["tallies"].items()}
        return cls(data["start"], bytes.fromhex(data["digests"]), state, tendency, forcing, tallies)


@lru_cache(maxsize=1)
def open_recipe(recipe: Recipe) -> Ingredients:
    """Opens the files of a recipe; a process that makes many blocks does it once.

    Raises:
      DataError: one line on what is wrong with the files, or with their constant fields.
    """
    config = DataConfig.model_validate_json(recipe.config)
    own, of_driving = recipe.mendings or (None, None)
    inputs = open_canonical(list(recipe.paths), config, mendings=own)
    pieces = split_segments(inputs.segments, config.split)
    stops = np.cumsum([p.times.size for p in pieces]).tolist()
    segments = tuple(
        Segment(p.name, stop - p.times.size, stop, p.split, p.times[0], p.times[-1])
        for p, stop in zip(pieces, stops, strict=True)
    )
    times = np.concatenate([p.times for p in pieces])
    driving = None
    if config.lateral is not None:
        driving = open_driving(recipe.driving, config, inputs.spec, inputs.grid, of_driving)
        driving.refuse_gaps(times)
    return Ingredients(config, inputs, pieces, segments, times, *_read_fixed(inputs, config, driving), driving)


def write_block(block: Block) -> Written:
    """Makes a block.

    Raises:
      DataError: a field cannot be read, or holds what it must not.
    """
    ingredients = open_recipe(block.recipe)
    spans = _spans(ingredients.pieces, block.start, block.stop)
    parts = [_read_span(ingredients, piece, *span) for piece, span in spans]
    states, kept, tallies = zip(*parts, strict=True)
    state, persisted = (some[0] if len(some) == 1 else np.concatenate(some) for some in (states, kept))
    digests = StoreWriter(block.store).write_rows(block.start, state, persisted)
    return Written(block.start, digests, *_moments(ingredients, block, state, persisted), together(tallies))


def is_there(store: Path, written: Written) -> bool:
    """Whether a store still holds what was written of a block; if not, nothing is left of it."""
    return StoreWriter(store).holds(written.start, written.digests)


def edge_moments(store: Path, rows: Sequence[int], latitude_weights: np.ndarray) -> Moments:
    """Moments of the changes that lead to these rows of a store, which begin blocks inside a segment."""
    state = StoreWriter(store).state
    pairs = (state[row - 1 : row + 1] for row in rows)
    return sum_moments((state_moments(pair, latitude_weights)[1] for pair in pairs), state.shape[-1])


def _moments(
    ingredients: Ingredients, block: Block, state: np.ndarray, persisted: np.ndarray
) -> tuple[Moments, Moments, Moments]:
    """Of states, changes and forcings of the training rows, never across segments."""
    weights = ingredients.inputs.grid.latitude_weights
    n_state, n_forcing = state.shape[-1], len(ingredients.builder.spec.forcing_channels)
    states, changes, forcings = Moments.empty(n_state), Moments.empty(n_state), Moments.empty(n_forcing)
    for first, last in ingredients.training:
        rows = slice(max(first, block.start) - block.start, min(last, block.stop) - block.start)
        if rows.start < rows.stop:
            times = ingredients.times[block.start : block.stop][rows]
            of_states, of_changes = state_moments(state[rows], weights)
            states, changes = states.combine(of_states), changes.combine(of_changes)
            forcings = forcings.combine(Moments.of(ingredients.builder.at(times, persisted[rows]), weights))
    return states, changes, forcings


def _read_fixed(inputs: Inputs, config: DataConfig, driving: Driving | None) -> tuple[np.ndarray, ForcingBuilder]:
    """Static fields and the forcing table, checked before anything is written."""
    spec, grid = inputs.spec, inputs.grid
    static, table = inputs.read_static(), inputs.read_table()
    if config.nan == "fill_mean":
        static = checks.fill_with_mean(static[None])[0]
        for day in range(table.shape[0]):  # in place: all at once takes several times a table's memory
            table[day : day + 1] = checks.fill_with_mean(table[day : day + 1])
    for values, sources in ((static[None], inputs.constants), (table, inputs.tables)):
        channels = [c for c in (*spec.static_channels, *spec.forcing_channels) if c.variable in sources]
        for i, channel in enumerate(channels):
            where = str(sources[channel.variable].path)
            checks.check_values(values[..., i : i + 1], [channel], spec, np.empty(0, "datetime64[ns]"), where)
            for row in values:
                row[..., i] = clip_to_minimum(row[..., i], spec[channel.variable].minimum)
    if "coordinates" in config.computed:
        static = np.concatenate([static, coordinate_fields(grid)], axis=-1)
    rim = None
    if driving is not None:
        rim = Rim(driving.mask, np.zeros(len(spec.known_channels("lateral")), np.float32))
    return static, ForcingBuilder(grid, spec, inputs.timestep, table, rim)


def _spans(pieces: tuple[Piece, ...], start: int, stop: int) -> Iterator[tuple[Piece, tuple[int, int]]]:
    """The pieces that rows ``[start, stop)`` of the store lie in, each with its own range of rows."""
    offset = 0
    for piece in pieces:
        first, last = max(start - offset, 0), min(stop - offset, piece.times.size)
        if first < last:
            yield piece, (first, last)
        offset += piece.times.size


def _read_span(
    ingredients: Ingredients, piece: Piece, start: int, stop: int
) -> tuple[np.ndarray, np.ndarray, dict[str, Tally]]:
    """State, and persisted and lateral forcings, of rows ``[start, stop)`` of a piece, clipped and checked; tallies."""
    spec, times = ingredients.inputs.spec, piece.times[start:stop]
    first, last = piece.start + start, piece.start + stop
    tallies: list[dict[str, Tally]] = []

    def read(variables: Sequence[Variable]) -> np.ndarray:
        sizes = [len(v.channels) for v in variables]
        planes = np.empty((times.size, sum(sizes), *ingredients.inputs.grid.shape), np.float32)  # as most files are
        fields = np.moveaxis(planes, 1, -1)
        for variable, size, end in zip(variables, sizes, np.cumsum(sizes).tolist(), strict=True):
            values = piece.segment.read(variable.name, first, last)
            if variable.role == "forcing" and ingredients.config.nan == "fill_mean":
                values = checks.fill_with_mean(values)
            for path, rows in piece.segment.files_of(variable.name, first, last):
                checks.check_values(values[rows], variable.channels, spec, times[rows], str(path))
                if is_counted(variable.name, variable.units):
                    of_rows = Tally.of(variable.name, variable.units, values[rows], times[rows], path)
                    tallies.append({variable.name: of_rows})
            fields[..., end - size : end] = clip_to_minimum(values, variable.minimum)
        return np.ascontiguousarray(fields)

    given = read([v for v in spec.with_role("forcing") if v.known == "persisted"])
    if ingredients.driving is not None:
        given = np.concatenate([given, ingredients.driving.at(times)], axis=-1)
    return read([*spec.state_variables.values()]), given, together(tallies)
