"""Linear regression on principal components: the best that a linear map of the initial field does, honestly fitted.

The field's oldest statistical forecast (Lorenz 1956; as a linear inverse model, Penland and Sardeshmukh 1995,
doi:10.1175/1520-0442(1995)008<1999:TOGOTS>2.0.CO;2). Here every lead has a regression of its own, which is never worse
in the mean square than powers of one operator, and it explains what damped anomaly persistence leaves over:

    anomaly(lead) = damping(lead) * anomaly(0) + patterns . B(lead) . PCs(0)

B is shrunk towards zero by a ridge, hence the forecast towards damped persistence: where the training data do not carry
more, it is that. PCs are those of training anomalies, each channel in units of its standard deviation, weighted by
area. How many take part, and the ridge, are chosen for every lead by cross-validation over contiguous stretches of the
training split, so neither validation nor test data decide anything.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import xarray as xr

from data_prep import clock
from data_prep.grid import Grid
from data_prep.preparation.store import Store
from data_prep.spec import StateSpec, stack_channels
from emulator.forecasters.base import check_lead_times
from emulator.forecasters.lead_blocks import lead_blocks
from emulator.forecasters.persistence import DampedAnomalyPersistence, check_training_forecasts
from emulator.progress import track

logger = logging.getLogger(__name__)

COMPONENTS = (10, 20, 40, 80, 160)
"""How many leading PCs may take part; patterns are as many as the most."""

RIDGES = (0.01, 0.1, 0.3, 1.0, 3.0, 10.0, np.inf)
"""Ridge over the mean variance of the PCs that take part; the last leaves damped persistence alone."""

FOLDS = 8
"""Of the cross-validation, and so the fewest training forecasts."""

_SAMPLES = 1500  # of which PCs are made; their covariance is decomposed
_SAMPLE_BYTES = 2**29
_READ_BYTES = 2**26


@dataclass(frozen=True, eq=False)
class LinearPcs:
    """Damped anomaly persistence plus a linear regression on PCs, by lead.

    Attributes:
      damped: Damped anomaly persistence, which is corrected.
      patterns: Principal patterns, orthonormal in the weighted state, ``(component, latitude, longitude, channel)``.
      weight: What anomalies are multiplied by before they are projected on patterns: root of the area weight over the
        standard deviation, ``(latitude, 1, channel)``.
      operators: B, ``(lead, component, component)``, from PCs at initial time to what damped persistence leaves.
      components, ridges: What cross-validation chose, ``(lead,)``.
    """

    damped: DampedAnomalyPersistence
    patterns: np.ndarray
    weight: np.ndarray
    operators: np.ndarray
    components: np.ndarray
    ridges: np.ndarray
    name: str = "linear_pcs"

    @property
    def spec(self) -> StateSpec:
        """See ``Forecaster``."""
        return self.damped.spec

    @property
    def grid(self) -> Grid:
        """See ``Forecaster``."""
        return self.damped.grid

    @property
    def timestep(self) -> np.timedelta64:
        """See ``Forecaster``."""
        return self.damped.timestep

    @classmethod
    def fit(cls, store: Store, lead_times: np.ndarray) -> LinearPcs:
        """Fits everything to the training split.

        Args:
          store: Gives training data and climatology. PCs come from at most 1500 of its states (or 512 MiB), the
            regressions from all of them, read in order.
          lead_times: Leads to fit, ``timedelta64``.

        Raises:
          DataError: no training segment is as long as the longest lead, or there are fewer training forecasts than
            folds.
        """
        check_training_forecasts(cls.name, store, lead_times, FOLDS)
        leads = check_lead_times(lead_times, store.timestep)
        logger.info("linear_pcs: fitting %d leads to the training data", leads.size)
        damped = DampedAnomalyPersistence.fit(store, leads)
        steps = leads // store.timestep
        scale = np.sqrt(store.grid.latitude_weights)[:, None, None] / store.statistics.std
        weight = scale.astype(np.float32)
        patterns = _patterns(store, weight)
        series = [_project(store, s.start, s.stop, weight, patterns) for s in store.segments if s.split == "train"]
        dampings = np.einsum("kyxc,lc,jyxc->lkj", patterns, damped.damping, patterns, optimize=True)
        sums = _Sums.of(series, steps, dampings)
        choices = [k for k in COMPONENTS if k <= len(patterns)] or [len(patterns)]
        errors = sums.held_out_errors(choices)
        best = [np.unravel_index(np.argmin(e), e.shape) for e in errors]
        components, ridges = np.array([choices[i] for i, _ in best]), np.array([RIDGES[j] for _, j in best])
        operators = [
            sums.operator(i, int(k), float(r)) for i, (k, r) in enumerate(zip(components, ridges, strict=True))
        ]
        return cls(damped, patterns, weight, np.stack(operators), components, ridges)

    def forecast(self, initial: xr.Dataset, lead_times: np.ndarray) -> Iterator[xr.Dataset]:
        """See ``Forecaster.forecast``; leads that were not fitted are a ``DataError``."""
        times = initial["time"].values
        states = stack_channels(initial, self.spec.state_channels, source=self.name)
        anomaly = states - self.damped.climatology.at(times)
        pcs = np.einsum("tyxc,kyxc->tk", self.weight * anomaly, self.patterns, optimize=True)

        def fields(block: np.ndarray) -> np.ndarray:
            persistent = self.damped.states(times, anomaly, block)  # first: it refuses leads that were not fitted
            operators = self.operators[np.searchsorted(self.damped.lead_times, block)]
            rest = np.einsum("tk,lkj->tlj", pcs, operators, optimize=True).astype(np.float32)
            return persistent + np.tensordot(rest, self.patterns, axes=1) / self.weight

        yield from lead_blocks(self, initial, lead_times, fields)


def _patterns(store: Store, weight: np.ndarray) -> np.ndarray:
    """The leading eigenvectors of the covariance of weighted training anomalies, from that of their amplitudes."""
    rows = store.rows_of("train")
    state_bytes = 4 * int(np.prod((*store.grid.shape, weight.shape[-1])))
    rows = rows[clock.sample(store.times[rows], min(_SAMPLES, _SAMPLE_BYTES // state_bytes))]
    count = rows.size
    sample = np.concatenate([_weighted(store, row, row + 1, weight) for row in rows.tolist()])
    flat = sample.reshape(count, -1)
    variance, vectors = np.linalg.eigh((flat @ flat.T).astype(np.float64) / count)
    kept = np.flatnonzero(variance > 1e-6 * variance[-1])[::-1][: max(COMPONENTS)]
    patterns = vectors[:, kept].T @ flat / np.sqrt(count * variance[kept])[:, None]
    return patterns.astype(np.float32).reshape(-1, *sample.shape[1:])


def _project(store: Store, start: int, stop: int, weight: np.ndarray, patterns: np.ndarray) -> np.ndarray:
    """PCs of all states of a segment, float64 ``(time, component)``, read piece by piece."""
    rows = max(1, _READ_BYTES // patterns[0].nbytes)
    flat = patterns.reshape(len(patterns), -1).T
    pieces = [
        _weighted(store, first, min(first + rows, stop), weight).reshape(-1, len(flat)) @ flat
        for first in range(start, stop, rows)
    ]
    return np.concatenate(pieces).astype(np.float64)


def _weighted(store: Store, start: int, stop: int, weight: np.ndarray) -> np.ndarray:
    """Weighted anomalies of rows of one segment, ``(time, latitude, longitude, channel)``."""
    return weight * (store.read_state(start, stop) - store.climatology.at(store.times[start:stop]))


@dataclass(frozen=True, eq=False)
class _Sums:
    """Products of PCs at initial time among each other and with what is to be explained, by fold.

    Attributes:
      gram: ``(fold, component, component)``.
      cross: ``(fold, lead, component, component)``, the last axis of what is explained.
    """

    gram: np.ndarray
    cross: np.ndarray

    @classmethod
    def of(cls, series: list[np.ndarray], steps: np.ndarray, dampings: np.ndarray) -> _Sums:
        """Sums over all initial times whose longest forecast lies within their segment.

        What a damping that differs by channel makes of the part of a state outside the patterns is left out: that part
        is uncorrelated with the PCs, so the regression does not see it.

        Args:
          series: PCs of every training segment, ``(time, component)``.
          steps: Leads in time steps.
          dampings: Damped persistence in the space of the patterns, ``(lead, component, component)``.
        """
        longest = int(steps[-1])
        series = [pcs for pcs in series if len(pcs) > longest]
        folds = np.array_split(np.concatenate([pcs[:-longest] for pcs in series]), FOLDS)
        gram = np.stack([x.T @ x for x in folds])
        cross = np.empty((FOLDS, steps.size, *gram.shape[1:]))
        for lead, step in enumerate(steps.tolist()):
            after = np.array_split(np.concatenate([pcs[step : len(pcs) - longest + step] for pcs in series]), FOLDS)
            for fold, (x, y) in enumerate(zip(folds, after, strict=True)):
                cross[fold, lead] = x.T @ (y - x @ dampings[lead].T)
        return cls(gram, cross)

    def held_out_errors(self, components: list[int]) -> np.ndarray:
        """Squared error on each fold of regressions fitted to the others, ``(lead, choice of components, ridge)``.

        Summed over folds, and short of the square of what is to be explained, which no choice changes.
        """
        errors = np.zeros((self.cross.shape[1], len(components), len(RIDGES)))
        with track(len(self.gram) * len(components), "linear_pcs: regressions fitted") as progress:
            for gram, cross in zip(self.gram, self.cross, strict=True):
                rest_gram, rest_cross = self.gram.sum(0) - gram, self.cross.sum(0) - cross
                for i, k in enumerate(components):
                    basis = _Basis.of(rest_gram[:k, :k])
                    here = basis.vectors.T @ gram[:k, :k] @ basis.vectors
                    for lead in range(len(cross)):
                        there, turned = (basis.vectors.T @ part[lead, :k] for part in (cross, rest_cross))
                        for j, ridge in enumerate(RIDGES):
                            operator = turned * basis.inverse(ridge)
                            errors[lead, i, j] += np.sum(operator * (here @ operator - 2 * there))
                    progress.advance(1)
        return errors

    def operator(self, lead: int, k: int, ridge: float) -> np.ndarray:
        """The regression on the first ``k`` PCs, zero for the others."""
        basis = _Basis.of(self.gram.sum(0)[:k, :k])
        out = np.zeros_like(self.gram[0])
        turned = basis.vectors.T @ self.cross[:, lead, :k].sum(0)
        out[:k] = basis.vectors @ (turned * basis.inverse(ridge))
        return out


class _Basis(NamedTuple):
    """Eigenvalues and eigenvectors of a gram matrix: all its ridges by one decomposition."""

    values: np.ndarray
    vectors: np.ndarray

    @classmethod
    def of(cls, gram: np.ndarray) -> _Basis:
        return cls(*np.linalg.eigh(gram))

    def inverse(self, ridge: float) -> np.ndarray:
        """Of the eigenvalues with the ridge, as a column."""
        return 1 / (self.values + ridge * self.values.mean())[:, None]
