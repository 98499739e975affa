"""What large data are read from, wherever they lie, and where in them something is."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np


class ArrayLike(Protocol):
    """A Zarr array on disk, or a NumPy array in memory."""

    @property
    def shape(self) -> tuple[int, ...]: ...  # noqa: D102

    def __getitem__(self, key: Any) -> Any: ...


def rows_at(have: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where ``have``, in any order, holds the values that are wanted; and those of them that it lacks.

    The row of what is lacking means nothing.
    """
    order = np.argsort(have)
    rows = order[np.searchsorted(have, wanted, sorter=order).clip(max=have.size - 1)]
    return rows, wanted[have[rows] != wanted]
