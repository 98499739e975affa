"""Arrays of a store on disk, many rows at a time, read into memory that a device can use where it lies.

zarr makes the arrays and TensorStore fills and reads them. It decodes the chunks of one call side by side and outside
the interpreter's lock; zarr's own reader takes longer to arrange the reading of a row than to decode it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from data_prep.files.arrays import ArrayLike

_ALIGNMENT = 64
"""Bytes. XLA takes over a host array that begins at a multiple of them on a CPU, and copies any other."""


@dataclass(frozen=True, eq=False)
class StoredRows:
    """A Zarr array on disk; a chunk that is missing is an error and no field of zeros."""

    _array: Any = field(repr=False)  # a tensorstore.TensorStore

    @classmethod
    def open(cls, path: Path, *, write: bool = False) -> Self:
        """Opens the array in a folder; what is written is left to the system to bring to the disk, as zarr does."""
        import tensorstore  # slow to import, and only who reads rows needs it

        spec = {
            "driver": "zarr3",
            "kvstore": {"driver": "file", "path": f"{path.resolve()}/"},  # it takes no ".."
            "fill_missing_data_reads": False,
            "store_data_equal_to_fill_value": True,
            "context": {"file_io_sync": False},
        }
        return cls(tensorstore.open(spec, open=True, read=True, write=write).result())

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array."""
        return tuple(self._array.shape)

    def __getitem__(self, key: Any) -> np.ndarray:
        """``read`` of rows by number or slice too."""
        return self.read(np.asarray(np.arange(self.shape[0])[key]))

    def read(self, rows: np.ndarray, latitudes: slice = slice(None)) -> np.ndarray:
        """Rows by an integer array of any shape, ``(*rows.shape, latitude, ...)``.

        Raises:
          ValueError: a chunk is missing or cannot be decoded.
        """
        import tensorstore

        asked = self._array[rows, latitudes]
        out = _aligned_empty(tuple(asked.shape), self._array.dtype.numpy_dtype)
        if out.size:
            tensorstore.array(out).write(asked).result()
        return out

    def write(self, start: int, values: np.ndarray) -> None:
        """Puts rows from ``start`` on in place."""
        if values.size:
            self._array[start : start + len(values)].write(values).result()


def take(array: ArrayLike, rows: np.ndarray) -> np.ndarray:
    """Rows of an array wherever it lies, ``(*rows.shape, *array.shape[1:])``; they must exist."""
    if not isinstance(array, np.ndarray):
        return np.asarray(array[rows])
    out = _aligned_empty((*rows.shape, *array.shape[1:]), array.dtype)
    return np.take(array, rows, axis=0, out=out, mode="clip")  # the other modes copy twice


def _aligned_empty(shape: tuple[int, ...], dtype: np.dtype | type) -> np.ndarray:
    """An array of arbitrary values that a device on the host can take over without copying it."""
    n_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.empty(n_bytes + _ALIGNMENT, np.uint8)
    first = -memory.ctypes.data % _ALIGNMENT
    return memory[first : first + n_bytes].view(dtype).reshape(shape)
