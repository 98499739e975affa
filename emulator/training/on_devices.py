"""The states that training learns from, in the memory of accelerators where they fit beside everything else.

An accelerator takes a batch out of its own memory in a fraction of a step. The host would copy it together and send it,
which for fields of weather takes longer than the step itself.
"""

from __future__ import annotations

import logging
import threading
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int

from data_prep.errors import DataError, one_line
from data_prep.preparation.store import Store
from emulator.hardware.machine import device_memory
from emulator.training.arriving import Arriving
from emulator.training.budget import TIGHT, amount
from emulator.training.devices import DATA_AXIS, LATITUDE_AXIS, WINDOWS, Layout

logger = logging.getLogger(__name__)

_PIECE_BYTES = 2**28
_LOOK_SECONDS = 0.2
_BY_LATITUDE = P(None, LATITUDE_AXIS)


class OnDevices:
    """The states of the training split; until all of them are there, and where they do not fit, none."""

    def __init__(self, store: Store, layout: Layout) -> None:
        """Takes nothing yet."""
        self._store, self._layout = store, layout
        rows = store.rows_of("train")
        self._first, self._stop = int(rows.min()), int(rows.max()) + 1
        self._states: jax.Array | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    @property
    def n_bytes(self) -> int:
        """Of every device's memory."""
        return 4 * (self._stop - self._first) * int(np.prod(self._store.state.shape[1:])) // self._layout.bands

    def begin_beside(self, needed: int) -> None:
        """Begins to fill the devices if they have room beside what training needs of each.

        A CPU's memory is the host's. Several processes, whose devices must be told the same in the same order, take
        their batches from the host.
        """
        known = device_memory()
        if self._layout.mesh.local_devices[0].platform == "cpu" or jax.process_count() > 1 or known is None:
            return
        if needed + self.n_bytes <= TIGHT * known[1]:
            logger.info("train: the data, %s, are brought to the devices", amount(self.n_bytes))
            self.begin()

    def begin(self) -> None:
        """Begins to fill them, in the background. A process that ends meanwhile does not wait for it."""
        self._thread = threading.Thread(target=self._fill)
        self._thread.start()

    def wait(self) -> None:
        """Until all are there, or it is known that they will not be."""
        if self._thread is not None:
            self._thread.join()

    def close(self) -> None:
        """Gives the memory back."""
        self._closed = True
        self.wait()
        self._states = None

    def take(self, rows: np.ndarray) -> Float[Array, "batch time lat lon state"] | None:
        """States of training rows ``(batch, time)``, as a batch has them; ``None`` where they are not there."""
        if (states := self._states) is None:
            return None
        places = np.asarray(rows - self._first, np.int32)
        return _gather(states, jax.device_put(places, self._layout.sharding(P(DATA_AXIS))), self._layout)

    @property
    def _is_over(self) -> bool:
        return self._closed or not threading.main_thread().is_alive()

    def _fill(self) -> None:
        source = self._store.state
        while isinstance(source, Arriving) and not source.wait(_LOOK_SECONDS):  # it reads the same files
            if self._is_over:
                return
        sharding = self._layout.sharding(_BY_LATITUDE)
        shape = (self._stop - self._first, *source.shape[1:])
        piece = max(1, _PIECE_BYTES // (4 * int(np.prod(shape[1:]))))
        try:
            states = jax.jit(partial(jnp.zeros, shape, jnp.float32), out_shardings=sharding)()
            for first in range(0, shape[0], piece):
                if self._is_over:
                    return
                rows = np.arange(first, min(first + piece, shape[0]))
                values = self._layout.place(self._store.take_states(self._first + rows), _BY_LATITUDE)
                states = _put(states, values, np.int32(first))
            self._states = jax.block_until_ready(states)
        except (DataError, OSError, RuntimeError, ValueError) as error:  # who needs what cannot be read meets it again
            logger.warning("train: the data stay with the host: %s", one_line(error))


@partial(jax.jit, donate_argnums=0)
def _put(
    states: Float[Array, "row lat lon state"], piece: Float[Array, "some lat lon state"], first: Int[Array, ""]
) -> Float[Array, "row lat lon state"]:
    return jax.lax.dynamic_update_slice_in_dim(states, piece, first, axis=0)


@partial(jax.jit, static_argnums=2)
def _gather(
    states: Float[Array, "row lat lon state"], rows: Int[Array, "batch time"], layout: Layout
) -> Float[Array, "batch time lat lon state"]:
    take = partial(jnp.take, axis=0, mode="clip")
    specs = (_BY_LATITUDE, P(DATA_AXIS))
    return jax.shard_map(take, mesh=layout.mesh, in_specs=specs, out_specs=WINDOWS)(states, rows)
