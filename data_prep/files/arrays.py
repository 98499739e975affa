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


def spread(count: int, most: int) -> np.ndarray:
    """Which of ``count`` rows to take for at most ``most`` of them, evenly from the first to the last, int64."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(np.int64)


def unbroken_runs(rows: np.ndarray) -> list[np.ndarray]:
    """Integers cut wherever one does not follow the one before; no run of no rows."""
    return np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1) if rows.size else []
