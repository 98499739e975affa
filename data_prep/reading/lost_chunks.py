"""Chunk files that a copy of a Zarr store lacks: where nothing declares what is missing, they read as zeros."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

import numpy as np

_METADATA = re.compile(r"\..*|zarr\.json")


def lost_chunks(
    folder: Path, name: str, sizes: tuple[int, ...], axis: int, missing: np.ndarray
) -> tuple[int, np.ndarray] | None:
    """How many chunk files an array lacks that would read as a number, and which rows they are of.

    Args:
      folder: The store, on this machine.
      name: The array.
      sizes: What the array is taken to have along its dimensions, but for those of one.
      axis: Which of these its rows run along.
      missing: What its attributes declare as missing; what a lost chunk reads as need not be among that.

    Returns:
      ``None`` where nothing is lost, what is lost reads as NaN, or the array is not as it is taken to be.
    """
    import zarr  # slow to import

    array = zarr.open_group(str(folder), mode="r", use_consolidated=False)[name]
    if not isinstance(array, zarr.Array):
        return None
    read_as = np.asarray(array.fill_value or 0)
    if np.isnan(read_as) or (missing == read_as).any():
        return None
    longer = [i for i, size in enumerate(array.shape) if size > 1]
    if tuple(array.shape[i] for i in longer) != sizes:
        return None
    chunks = array.shards or array.chunks
    counts = [-(-size // chunk) for size, chunk in zip(array.shape, chunks, strict=True)]
    along, there = longer[axis], Counter(key[longer[axis]] for key in _keys(folder / name) if len(key) == len(counts))
    expected = int(np.prod(counts)) // counts[along]
    lacking = np.array([max(expected - there[number], 0) for number in range(counts[along])])
    return (int(lacking.sum()), np.repeat(lacking > 0, chunks[along])[: array.shape[along]]) if lacking.any() else None


def _keys(folder: Path) -> list[tuple[int, ...]]:
    """Places of the chunks whose files lie below a folder, in one folder or nested, of either version of the format."""
    found = []
    for parent, _, files in os.walk(folder):
        inside = Path(parent).relative_to(folder).parts
        for file in files:
            if not _METADATA.fullmatch(file):
                parts = [part for part in re.split(r"[./]", "/".join([*inside, file])) if part != "c"]
                if all(part.isdecimal() for part in parts):
                    found.append(tuple(map(int, parts)))
    return found
