"""How much the truth changes over the longer of a network's time steps: the unit of its answers for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from data_prep.statistics import Moments, sum_moments
from data_prep.store import Store

_WINDOWS = 256
"""From so many windows, evenly spread over the training split, a standard deviation is known to within a few per cent,
which is all that a unit needs."""


def with_longer_steps(store: Store, time_steps: Sequence[int]) -> Store:
    """The store, whose statistics then hold the standard deviation of changes over these steps, in rows, too.

    Raises:
      DataError: no training segment is as long as a step.
    """
    if not time_steps:
        return store
    stds = [_changes(store, step).std.astype(np.float32) for step in time_steps]
    return replace(store, statistics=replace(store.statistics, longer_tendency_std=np.stack(stds)))


def _changes(store: Store, step: int) -> Moments:
    starts = store.windows("train", step + 1)
    chosen = starts[np.linspace(0, starts.size - 1, min(_WINDOWS, starts.size)).round().astype(np.int64)]
    pairs = (store.take_states(np.array([row, row + step])) for row in chosen.tolist())
    changes = (Moments.of(after - before, store.grid.latitude_weights) for before, after in pairs)
    return sum_moments(changes, len(store.spec.state_channels))
