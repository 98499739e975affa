"""Writes a prepared store, in any order and by several workers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Self

import numpy as np
import zarr
from zarr.codecs import BloscCodec

from data_prep.files.disk import write_text
from data_prep.forcing import ForcingBuilder
from data_prep.grid import Grid
from data_prep.preparation.climatology import Climatology
from data_prep.preparation.rows import StoredRows
from data_prep.preparation.statistics import Statistics
from data_prep.preparation.store import (
    DIGEST_BYTES,
    FORMAT_VERSION,
    Segment,
    data_hash_of,
    read_group,
    row_bytes,
    row_digest,
)
from data_prep.reading.locations import MANIFEST
from data_prep.spec import StateSpec

_CHUNK_BYTES = 2**18
_LARGEST_CHUNK_BYTES = 2**23
_COMPRESSOR = BloscCodec(cname="lz4", clevel=3, shuffle="shuffle")


def chunk_rows(spec: StateSpec, grid: Grid) -> int:
    """Rows of a chunk: one, or as many small ones as make 256 KiB, since each chunk is a file."""
    return max(1, _CHUNK_BYTES // row_bytes(spec, grid))


def chunk_latitudes(spec: StateSpec, grid: Grid) -> int:
    """Latitudes of a chunk: all, or as many as make 8 MiB."""
    latitudes = grid.shape[0]
    return max(1, min(latitudes, _LARGEST_CHUNK_BYTES * latitudes // row_bytes(spec, grid)))


class StoreWriter:
    """Writes a store in place, rows in any order and again if need be; ``finish`` adds the manifest that makes it one.

    Who writes in blocks that end at multiples of ``chunk_rows`` never touches a chunk of
    the state twice, so a write that a kill cuts off spoils nothing that was written before.
    A folder without its manifest is no store, so an interrupted one is never taken for whole.
    """

    def __init__(self, path: Path) -> None:
        """Opens a folder made by ``create`` for writing rows."""
        self.path = path
        self._group = zarr.open_group(path, mode="r+")

    @cached_property
    def state(self) -> StoredRows:
        """States, to be read and written."""
        return StoredRows.open(self.path / "state", write=True)

    @cached_property
    def _persisted(self) -> StoredRows:
        return StoredRows.open(self.path / "persisted", write=True)

    @classmethod
    def create(cls, path: Path, spec: StateSpec, grid: Grid, times: np.ndarray) -> Self:
        """Makes an empty store for these times; replaces what is there."""
        group = zarr.open_group(path, mode="w")
        n = times.size
        for name, channels in (("state", spec.state_channels), ("persisted", spec.given_channels)):
            shape = (n, *grid.shape, len(channels))
            chunks = (min(n, chunk_rows(spec, grid)), chunk_latitudes(spec, grid), grid.shape[1], max(shape[3], 1))
            group.create_array(
                name,
                shape=shape,
                chunks=chunks,
                dtype="float32",
                compressors=_COMPRESSOR,
                chunk_key_encoding={"name": "default", "separator": "."},  # else four folders for each chunk
            )
        group.create_array("digest", shape=(n, DIGEST_BYTES), chunks=(min(n, 1024), DIGEST_BYTES), dtype="uint8")
        group.create_array("time", data=times.astype("datetime64[ns]").astype(np.int64))
        return cls(path)

    def write(self, start: int, state: np.ndarray, persisted: np.ndarray) -> None:
        """Writes rows from ``start`` on: ``(time, latitude, longitude, channel)``, float32."""
        self.write_digests(start, self.write_rows(start, state, persisted))

    def write_rows(self, start: int, state: np.ndarray, persisted: np.ndarray) -> bytes:
        """Writes rows without their digests, which it returns one after the other.

        Workers may write different blocks at once, since no two of them touch one chunk of rows; the digests of many
        blocks share a chunk, so one process writes them.
        """
        self.state.write(start, state)
        self._persisted.write(start, persisted)
        return b"".join(row_digest(s, p) for s, p in zip(state, persisted, strict=True))

    def holds(self, start: int, digests: bytes) -> bool:
        """Whether the rows from ``start`` on are those of which ``write_rows`` returned these digests.

        Where they are not, what is left of them is removed: who writes into the last chunk of an array reads it first.
        """
        stop = start + len(digests) // DIGEST_BYTES
        try:
            rows = zip(self.state[start:stop], self._persisted[start:stop], strict=True)
            if b"".join(row_digest(s, p) for s, p in rows) == digests:
                return True
        except ValueError:  # a chunk is missing or cannot be decoded
            pass
        for name in ("state", "persisted"):
            size = self.array(name).chunks[0]
            for number in range(start // size, -(-stop // size)):
                for chunk in (self.path / name).glob(f"c.{number}.*"):
                    chunk.unlink()
        return False

    def write_digests(self, start: int, digests: bytes) -> None:
        """Writes what ``write_rows`` returned for the rows from ``start`` on."""
        values = np.frombuffer(digests, np.uint8).reshape(-1, DIGEST_BYTES)
        self.array("digest")[start : start + len(values)] = values

    def create_table(self, shape: tuple[int, ...], chunks: tuple[int, ...]) -> zarr.Array:
        """Makes the climatology's empty table, to be filled in parts; ``finish`` leaves it as it is."""
        group = self._group.require_group("climatology")
        return group.create_array(
            "table", shape=shape, chunks=chunks, dtype="float32", compressors=_COMPRESSOR, overwrite=True
        )

    def finish(
        self,
        *,
        spec: StateSpec,
        grid: Grid,
        timestep: np.timedelta64,
        segments: Sequence[Segment],
        static: np.ndarray,
        statistics: Statistics,
        climatology: Climatology,
        forcing_builder: ForcingBuilder,
        config_hash: str,
    ) -> None:
        """Adds everything else and, last, the manifest.

        Args:
          spec, grid, timestep, segments, static, statistics, climatology, forcing_builder: As in ``Store``.
          config_hash: Hash of the config and the files that the store was made from.
        """
        parts = {
            "statistics": statistics.to_arrays(),
            "climatology": climatology.to_arrays(),
            "forcing": forcing_builder.to_arrays(),
        }
        for name, arrays in parts.items():
            group = self._group.require_group(name)
            for key, value in arrays.items():
                if not isinstance(value, zarr.Array):  # else it is here already
                    codec = _COMPRESSOR if np.size(value) else None
                    group.create_array(key, data=np.asarray(value), compressors=codec, overwrite=True)
        self._group.create_array("static", data=static.astype(np.float32), overwrite=True)
        manifest = {
            "format_version": FORMAT_VERSION,
            "program_version": _program_version(),
            "config_hash": config_hash,
            "timestep_seconds": float(timestep / np.timedelta64(1, "s")),
            "spec": spec.to_dict(),
            "grid": grid.to_dict(),
            "segments": [s.to_dict() for s in segments],
            "data_hash": "",
        }
        manifest["data_hash"] = data_hash_of(read_group(self.path, self._group, manifest))
        write_text(self.path / MANIFEST, json.dumps(manifest, indent=1))

    def array(self, name: str) -> zarr.Array:
        """One of the arrays, ``state`` or ``climatology/table``."""
        array = self._group[name]
        assert isinstance(array, zarr.Array)
        return array

    @property
    def times(self) -> np.ndarray:
        """``datetime64[ns]`` ``(time,)``."""
        return np.asarray(self.array("time")[:]).astype("datetime64[ns]")


def _program_version() -> str:
    try:
        return metadata.version("weather-emulator")
    except metadata.PackageNotFoundError:  # run from a checkout that was never installed
        return "unknown"
