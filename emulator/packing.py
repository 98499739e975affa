"""Small forms of what is shipped in the repository: sixteen bits a number where sixteen bits are enough."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

_STEPS = 2**16 - 1


def pack_table(table: np.ndarray) -> dict[str, np.ndarray]:
    """A forcing table by day of year, in as little as its slow changes need once the bytes are compressed.

    Each channel is rounded to 65 536 steps between its extremes (0.0008 K of a range of 50 K), and of every day but
    the first the change from the day before is kept, which is near zero.

    Args:
      table: Float32 ``(day, latitude, longitude, channel)``.

    Returns:
      ``change`` int16 ``(channel, day, latitude, longitude)``, modulo 2^16; ``lowest`` and ``step`` ``(channel,)``.
    """
    lowest = table.min(axis=(0, 1, 2))
    step = np.maximum(table.max(axis=(0, 1, 2)) - lowest, np.finfo(np.float32).tiny) / _STEPS
    counts = np.rint((table - lowest) / step).astype(np.int64)
    change = np.diff(counts, axis=0, prepend=0) % (_STEPS + 1)
    by_channel = np.ascontiguousarray(np.moveaxis(change, -1, 0)).astype(np.uint16)
    return {"change": by_channel.view(np.int16), "lowest": lowest, "step": step}


def unpack_table(packed: Mapping[str, np.ndarray]) -> np.ndarray:
    """Inverse of ``pack_table``, within half a step."""
    counts = np.cumsum(packed["change"].view(np.uint16), axis=1, dtype=np.int64) % (_STEPS + 1)
    return (packed["lowest"] + np.moveaxis(counts, 0, -1) * packed["step"]).astype(np.float32)
