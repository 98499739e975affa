"""Shuffled training windows from a store, in an order that is arithmetic: (seed, step) says which windows make a batch.

grain shuffles, reads ahead and keeps the order. Its shuffled, endlessly repeated windows can be asked for at any place,
so a batch is a function of seed and step and there is no loader state to save: a run that goes on at step ``s`` asks
for batch ``s``. Every window comes exactly once an epoch. With several processes each reads the windows that its own
devices need, of the same batches (``load_batch``).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import grain
import jax
import numpy as np
from jaxtyping import Array, Float, Int

from data_prep.preparation.store import Store
from emulator.hardware.machine import cores
from emulator.training.devices import Layout

if TYPE_CHECKING:
    from emulator.training.on_devices import OnDevices

_READERS = min(8, max(2, cores() // 2))  # threads: reading and decompressing are done without the interpreter's lock
_AHEAD_BYTES = 2 * 2**30  # on every device, of more than two batches

_LENGTH_STREAM, _TIME_STEP_STREAM = 1, 2  # set the draws of either apart from the shuffling


class Shape(NamedTuple):
    """What a step of the optimiser is compiled for.

    Attributes:
      windows: In a batch.
      steps: Model steps of each window that the loss counts.
      free: Model steps before them, without a gradient.
    """

    windows: int
    steps: int
    free: int = 0

    @property
    def model_steps(self) -> float:
        """By what a window costs: those without a gradient take a third of the arithmetic."""
        return self.steps + self.free / 3


class Batch(NamedTuple):
    """Windows of truth for a rollout; a pytree. Times stay outside jit.

    Attributes:
      state: Physical units; the first time is the initial one, the others are those that the loss counts.
      forcing: Physical units, at the valid time of every step. Persisted forcings keep their value of the initial time,
        as in a forecast; lateral ones are those of the valid time.
      which: How long the steps of each window are, by their place in the network's ``time_steps``.
    """

    state: Float[Array | np.ndarray, "batch time lat lon state"]
    forcing: Float[Array | np.ndarray, "batch steps lat lon forcing"]
    which: Int[Array | np.ndarray, " batch"]

    @property
    def free(self) -> int:
        """Steps before the first that the loss counts."""
        return self.forcing.shape[1] - (self.state.shape[1] - 1)


@dataclass(frozen=True)
class Windows:
    """The windows of one split that a rollout of some length needs, in shuffled batches.

    Attributes:
      store: The data.
      starts: First rows of all windows, ``(window,)``.
      longest: Of a batch, and if ``random_length`` the longest.
      seed: Of the shuffling, any number of integers.
      random_length: Whether every batch draws its own number of model steps.
      time_steps: The lengths of step that the network can take, in rows.
      drawn: Those of them, by place, from which every window draws its own.
    """

    store: Store
    starts: np.ndarray
    longest: Shape
    seed: tuple[int, ...]
    random_length: bool = False
    time_steps: tuple[int, ...] = (1,)
    drawn: tuple[int, ...] = (0,)

    @property
    def shapes(self) -> list[Shape]:
        """What batches there may be."""
        windows, steps, free = self.longest
        if not self.random_length:
            return [self.longest]
        return [Shape(windows, n, m) for n in range(1, steps + 1) for m in range(free + 1)]

    @property
    def mean_model_steps(self) -> float:
        """Of all shapes, which are drawn alike."""
        return statistics.mean(shape.model_steps for shape in self.shapes)

    @cached_property
    def _shuffled(self) -> grain.MapDataset[np.ndarray]:
        """First rows of the windows of every batch, epoch after epoch without end."""
        seed = int(np.random.SeedSequence(self.seed).generate_state(1)[0])
        return grain.MapDataset.source(self.starts).seed(seed).shuffle().repeat().batch(self.longest.windows)

    def rows(self, step: int) -> np.ndarray:
        """First rows of the windows in batch ``step``, ``(batch,)``."""
        return self._shuffled[step]

    def shape(self, step: int) -> Shape:
        """Of batch ``step``.

        Drawn alike from all there are, errors of all leads are learned from throughout, and a batch costs half as much
        on average.
        """
        if not self.random_length:
            return self.longest
        draw, longest = np.random.default_rng([*self.seed, step, _LENGTH_STREAM]), self.longest
        steps = int(draw.integers(1, longest.steps + 1))
        return longest._replace(steps=steps, free=int(draw.integers(longest.free + 1)))

    def which(self, step: int) -> np.ndarray:
        """How long the steps of every window in batch ``step`` are, by their place in ``time_steps``, ``(batch,)``."""
        draw = np.random.default_rng([*self.seed, step, _TIME_STEP_STREAM]).integers(
            len(self.drawn), size=self.longest.windows
        )
        return np.asarray(self.drawn, np.int32)[draw]

    def times(self, step: int) -> np.ndarray:
        """Initial times of batch ``step``, ``datetime64[ns] (batch,)``."""
        return self.store.times[self.rows(step)]

    def read_ahead(self, layout: Layout) -> int:
        """Batches that are being read or kept ready, each by a thread of its own."""
        return batches_ahead(self.store, self.longest, layout)

    def batch(self, step: int, layout: Layout, held: OnDevices | None = None) -> Batch:
        """Batch ``step`` on the devices, made of what they hold, if anything."""
        _, steps, free = self.shape(step)
        return load_batch(self.store, self.rows(step), steps, layout, self.which(step), self.time_steps, free, held)

    def batches(
        self, steps: Iterable[int], layout: Layout, held: OnDevices | None = None
    ) -> grain.DatasetIterator[Batch]:
        """Those batches in order, read ahead; what a worker raises is raised here. To be closed."""
        ahead = self.read_ahead(layout)
        reading = grain.ReadOptions(num_threads=ahead, prefetch_buffer_size=ahead)
        asked = grain.MapDataset.source(list(steps)).map(lambda step: self.batch(step, layout, held))
        return iter(asked.to_iter_dataset(reading))


def batch_shapes(store: Store, shape: Shape) -> tuple[tuple[int, ...], ...]:
    """Shapes of the arrays of such a ``Batch``."""
    (size, steps, free), place = shape, store.grid.shape
    state, forcing = len(store.spec.state_channels), len(store.spec.forcing_channels)
    return (size, 1 + steps, *place, state), (size, free + steps, *place, forcing), (size,)


def batches_ahead(store: Store, shape: Shape, layout: Layout) -> int:
    """How many such batches are read ahead: as many as there are threads, of large ones two, for all lie on devices."""
    n_bytes = 4 * sum(math.prod(array) for array in batch_shapes(store, shape))
    return max(2, min(_READERS, _AHEAD_BYTES * layout.mesh.size // n_bytes))


def read_batch(
    store: Store,
    rows: np.ndarray,
    steps: int,
    which: np.ndarray | None = None,
    time_steps: Sequence[int] = (1,),
    free: int = 0,
    held: OnDevices | None = None,
) -> Batch:
    """The windows that start at these rows, as arrays on the host.

    Args:
      store: The data.
      rows: First rows, ``(batch,)``; each window must lie within one segment.
      steps: Model steps of each window that the loss counts.
      which: How long the steps of each window are, by their place in ``time_steps``; by default the first.
      time_steps: Lengths of steps, in rows.
      free: Model steps before them.
      held: What is on the devices already: states that are among it stay there.
    """
    which = np.zeros(rows.size, np.int32) if which is None else which
    strides = np.asarray(time_steps)[which]
    for row, stride in zip(rows.tolist(), strides.tolist(), strict=True):
        store.segment_of(row, row + (free + steps) * stride + 1)
    valid = rows[:, None] + strides[:, None] * np.arange(1, free + steps + 1)
    needed = np.concatenate([rows[:, None], valid[:, free:]], axis=1)
    forcing = store.forcing_builder.at(store.times[valid.ravel()], _given(store, rows, valid))
    there = None if held is None else held.take(needed)
    state = store.take_states(needed) if there is None else there
    return Batch(state, forcing.reshape(*valid.shape, *forcing.shape[1:]), which)


def _given(store: Store, rows: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Persisted forcings at initial time and lateral ones at valid time, ``(window * step, lat, lon, given)``."""
    initial = np.repeat(store.take_persisted(rows), valid.shape[1], axis=0)
    lateral = store.forcing_builder.is_lateral
    return np.where(lateral, store.take_persisted(valid.ravel()), initial) if lateral.any() else initial


def load_batch(
    store: Store,
    rows: np.ndarray,
    steps: int,
    layout: Layout,
    which: np.ndarray | None = None,
    time_steps: Sequence[int] = (1,),
    free: int = 0,
    held: OnDevices | None = None,
) -> Batch:
    """As ``read_batch``, on the devices; this process reads what its own devices hold."""
    here = layout.windows_here(rows.size)
    part = read_batch(store, rows[here], steps, None if which is None else which[here], time_steps, free, held)
    return Batch(
        *(x if isinstance(x, jax.Array) else layout.place_windows(here, np.asarray(x), rows.size) for x in part)
    )
