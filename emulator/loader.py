"""Shuffled training windows from a store, in an order that is arithmetic: (seed, step) says which windows make a batch.

There is no loader state to save. Epoch ``e`` is the permutation drawn from ``(seed, e)``; batches are cut from the
endless row of epochs, so every window comes exactly once an epoch, and a run that goes on at step ``s`` sees what it
would have seen. With several processes each reads the windows that its own devices need (``load_batch``).
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from jaxtyping import Array, Float

from data_prep.store import Store
from emulator.devices import Layout

T = TypeVar("T")

PREFETCHED = 2
"""Batches that are kept ready."""

_LENGTH_STREAM = 1  # sets the draws of lengths apart from those of epochs


class Batch(NamedTuple):
    """Windows of truth for a rollout; a pytree. Times stay outside jit.

    Attributes:
      state: Physical units; the first time is the initial one.
      forcing: Physical units, at the valid time of every step: one time fewer than ``state``. Persisted forcings keep
        their value of the initial time, as in a forecast.
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

    def rows(self, step: int) -> np.ndarray:
        """First rows of the windows in batch ``step``, ``(batch,)``."""
        n = self.starts.size
        positions = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        epochs = positions // n
        order = {int(e): _permutation(self.seed, int(e), n) for e in np.unique(epochs)}
        return np.array([self.starts[order[int(p // n)][p % n]] for p in positions])

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


@lru_cache(maxsize=4)
def _permutation(seed: tuple[int, ...], epoch: int, n: int) -> np.ndarray:
    return np.random.default_rng([*seed, epoch]).permutation(n)


def read_batch(store: Store, rows: np.ndarray, steps: int) -> Batch:
    """The windows that start at these rows, as arrays on the host.

    Args:
      store: The data.
      rows: First rows, ``(batch,)``; each window must lie within one segment.
      steps: Model steps of each window.
    """
    state = np.stack([store.read_state(row, row + steps + 1) for row in rows.tolist()])
    persisted = np.concatenate([store.read_persisted(row, row + 1) for row in rows.tolist()])
    valid = store.times[rows[:, None] + np.arange(1, steps + 1)]
    forcing = store.forcing_builder.at(valid.ravel(), np.repeat(persisted, steps, axis=0))
    return Batch(state, forcing.reshape(rows.size, steps, *forcing.shape[1:]))


def load_batch(store: Store, rows: np.ndarray, steps: int, layout: Layout) -> Batch:
    """As ``read_batch``, on the devices; this process reads what its own devices hold."""
    here = layout.windows_here(rows.size)
    part = read_batch(store, rows[here], steps)
    return Batch(*(layout.place_windows(here, np.asarray(array), rows.size) for array in part))


class _Failure(Generic[T]):
    def __init__(self, error: BaseException) -> None:
        self.error = error


def prefetch(make: Callable[[int], T], steps: Iterable[int], depth: int = PREFETCHED) -> Generator[T, None, None]:
    """``make(step)`` for every step, made ahead in a thread.

    Args:
      make: Makes what a step needs, on the device; what it raises is raised here.
      steps: In order.
      depth: How many are kept ready.
    """
    ready: queue.Queue[T | _Failure[T]] = queue.Queue(depth)
    closed = threading.Event()

    def put(item: T | _Failure[T]) -> None:
        while not closed.is_set():
            try:
                ready.put(item, timeout=0.1)
                return
            except queue.Full:
                continue

    def work() -> None:
        try:
            for step in steps:
                if closed.is_set():
                    return
                put(make(step))
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits, which raises it
            put(_Failure(error))
        else:
            put(_Failure(StopIteration()))

    thread = threading.Thread(target=work, name="prefetch", daemon=True)
    thread.start()
    try:
        while True:
            item = ready.get()
            if not isinstance(item, _Failure):
                yield item
            elif isinstance(item.error, StopIteration):
                return
            else:
                raise item.error
    finally:
        closed.set()
        thread.join()
