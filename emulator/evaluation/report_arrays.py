"""Arrays as text within a page: base 64 with shape and type, of no more digits than are shown."""

from __future__ import annotations

import base64
from typing import Any

import matplotlib as mpl
import numpy as np

_LARGEST_HALF = 6e4
_SMALLEST_HALF = 6e-5  # of full precision


def colours(name: str) -> dict[str, Any]:
    """255 colours of a matplotlib colour map as red, green, blue, in the order of quantised fields."""
    return octets((mpl.colormaps[name](np.linspace(0, 1, 255))[:, :3] * 255).round().astype(np.uint8))


def packed(value: Any) -> Any:
    """An array in the type it has been given, anything else as it is."""
    if not isinstance(value, np.ndarray):
        return value
    return octets(value) if value.dtype == np.uint8 else floats(value)


def floats(array: np.ndarray) -> dict[str, Any]:
    """Single precision; what exceeds its range, as the far end of an interval may, is infinite."""
    with np.errstate(over="ignore"):
        return _encoded(array, "<f4")


def halves(array: np.ndarray) -> dict[str, Any]:
    """Three digits: half precision where its range suffices; less of what is below 6e-5."""
    largest = np.abs(array[np.isfinite(array)]).max(initial=0.0)
    return _encoded(array, "<f2") if largest < _LARGEST_HALF else floats(array)


def are_small(array: np.ndarray) -> bool:
    """Whether so many are below the range of half precision that ``halves`` would not do."""
    sizes = np.abs(array[np.isfinite(array) & (array != 0)])
    return np.count_nonzero(sizes < _SMALLEST_HALF) > sizes.size // 10


def octets(array: np.ndarray) -> dict[str, Any]:
    """Whole numbers from 0 to 255."""
    return _encoded(array, "u1")


def _encoded(array: np.ndarray, dtype: str) -> dict[str, Any]:
    """An array as text: little-endian bytes in base 64, with shape and type.

    All first bytes come first, then all second ones: so bytes of signs and exponents stand side by side and compress.
    """
    values = np.ascontiguousarray(array, dtype)
    shuffled = np.frombuffer(values.tobytes(), np.uint8).reshape(-1, values.itemsize).T
    data = base64.b64encode(shuffled.tobytes()).decode()
    return {"type": dtype.removeprefix("<"), "shape": list(array.shape), "data": data}
