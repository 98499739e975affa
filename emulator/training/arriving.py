"""An array that is read in the background, while other things are made ready."""

from __future__ import annotations

import math
import threading
from contextlib import suppress
from typing import Any

import numpy as np

from data_prep.files.arrays import ArrayLike
from data_prep.preparation.rows import take

_PIECE_BYTES = 2**28


class Arriving:
    """Looks like the array of numbers in single precision that it reads; until all is there, asks that array."""

    def __init__(self, source: ArrayLike) -> None:
        """Begins to read. A process that ends meanwhile does not wait for it."""
        self._source = source
        self._values: np.ndarray | None = None
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        values = np.empty(self.shape, np.float32)
        rows = max(1, _PIECE_BYTES // max(1, 4 * math.prod(self.shape[1:])))
        with suppress(Exception):  # what cannot be read is asked for again by who needs it, and shows what is wrong
            for first in range(0, len(values), rows):
                if not threading.main_thread().is_alive():
                    return
                values[first : first + rows] = self._source[first : first + rows]
            self._values = values

    def wait(self, seconds: float | None = None) -> bool:
        """Until all of it is there or cannot be read, or for so long; whether either has come."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    @property
    def in_memory(self) -> bool:
        """Whether all of it is there."""
        return self._values is not None

    @property
    def shape(self) -> tuple[int, ...]:
        """Known from the start."""
        return self._source.shape

    def __getitem__(self, key: Any) -> Any:
        array = self._source if self._values is None else self._values
        return take(array, key) if isinstance(key, np.ndarray) else array[key]
