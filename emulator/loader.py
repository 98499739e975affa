"""Shuffled training windows from a store, in an order that is arithmetic: (seed, step) says which windows make a batch.

grain shuffles, reads ahead and keeps the order. Its shuffled, endlessly repeated windows can be asked for at any place,
so a batch is a function of seed and step and there is no loader state to save: a run that goes on at step ``s`` asks
for batch ``s``. Every window comes exactly once an epoch. With several processes each reads the windows that its own
devices need, of the same batches (``load_batch``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import grain
import numpy as np
from jaxtyping import Array, Float

from data_prep.store import Store
from emulator.devices import Layout

PREFETCHED = 2
"""Batches that are being read or kept ready, each by a worker of its own: a thread, since most of the work, reading and
decompressing, is done without the interpreter's lock."""

_LENGTH_STREAM = 1  # sets the draws of lengths apart from the shuffling


class Batch(NamedTuple):
    """Windows of truth for a rollout; a pytree. Times stay outside jit.

    Attributes:
      state: Physical units; the first time is the initial one.
      forcing: Physical units, at the valid time of every step: one time fewer than ``state``. Persisted forcings keep
        their value of the initial time, as in a forecast; lateral ones are those of the valid time.
    """

    state: Float[Array | np.ndarray, "batch time lat lon state"]
    forcing: Float[Array | np.ndarray, "batch steps lat lon forcing"]


@dataclass(frozen=True)
class Windows:
    """The windows of one split that a rollout of some length needs, in shuffled batches.

    Attributes:
      store: The data.
      starts: First rows of all windows, ``(window,)``.
      steps: Model steps of a window, the most if ``random_length``.
      batch_size: Windows in a batch.
      seed: Of the shuffling, any number of integers.
      random_length: Whether every batch draws its own number of model steps.
    """

    store: Store
    starts: np.ndarray
    steps: int
    batch_size: int
    seed: tuple[int, ...]
    random_length: bool = False

    @cached_property
    def _shuffled(self) -> grain.MapDataset[np.ndarray]:
        """First rows of the windows of every batch, epoch after epoch without end."""
        seed = int(np.random.SeedSequence(self.seed).generate_state(1)[0])
        return grain.MapDataset.source(self.starts).seed(seed).shuffle().repeat().batch(self.batch_size)

    def rows(self, step: int) -> np.ndarray:
        """First rows of the windows in batch ``step``, ``(batch,)``."""
        return self._shuffled[step]

    def length(self, step: int) -> int:
        """Model steps of batch ``step``.

        The time step is the network's own, so what can be drawn is how many of them a rollout takes: uniform from 1
        to ``steps``. Errors of all leads are then learned from throughout, and a batch costs half as much on average.
        """
        if not self.random_length:
            return self.steps
        return int(np.random.default_rng([*self.seed, step, _LENGTH_STREAM]).integers(1, self.steps + 1))

    def times(self, step: int) -> np.ndarray:
        """Initial times of batch ``step``, ``datetime64[ns] (batch,)``."""
        return self.store.times[self.rows(step)]

    def batch(self, step: int, layout: Layout) -> Batch:
        """Batch ``step`` on the devices."""
        return load_batch(self.store, self.rows(step), self.length(step), layout)

    def batches(self, steps: Iterable[int], layout: Layout) -> grain.DatasetIterator[Batch]:
        """Those batches in order, read ahead; what a worker raises is raised here. To be closed."""
        reading = grain.ReadOptions(num_threads=PREFETCHED, prefetch_buffer_size=PREFETCHED)
        asked = grain.MapDataset.source(list(steps)).map(lambda step: self.batch(step, layout))
        return iter(asked.to_iter_dataset(reading))


def read_batch(store: Store, rows: np.ndarray, steps: int) -> Batch:
    """The windows that start at these rows, as arrays on the host.

    Args:
      store: The data.
      rows: First rows, ``(batch,)``; each window must lie within one segment.
      steps: Model steps of each window.
    """
    for row in rows.tolist():
        store.segment_of(row, row + steps + 1)
    state = store.take_states(rows[:, None] + np.arange(steps + 1))
    valid = rows[:, None] + np.arange(1, steps + 1)
    forcing = store.forcing_builder.at(store.times[valid.ravel()], _given(store, rows, valid))
    return Batch(state, forcing.reshape(*valid.shape, *forcing.shape[1:]))


def _given(store: Store, rows: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Persisted forcings at initial time and lateral ones at valid time, ``(window * step, lat, lon, given)``."""
    initial = np.repeat(store.take_persisted(rows), valid.shape[1], axis=0)
    lateral = store.forcing_builder.is_lateral
    return np.where(lateral, store.take_persisted(valid.ravel()), initial) if lateral.any() else initial


def load_batch(store: Store, rows: np.ndarray, steps: int, layout: Layout) -> Batch:
    """As ``read_batch``, on the devices; this process reads what its own devices hold."""
    here = layout.windows_here(rows.size)
    part = read_batch(store, rows[here], steps)
    return Batch(*(layout.place_windows(here, np.asarray(array), rows.size) for array in part))
