"""The pass over all fields: additive statistics, block by block of initial times, here or on many workers.

A block reads each valid time of the truth once, whoever forecasts it and from whichever initial time. What a block
gives is exact on its own, so blocks may be scored anywhere and in any order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any

import numpy as np

from data_prep import clock
from data_prep.errors import DataError
from data_prep.preparation.store import Store, row_bytes
from data_prep.preparation.tasks import in_order, lost_worker
from data_prep.variables import is_accumulation
from emulator.evaluation.extremes import BIN_COUNT, Bins, scale_of
from emulator.evaluation.fields import Verification, has_climatology
from emulator.evaluation.forecast_file import ForecastFile
from emulator.evaluation.regions import Region, region_weights
from emulator.evaluation.seeps import RainClimate
from emulator.evaluation.spectra import fine_scales, mean_power
from emulator.evaluation.statistics import (
    ANOMALY_STATISTICS,
    ENSEMBLE_STATISTICS,
    FORECAST_STATISTICS,
    TRUTH_STATISTICS,
    Observed,
    deterministic_statistics,
    ensemble_statistics,
)

_BLOCK_BYTES = 16 * 2**20  # of one forecaster's fields; deriving and scoring them takes some ten times that
_TRUTH_BYTES = 64 * 2**20  # of the truth's fields that are held at once, likewise
_TASK_INITS = 8  # initial times that a worker takes at once: neighbours share most of their valid times
_SCALE_TIMES = 64  # whose anomalies set the width of bins


@dataclass(frozen=True)
class Scoring:
    """What is scored, and against what: all that a worker needs to know.

    Attributes:
      verification: Truth, times, levels, mask.
      files: By forecaster.
      variables: Planes to score.
      regions: Over which areas.
      weights: Their area weights, ``(region, latitude, longitude)``.
      rain: Climate of precipitation variables.
      bins: For the distribution of each variable's anomalies.
      with_distributions: Whether spectra and distributions of anomalies are counted too.
    """

    verification: Verification
    files: Mapping[str, ForecastFile]
    variables: tuple[str, ...]
    regions: tuple[Region, ...]
    weights: np.ndarray
    rain: Mapping[str, RainClimate]
    bins: Mapping[str, Bins]
    with_distributions: bool = True

    @classmethod
    def of(
        cls,
        verification: Verification,
        files: Mapping[str, ForecastFile],
        variables: Sequence[str],
        regions: Sequence[Region],
        training: Store,
    ) -> Scoring:
        """Works out weights, the climate of rain (from the training split of ``training``), and the width of bins."""
        store = verification.store
        weights = region_weights(store.grid, regions, store.land_share, verification.mask)
        rain = {v: RainClimate.fit(training, v) for v in variables if is_accumulation(v)}
        rows = np.unique(verification.rows)
        rows = rows[clock.sample(store.times[rows], _SCALE_TIMES)]
        squares = dict.fromkeys(variables, 0.0)
        at_once = max(1, _BLOCK_BYTES // row_bytes(store.spec, store.grid))
        for some in np.split(rows, range(at_once, rows.size, at_once)):
            truth, climatology = verification.truth(some), verification.climatology(some)
            for name in variables:
                square = np.square(truth[name] - climatology[name], dtype=np.float64)
                squares[name] += float(square.mean(axis=(-2, -1)).sum())
        bins = {name: Bins(scale_of(square / rows.size)) for name, square in squares.items()}
        return cls(verification, files, tuple(variables), tuple(regions), weights, rain, bins)

    @property
    def has_spectra(self) -> bool:
        """Whether there are zonal spectra: circles of latitude must be whole for them to mean something."""
        return self.with_distributions and self.verification.store.grid.periodic and self.verification.mask is None

    @property
    def forecast_statistics(self) -> tuple[str, ...]:
        """Names of the additive statistics of forecasts."""
        ensembles = any(f.is_ensemble for f in self.files.values())
        return (
            *FORECAST_STATISTICS,
            *(("forecast_fine_power",) if self.has_spectra else ()),
            *(("seeps",) if self.rain else ()),
            *(ENSEMBLE_STATISTICS if ensembles else ()),
        )

    @property
    def truth_statistics(self) -> tuple[str, ...]:
        """Names of the additive statistics of the truth."""
        return (*TRUTH_STATISTICS, *(("truth_fine_power",) if self.has_spectra else ()))


@dataclass(frozen=True)
class Distribution:
    """What is summed over initial times; distributions of different initial times add up.

    Attributes:
      forecast_counts, truth_counts: Anomalies by bin, ``(forecaster, variable, lead, bin)`` and without ``forecaster``.
      forecast_power, truth_power: Area-mean power, ``(forecaster, variable, lead, wavenumber)`` and without
        ``forecaster``; ``None`` where there are no whole circles.
    """

    forecast_counts: np.ndarray
    truth_counts: np.ndarray
    forecast_power: np.ndarray | None
    truth_power: np.ndarray | None

    def __add__(self, other: Distribution) -> Distribution:
        pairs = ((getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        sums: list[Any] = [None if a is None or b is None else a + b for a, b in pairs]
        return Distribution(*sums)


@dataclass(frozen=True)
class Tally:
    """What some initial times give.

    Attributes:
      inits: Which ones.
      statistics: By name, those of forecasts ``(forecaster, variable, lead, init, region)``, those of the truth without
        ``forecaster``; NaN where there is none, as of anomalies where there is no climatology.
      distribution: Sums over these initial times.
    """

    inits: slice
    statistics: dict[str, np.ndarray]
    distribution: Distribution

    @classmethod
    def empty(cls, scoring: Scoring, inits: slice) -> Tally:
        """Nothing scored yet."""
        forecasters, variables = len(scoring.files), len(scoring.variables)
        leads, regions = scoring.verification.lead_times.size, len(scoring.regions)
        cells = (variables, leads, inits.stop - inits.start, regions)
        statistics = {name: np.full((forecasters, *cells), np.nan) for name in scoring.forecast_statistics}
        statistics |= {name: np.full(cells, np.nan) for name in scoring.truth_statistics}
        shapes = ((forecasters, variables, leads), (variables, leads))
        counts = [np.zeros((*shape, BIN_COUNT)) for shape in shapes]
        waves = scoring.verification.store.grid.shape[1] // 2
        power = [np.zeros((*shape, waves)) if scoring.has_spectra else None for shape in shapes]
        return cls(inits, statistics, Distribution(*counts, *power))


def tallies(scoring: Scoring, executor: Executor | None = None) -> Iterator[Tally]:
    """Scores everything, some initial times at a time, in their order.

    Args:
      scoring: What.
      executor: Where; in this process when left out. Workers open the store and the forecast files themselves.

    Raises:
      DataError: a field cannot be read or holds NaN, or a worker died.
    """
    n = scoring.verification.init_times.size
    tasks = _slices(n, _TASK_INITS)
    work = partial(score, scoring)
    try:
        yield from map(work, tasks) if executor is None else in_order(work, tasks, executor)
    except Exception as error:
        if not lost_worker(error):
            raise
        raise DataError(
            "evaluate: a worker died; what it last said is above; if it ran out of memory, use fewer workers"
        ) from None


def score(scoring: Scoring, inits: slice) -> Tally:
    """Scores all forecasters from some initial times."""
    tally = Tally.empty(scoring, inits)
    verification = scoring.verification
    truth = _Truth(scoring)
    n_leads = verification.lead_times.size
    per_lead = row_bytes(verification.store.spec, verification.store.grid)
    for span in _slices(n_leads, _TRUTH_BYTES // per_lead):
        for within in _slices(inits.stop - inits.start, _BLOCK_BYTES // (per_lead * (span.stop - span.start))):
            block = slice(inits.start + within.start, inits.start + within.stop)
            truth.move_to(block, span)
            observed = {variable: truth.observed(variable) for variable in scoring.variables}
            for j, variable in enumerate(scoring.variables):
                _add_truth(tally, scoring, variable, (j, span), within, observed[variable])
            for i, file in enumerate(scoring.files.values()):
                at_once = _BLOCK_BYTES // (per_lead * (block.stop - block.start) * max(1, file.members))
                for part in _slices(span.stop - span.start, at_once):
                    leads = slice(span.start + part.start, span.start + part.stop)
                    forecast = verification.forecast(file, block, leads)
                    for j, variable in enumerate(scoring.variables):
                        cells = (i, j, leads)
                        if variable in forecast:
                            seen = observed[variable][:, part]
                            _add_forecast(tally, scoring, forecast[variable], variable, cells, within, seen)
                        elif tally.distribution.forecast_power is not None:
                            tally.distribution.forecast_power[cells] = np.nan
    return tally


def _slices(n: int, at_once: int) -> list[slice]:
    """Of so many things, one after the other, as many at once; one at least."""
    at_once = max(1, at_once)
    return [slice(first, min(first + at_once, n)) for first in range(0, n, at_once)]


def _add_truth(
    tally: Tally, scoring: Scoring, variable: str, cells: tuple[int, slice], place: slice, observed: Observed
) -> None:
    if has_climatology(variable):
        for name, value in observed.statistics().items():
            tally.statistics[name][(*cells, place)] = np.moveaxis(value, 0, 1)
    if scoring.with_distributions and has_climatology(variable):
        tally.distribution.truth_counts[cells] += scoring.bins[variable].count(observed.anomaly, scoring.weights[0])
    if observed.power is not None and tally.distribution.truth_power is not None:
        _set_whole(tally.statistics["truth_fine_power"][cells], place, _fine(observed.power, scoring))
        tally.distribution.truth_power[cells] += observed.power.sum(axis=0)


def _add_forecast(
    tally: Tally,
    scoring: Scoring,
    field: np.ndarray,
    variable: str,
    cells: tuple[int, int, slice],
    place: slice,
    observed: Observed,
) -> None:
    """One variable of one forecaster; of an ensemble the mean is scored, and the ensemble.

    Spectra and distributions of an ensemble are its members'; its fine-scale power is the mean's, as its error is.
    """
    is_ensemble = field.ndim == observed.truth.ndim + 1
    single = field.mean(axis=0, dtype=np.float64) if is_ensemble else field
    found = deterministic_statistics(single, observed, scoring.weights)
    if is_ensemble:
        found |= ensemble_statistics(field, observed.truth, scoring.weights)
    if variable in scoring.rain:
        found["seeps"] = scoring.rain[variable].area_means(single, observed.truth, scoring.weights)
    for name, value in found.items():
        if has_climatology(variable) or name not in ANOMALY_STATISTICS:
            tally.statistics[name][(*cells, place)] = np.moveaxis(value, 0, 1)
    if not scoring.with_distributions:
        return
    members = field if is_ensemble else field[None]
    if has_climatology(variable):
        climatology = observed.truth - observed.anomaly
        for member in members:
            weights = scoring.weights[0] / len(members)
            tally.distribution.forecast_counts[cells] += scoring.bins[variable].count(member - climatology, weights)
    if tally.distribution.forecast_power is not None:
        grid = scoring.verification.store.grid
        of_single = mean_power(single, grid)
        power = np.mean([mean_power(member, grid) for member in members], axis=0) if is_ensemble else of_single
        _set_whole(tally.statistics["forecast_fine_power"][cells], place, _fine(of_single, scoring))
        tally.distribution.forecast_power[cells] += power.sum(axis=0)


def _fine(power: np.ndarray, scoring: Scoring) -> np.ndarray:
    return power[..., fine_scales(scoring.verification.store.grid)].sum(axis=-1)


def _set_whole(statistic: np.ndarray, place: slice, value: np.ndarray) -> None:
    """Sets ``(lead, init, region)`` from ``(init, lead)`` for the whole grid, the first region, alone."""
    statistic[:, place, 0] = value.T


@dataclass
class _Truth:
    """The truth at the valid times of a block, keeping from the block before what both need."""

    scoring: Scoring
    _rows: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    _held: dict[str, Observed] = field(default_factory=dict)
    _index: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))

    def move_to(self, block: slice, leads: slice) -> None:
        """Reads what these leads of the block need and is not there yet."""
        wanted = self.scoring.verification.rows[block, leads]
        rows = np.unique(wanted)
        stays = np.isin(self._rows, rows)
        fresh = rows[~np.isin(rows, self._rows)]
        joined = np.concatenate([self._rows[stays], fresh])
        held = {name: observed[stays] for name, observed in self._held.items()} if stays.any() else {}
        if fresh.size:
            read = self._read(fresh)
            held = {name: held[name].joined_with(read[name]) if held else read[name] for name in read}
        if (np.diff(joined) < 0).any():
            order = np.argsort(joined)
            joined, held = joined[order], {name: observed[order] for name, observed in held.items()}
        self._rows, self._held = joined, held
        self._index = np.searchsorted(self._rows, wanted)

    def observed(self, variable: str) -> Observed:
        """What to verify a variable against, leading dims ``(init, lead)``."""
        first = int(self._index[0, 0])
        if self._index.shape[0] == 1 and (np.diff(self._index[0]) == 1).all():  # a view: copies would cost a fifth
            return self._held[variable][first : first + self._index.shape[1]][None]
        return self._held[variable][self._index]

    def _read(self, rows: np.ndarray) -> dict[str, Observed]:
        scoring = self.scoring
        truth, climatology = scoring.verification.truth(rows), scoring.verification.climatology(rows)
        grid = scoring.verification.store.grid

        def one(variable: str) -> Observed:
            power = mean_power(truth[variable], grid) if scoring.has_spectra else None
            return Observed.of(truth[variable], climatology[variable], scoring.weights, power)

        return {variable: one(variable) for variable in scoring.variables}
