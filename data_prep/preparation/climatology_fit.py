"""A climatology of any size, fitted from the rows of a store by independent tasks, in memory that does not grow.

The linear kinds have one wave of tasks: each sums the normal equations of some training rows and some latitudes. A
table by day and hour has two: means of some days of the year, then the smoothing of some days over their window. What
the first wave makes lies on disk beside the store; the table is written where it stays. How the work is cut follows
from sizes alone and sums are taken in a fixed order, so the result does not depend on who works, or how many.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from data_prep.clock import CALENDAR_DAYS
from data_prep.files.arrays import unbroken_runs
from data_prep.preparation.climatology import (
    WINDOW_DAYS,
    YEAR_DAYS,
    Climatology,
    Kind,
    Season,
    basis_of,
    basis_size,
    choose_kind,
    folded_day,
    hour_index,
    hours_of,
    normal_matrix,
    normal_sums,
    solve,
    triangle_sums,
    window_weights,
)
from data_prep.preparation.store_writer import StoreWriter
from data_prep.preparation.tasks import in_order

_SUM_BYTES = 2**26  # of sums that one task holds
_READ_BYTES = 2**25  # of rows that it holds beside them
_TABLE_CHUNK_BYTES = 2**19
_GROUP_ROWS = 512

_HALF = WINDOW_DAYS // 2

Span = tuple[int, int]


@dataclass(frozen=True)
class StoreFit:
    """The fit of one store, cut into tasks.

    Attributes:
      store: The store that is being written; its rows are there, its manifest is not.
      scratch: A folder of our own.
      training: Half-open ranges of its training rows.
      timestep: Between rows.
    """

    store: Path
    scratch: Path
    training: tuple[Span, ...]
    timestep: np.timedelta64

    def __reduce__(self) -> Any:
        """Workers are sent what defines the fit, not what has been worked out of it."""
        return StoreFit, (self.store, self.scratch, self.training, self.timestep)

    def run(self, executor: Executor | None, tick: Callable[[], None]) -> Climatology:
        """Fits.

        Args:
          executor: Who works.
          tick: Called ``n_tasks`` times.

        Raises:
          DataError: the training times do not determine a climatology.
        """
        waves = self._by_day() if self.kind == "day_of_year_hour" else self._linear()
        for function, parts in waves:
            for _ in in_order(partial(function, self), parts, executor):
                tick()
        table = self._writer.array("climatology/table")
        return Climatology(self.kind, self.hours, self.season, table)

    @property
    def n_tasks(self) -> int:
        """How many tasks there are."""
        if self.kind == "day_of_year_hour":
            return len(self.day_parts) + len(self.table_parts)
        return len(self.row_parts) + len(self.table_parts)

    def _linear(self) -> Iterator[tuple[Callable[..., None], Sequence[_Part]]]:
        lead = basis_size(self.kind, self.hours.size)
        _check_determined(self)
        groups = -(-self.rows.size // _GROUP_ROWS)
        band = self._latitudes
        self._create_scratch((groups, lead, *self.field_shape), (1, lead, band, *self.field_shape[1:]), np.float64)
        self._writer.create_table((lead, *self.field_shape), (1, band, *self.field_shape[1:]))
        yield _sum_rows, self.row_parts
        yield _solve_latitudes, self.table_parts

    def _by_day(self) -> Iterator[tuple[Callable[..., None], Sequence[_Part]]]:
        window_weights(self.counts)
        n_hours = self.hours.size
        chunks = (self._chunk_days, self._chunk_hours, self._latitudes, *self.field_shape[1:])
        self._create_scratch((YEAR_DAYS, n_hours, *self.field_shape), chunks, np.float32)
        self._writer.create_table((CALENDAR_DAYS, n_hours, *self.field_shape), chunks)
        yield _average_days, self.day_parts
        yield _smooth_days, self.table_parts

    @cached_property
    def rows(self) -> np.ndarray:
        """Training rows, ascending."""
        return np.concatenate([np.arange(*span) for span in self.training])

    @cached_property
    def times(self) -> np.ndarray:
        """Their times."""
        return self._writer.times[self.rows]

    @cached_property
    def kind(self) -> Kind:
        """The kind that they can carry."""
        return choose_kind(self.times, self.timestep)

    @cached_property
    def hours(self) -> np.ndarray:
        """Their hours of the day."""
        return hours_of(self.times)

    @cached_property
    def season(self) -> Season:
        """Their season."""
        return Season.of(self.times)

    @cached_property
    def counts(self) -> np.ndarray:
        """How many there are by day of the year and hour, ``(365, hour)``."""
        out = np.zeros((YEAR_DAYS, self.hours.size))
        np.add.at(out, (folded_day(self.times), hour_index(self.times, self.hours)), 1.0)
        return out

    @cached_property
    def field_shape(self) -> tuple[int, int, int]:
        """``(latitude, longitude, state)``."""
        _, latitude, longitude, state = self._writer.state.shape
        return latitude, longitude, state

    @cached_property
    def row_parts(self) -> tuple[_Part, ...]:
        """Groups of training rows, latitudes by latitudes."""
        n, size = self.rows.size, _GROUP_ROWS
        spans = [(i, min(i + size, n)) for i in range(0, n, size)]
        return tuple(_Part(*span, *band) for band in self._bands(self._latitudes) for span in spans)

    @cached_property
    def day_parts(self) -> tuple[_Part, ...]:
        """Days of the year whose sums fit into a task's memory; of all latitudes where that holds a day."""
        chunk_bytes = 8 * self._chunk_days * self.hours.size * self._latitude_size
        wanted = max(1, _SUM_BYTES // (chunk_bytes * self._latitudes))
        latitudes = self._latitudes * min(wanted, -(-self.field_shape[0] // self._latitudes))
        days = self._chunk_days * max(1, _SUM_BYTES // (chunk_bytes * latitudes))
        return self._day_parts(YEAR_DAYS, days, latitudes)

    @cached_property
    def table_parts(self) -> tuple[_Part, ...]:
        """What of the table is made at a time: a window of days, or all coefficients; of a chunk's latitudes."""
        if self.kind == "day_of_year_hour":
            days = self._chunk_days * max(1, WINDOW_DAYS // self._chunk_days)
            return self._day_parts(CALENDAR_DAYS, days, self._latitudes)
        return tuple(_Part(0, basis_size(self.kind, self.hours.size), *band) for band in self._bands(self._latitudes))

    def _day_parts(self, n_days: int, days: int, latitudes: int) -> tuple[_Part, ...]:
        spans = [(i, min(i + days, n_days)) for i in range(0, n_days, days)]
        return tuple(_Part(*span, *band) for span in spans for band in self._bands(latitudes))

    def _bands(self, latitudes: int) -> list[Span]:
        n = self.field_shape[0]
        return [(i, min(i + latitudes, n)) for i in range(0, n, latitudes)]

    @property
    def _latitude_size(self) -> int:
        return self.field_shape[1] * self.field_shape[2]

    @cached_property
    def _latitudes(self) -> int:
        """Latitudes of a chunk of the table and of what is summed for it."""
        if self.kind == "day_of_year_hour":
            most = _TABLE_CHUNK_BYTES // (4 * self._latitude_size)
        else:
            most = _SUM_BYTES // (8 * self._latitude_size * basis_size(self.kind, self.hours.size))
        n = self.field_shape[0]
        bands = -(-n // max(1, most))
        return -(-n // bands)

    @cached_property
    def _chunk_hours(self) -> int:
        """Hours of a chunk of the table by day: one, or as many small ones as make half a MiB."""
        hour_bytes = 4 * self._latitudes * self._latitude_size
        return max(1, min(_TABLE_CHUNK_BYTES // hour_bytes, self.hours.size))

    @cached_property
    def _chunk_days(self) -> int:
        """Days of such a chunk, likewise."""
        day_bytes = 4 * self._chunk_hours * self._latitudes * self._latitude_size
        return max(1, min(_TABLE_CHUNK_BYTES // day_bytes, WINDOW_DAYS))

    @cached_property
    def _writer(self) -> StoreWriter:
        return StoreWriter(self.store)

    @cached_property
    def _scratch(self) -> zarr.Array:
        return zarr.open_array(self.scratch, mode="r+")

    def _create_scratch(self, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: type[np.floating]) -> None:
        zarr.create_array(self.scratch, shape=shape, chunks=chunks, dtype=dtype, compressors=None, overwrite=True)

    def read(self, rows: np.ndarray, latitudes: slice) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """States of these training rows in unbroken pieces: the positions in ``rows``, and the states."""
        state = self._writer.state
        most = max(1, _READ_BYTES // (4 * self._latitude_size * (latitudes.stop - latitudes.start)))
        breaks = np.flatnonzero(np.diff(rows) != 1) + 1
        for run in np.split(np.arange(rows.size), breaks):
            for start in range(0, run.size, most):
                piece = run[start : start + most]
                yield piece, state.read(rows[piece], latitudes)


@dataclass(frozen=True)
class _Part:
    """What one task does: rows, days or coefficients ``[first, last)``, latitudes ``[south, north)``."""

    first: int
    last: int
    south: int
    north: int

    @property
    def latitudes(self) -> slice:
        return slice(self.south, self.north)


def _check_determined(fit: StoreFit) -> None:
    basis = _basis(fit, slice(None))
    solve(normal_matrix(basis), np.zeros((basis.shape[1], 1, 1, 1)))


def _basis(fit: StoreFit, rows: slice) -> np.ndarray:
    times = fit.times[rows]
    return basis_of(fit.kind, fit.season, times, hour_index(times, fit.hours), fit.hours.size)


def _sum_rows(fit: StoreFit, part: _Part) -> None:
    basis = _basis(fit, slice(part.first, part.last))
    sums = np.zeros((basis.shape[1], part.north - part.south, *fit.field_shape[1:]))
    for where, states in fit.read(fit.rows[part.first : part.last], part.latitudes):
        sums += normal_sums(basis[where], states)
    fit._scratch[part.first // _GROUP_ROWS, :, part.latitudes] = sums


def _solve_latitudes(fit: StoreFit, part: _Part) -> None:
    groups = range(fit._scratch.shape[0])
    sums = np.zeros((part.last, part.north - part.south, *fit.field_shape[1:]))
    for group in groups:
        sums += np.asarray(fit._scratch[group, :, part.latitudes])
    fit._writer.array("climatology/table")[:, part.latitudes] = solve(normal_matrix(_basis(fit, slice(None))), sums)


def _average_days(fit: StoreFit, part: _Part) -> None:
    days, hours = folded_day(fit.times), hour_index(fit.times, fit.hours)
    chosen = np.flatnonzero((days >= part.first) & (days < part.last))
    shape = (part.last - part.first, fit.hours.size, part.north - part.south, *fit.field_shape[1:])
    sums = np.zeros(shape)
    for where, states in fit.read(fit.rows[chosen], part.latitudes):
        for i, state in zip(chosen[where].tolist(), states, strict=True):
            sums[days[i] - part.first, hours[i]] += state
    sums /= np.maximum(fit.counts[part.first : part.last], 1)[..., None, None, None]
    fit._scratch[part.first : part.last, :, part.latitudes] = sums.astype(np.float32)


def _smooth_days(fit: StoreFit, part: _Part) -> None:
    last = min(part.last, YEAR_DAYS)
    first = min(part.first, last - 1)  # a part of day 366 alone is made from day 365
    around = np.arange(first - _HALF, last + _HALF) % YEAR_DAYS
    weights = window_weights(fit.counts)[first:last]
    shape = (part.last - part.first, fit.hours.size, part.north - part.south, *fit.field_shape[1:])
    out = np.empty(shape, np.float32)
    rows = np.minimum(np.arange(part.first, part.last), last - 1) - first
    for hour in range(fit.hours.size):
        means = _read_days(fit._scratch, around, hour, part.latitudes)
        for row in range(means.shape[1]):
            smooth = triangle_sums(means[:, row]) / weights[:, hour, None, None]
            out[:, hour, row] = smooth[rows]
    fit._writer.array("climatology/table")[part.first : part.last, :, part.latitudes] = out


def _read_days(daily: zarr.Array, days: np.ndarray, hour: int, latitudes: slice) -> np.ndarray:
    """Daily means, ``(day, latitude, longitude, state)``; the year is read in unbroken stretches."""
    return np.concatenate([np.asarray(daily[s[0] : s[-1] + 1, hour, latitudes]) for s in unbroken_runs(days)])
