"""A store as a network sees it that learns departures from the training climatology.

The course of the day and of the year is known beforehand; with little data a network spends most of its lessons on it.
Taken off, what is left to learn is the weather alone, and a network that knows nothing yet forecasts the persistence of
the anomaly. The forecaster takes the climatology off its initial fields and puts that of the valid time back on.

Anomalies have no physical lower bound; the forecaster applies those of the fields.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from data_prep.preparation.statistics import Statistics, state_moments, sum_moments, with_lateral_as_state
from data_prep.preparation.store import Store
from data_prep.spec import StateSpec

_BLOCK_ROWS = 64


@dataclass(frozen=True, eq=False)
class AnomalyRows:
    """Rows of a store's state less the climatology of their times, made when they are read."""

    store: Store

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the state."""
        return self.store.state.shape

    def __getitem__(self, key: Any) -> np.ndarray:
        rows = _rows(key, self.store)
        states = self.store.take_states(rows)
        states -= self.store.climatology.at(self.store.times[rows].ravel()).reshape(states.shape)
        return states


@dataclass(frozen=True, eq=False)
class PersistedRows:
    """Rows of what a store persists, read through it: compared with their hashes, and pickled as it is.

    Lateral boundary values are departures from the same climatology as the state.
    """

    store: Store

    @property
    def shape(self) -> tuple[int, ...]:
        """Of what is persisted."""
        return self.store.persisted.shape

    def __getitem__(self, key: Any) -> np.ndarray:
        rows, lateral = _rows(key, self.store), self.store.forcing_builder.is_lateral
        values = self.store.take_persisted(rows)
        if not lateral.any():
            return values
        expected = self.store.climatology.at(self.store.times[rows].ravel())[..., : self.store.spec.n_prognostic]
        values[..., lateral] -= expected.reshape(*values.shape[:-1], -1)
        return values


def _rows(key: Any, store: Store) -> np.ndarray:
    """The rows that an index means."""
    return key if isinstance(key, np.ndarray) else np.asarray(np.arange(store.times.size)[key])


def anomalies_of(store: Store, statistics: Statistics | None = None) -> Store:
    """The store with departures from its climatology as states, and their moments over the training split.

    It lies in no folder: a worker that opened its store's would get the fields. The climatology remains that of the
    fields, for who adds it back.

    Args:
      store: The data.
      statistics: Of the departures, where they are known; else all training rows are read.
    """
    rows = AnomalyRows(store)
    statistics = statistics or _statistics(rows)
    none = np.empty((0, 0), np.uint8)  # the rows of the store itself are compared with their hashes
    return replace(
        store,
        spec=without_bounds(store.spec),
        statistics=statistics,
        forcing_builder=store.forcing_builder.with_interior(statistics.mean[: store.spec.n_prognostic]),
        state=rows,
        persisted=PersistedRows(store),
        digests=none,
        path=None,
    )


def _statistics(rows: AnomalyRows) -> Statistics:
    """Of the training rows; what is not of states, nor lateral values of these, remains the store's."""
    store = rows.store
    weights, n_channels = store.grid.latitude_weights, len(store.spec.state_channels)
    states, changes = [], []
    for segment in (s for s in store.segments if s.split == "train"):
        before = rows[segment.start : segment.start]
        for first in range(segment.start, segment.stop, _BLOCK_ROWS):
            block = rows[first : min(first + _BLOCK_ROWS, segment.stop)]
            state, change = state_moments(block, weights)
            states.append(state)
            changes += [state_moments(np.concatenate([before, block[:1]]), weights)[1], change]
            before = block[-1:]
    state, change = sum_moments(states, n_channels), sum_moments(changes, n_channels)
    found = replace(
        store.statistics,
        mean=state.mean.astype(np.float32),
        std=state.std.astype(np.float32),
        tendency_mean=change.mean.astype(np.float32),
        tendency_std=change.std.astype(np.float32),
    )
    return with_lateral_as_state(found, store.spec)


def without_bounds(spec: StateSpec) -> StateSpec:
    """The same variables without their physical lower bounds."""
    return replace(spec, variables=tuple(replace(v, minimum=None) for v in spec.variables))
