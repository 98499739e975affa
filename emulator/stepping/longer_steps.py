"""How much the truth changes over some steps: the unit of what a network answers for them, and of its errors."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from data_prep import clock
from data_prep.preparation.statistics import Moments, sum_moments
from data_prep.preparation.store import Store

_WINDOWS = 256
"""From so many windows, spread over the training split and the hours of the day, a standard deviation is known to
within a few per cent, which is all that a unit needs."""
_PIECE_BYTES = 2**22


def with_longer_steps(store: Store, time_steps: Sequence[int]) -> Store:
    """The store, whose statistics then hold the standard deviation of changes over these steps, in rows, too.

    Raises:
      DataError: no training segment is as long as a step.
    """
    if not time_steps:
        return store
    stds = [changes(store, step).std.astype(np.float32) for step in time_steps]
    return replace(store, statistics=replace(store.statistics, longer_tendency_std=np.stack(stds)))


def changes(store: Store, step: int, matrix: np.ndarray | None = None) -> Moments:
    """Moments of the changes over so many rows, of the state channels or of what a matrix makes of them.

    Raises:
      DataError: no training segment is as long as that.
    """
    starts = store.windows("train", step + 1)
    chosen = starts[clock.sample(store.times[starts], _WINDOWS)]
    pairs = _states_of(store, chosen, step)
    differences = (after - before if matrix is None else (after - before) @ matrix for before, after in pairs)
    n_channels = len(store.spec.state_channels) if matrix is None else matrix.shape[1]
    return sum_moments((Moments.of(d, store.grid.latitude_weights) for d in differences), n_channels)


def _states_of(store: Store, rows: np.ndarray, step: int) -> Iterator[np.ndarray]:
    """States of every row and of the one a step later, ``(2, latitude, longitude, state)``; many are read at once."""
    at_once = max(1, _PIECE_BYTES // (8 * math.prod(store.state.shape[1:])))
    for first in range(0, rows.size, at_once):
        yield from store.take_states(rows[first : first + at_once, None] + np.array([0, step]))
