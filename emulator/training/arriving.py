"""An array that is read in the background, while other things are made ready."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from data_prep.files.arrays import ArrayLike
from data_prep.preparation.rows import take


class Arriving:
    """Looks like the array it reads; who asks for values waits until all are there."""

    def __init__(self, source: ArrayLike) -> None:
        """Begins to read."""
        self._source = source
        executor = ThreadPoolExecutor(1)
        self._values = executor.submit(lambda: np.asarray(source[:]))
        executor.shutdown(wait=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """Known from the start."""
        return self._source.shape

    def __getitem__(self, key: Any) -> Any:
        # what could not be read whole is read in parts, which shows where it is damaged
        array = self._source if self._values.exception() else self._values.result()
        return take(array, key) if isinstance(key, np.ndarray) else array[key]
