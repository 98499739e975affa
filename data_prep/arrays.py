"""What large data are read from, wherever they lie."""

from __future__ import annotations

from typing import Any, Protocol


class ArrayLike(Protocol):
    """A Zarr array on disk, or a NumPy array in memory."""

    @property
    def shape(self) -> tuple[int, ...]: ...  # noqa: D102

    def __getitem__(self, key: Any) -> Any: ...
