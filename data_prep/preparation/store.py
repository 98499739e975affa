"""The prepared store: every training sample as one contiguous read, and all that a model needs beside it.

A folder in Zarr v3 with a manifest. A chunk holds one time, or as many small ones as make 256 KiB, so a random window
reads little that it does not need; a field of more than 8 MiB is cut by latitude, so that its parts are decoded side by
side. ``scripts/benchmark.py load --layouts`` measures this against other layouts and compressors, and docs/data.md has
its table: two times a chunk cost 1.7 times the processor's time a window, four 2.6 times; blosc-lz4 with byte shuffling
reads random windows faster than bitshuffle, 1.5 times as fast as blosc-zstd, and is 5 % larger; no compression reads
1.7 times as fast and is 16 % larger. Shards of 32 such chunks read as fast, but a block would have to be made of whole
shards. Each row carries a checksum that is compared whenever it is read, so nobody trains on damage, and its SHA-256,
by which ``verify`` and the data hash go.

    store.zarr/
        manifest.json               format version, spec, grid, time step, segments, hashes
        time                        int64 nanoseconds since 1970 (time,)
        state                       float32 (time, lat, lon, state channel)
        persisted                   float32 (time, lat, lon, persisted and lateral forcing channel)
        digest                      uint8 (time, 40), of each row: SHA-256 of state and persisted, CRC32C of either
        static                      float32 (lat, lon, static channel)
        statistics/ climatology/ forcing/     arrays of ``Statistics``, ``Climatology`` and ``ForcingBuilder``
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import google_crc32c
import numpy as np
import zarr

from data_prep import clock
from data_prep.errors import DataError, UserError, how_to_run, one_line
from data_prep.files.arrays import ArrayLike, rows_at
from data_prep.files.json_file import read_object
from data_prep.forcing import ForcingBuilder
from data_prep.grid import Grid
from data_prep.preparation.climatology import Climatology
from data_prep.preparation.rows import StoredRows, take
from data_prep.preparation.statistics import Statistics
from data_prep.reading.locations import MANIFEST
from data_prep.spec import StateSpec, unstack_channels

if TYPE_CHECKING:
    import dask.array
    import xarray as xr

FORMAT_VERSION = 2

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")

_VERIFY_BYTES = 2**25
_SHA_BYTES, _CRC_BYTES = 32, 4
_TABLE_IN_MEMORY_BYTES = 2**29  # a larger climatology stays on disk, and its rows are read as they are asked for


@dataclass(frozen=True)
class Segment:
    """An unbroken stretch of time that belongs to one split; windows never cross its ends.

    Attributes:
      name: Where it comes from, e.g. ``member_000``.
      start, stop: Half-open range on the store's time axis.
      split: ``train``, ``validation`` or ``test``.
      first_time, last_time: Its first and last time, ``datetime64[ns]``.
    """

    name: str
    start: int
    stop: int
    split: Split
    first_time: np.datetime64
    last_time: np.datetime64

    def __len__(self) -> int:
        return self.stop - self.start

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form; inverse of ``from_dict``."""
        return {**asdict(self), "first_time": str(self.first_time), "last_time": str(self.last_time)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], times: np.ndarray) -> Self:
        """Inverse of ``to_dict``.

        Raises:
          ValueError: it does not fit those times of its store.
        """
        times_of = {key: np.datetime64(data[key], "ns") for key in ("first_time", "last_time")}
        segment = cls(**{**data, **times_of})
        if not (type(segment.start) is type(segment.stop) is int):
            raise ValueError(f"segment {segment.name} does not begin and end at whole numbers")
        if not 0 <= segment.start < segment.stop <= times.size or times[segment.start] != segment.first_time:
            raise ValueError(f"segment {segment.name} does not fit the time axis")
        return segment


@dataclass(frozen=True, eq=False)
class Store:
    """A prepared data set, opened for reading.

    Attributes:
      spec: Variables, levels and roles.
      grid: The horizontal grid.
      timestep: Interval between rows of a segment, ``timedelta64[ns]``.
      statistics: Moments of the training split.
      climatology: Training climate, ``.at(times)``.
      forcing_builder: Forcings, ``.at(times, given)``.
      static: Static channels in raw units, float32 ``(latitude, longitude, static)``.
      segments: In the order of the time axis.
      times: ``datetime64[ns]`` ``(time,)``; ascending within a segment, unique overall.
      data_hash: SHA-256 of all contents, hexadecimal.
      state, persisted: The arrays behind ``take_states`` and ``take_persisted``.
      digests: ``row_digest`` of each row, uint8 ``(time, 40)``; empty where rows are made of those of another store,
        which compares them.
      path: The folder it was opened from; ``None`` for one in memory.
    """

    spec: StateSpec
    grid: Grid
    timestep: np.timedelta64
    statistics: Statistics
    climatology: Climatology
    forcing_builder: ForcingBuilder
    static: np.ndarray
    segments: tuple[Segment, ...]
    times: np.ndarray
    data_hash: str
    state: ArrayLike = field(repr=False)
    persisted: ArrayLike = field(repr=False)
    digests: np.ndarray = field(repr=False)
    path: Path | None = None

    def __reduce__(self) -> Any:
        """Workers are sent the path and open the store themselves; one that lives in memory is sent whole."""
        if self.path is not None:
            return _reopen, (self.path, self.data_hash)
        return Store, tuple(getattr(self, f.name) for f in fields(self))

    def read_state(self, start: int, stop: int) -> np.ndarray:
        """States of rows ``[start, stop)`` of one segment: raw, float32 ``(time, latitude, longitude, state)``.

        Raises:
          DataError: a row is damaged; its time is named. So for all that reads rows.
        """
        self.segment_of(start, stop)
        return self.take_states(np.arange(start, stop))

    def take_states(self, rows: np.ndarray) -> np.ndarray:
        """States of any rows in one read, ``(*rows.shape, latitude, longitude, state)``.

        Each is checked, of an array in memory once: the checksum is taken under the interpreter's lock, for which the
        loop that keeps an accelerator busy would wait.
        """
        return self._take(self.state, rows, _STATE_CHECKSUM)

    def take_persisted(self, rows: np.ndarray) -> np.ndarray:
        """Persisted and lateral forcings of any rows, likewise ``(*rows.shape, latitude, longitude, given)``."""
        return self._take(self.persisted, rows, _PERSISTED_CHECKSUM)

    @cached_property
    def _sound(self) -> dict[int, np.ndarray]:
        """By checksum, which rows in memory were as they should be."""
        return {part.start: np.zeros(self.times.size, bool) for part in (_STATE_CHECKSUM, _PERSISTED_CHECKSUM)}

    def _take(self, array: ArrayLike, rows: np.ndarray, checksum: slice) -> np.ndarray:
        in_memory = getattr(array, "in_memory", isinstance(array, np.ndarray))  # before the read, or that was from disk
        try:
            values = take(array, rows)
        except (OSError, RuntimeError, ValueError):  # a chunk that cannot be decoded: which row's?
            for row in rows.ravel().tolist():
                self._read_alone(array, row)
            raise
        if self.digests.size:
            sound = self._sound[checksum.start]
            fields = values.reshape(rows.size, *array.shape[1:])
            for row, field_ in zip(rows.ravel().tolist(), fields, strict=True):
                if in_memory and sound[row]:
                    continue
                if _checksum(field_) != self.digests[row, checksum].tobytes():
                    raise self._damaged(row)
                sound[row] = in_memory
        return values

    def _read_alone(self, array: ArrayLike, row: int) -> None:
        try:
            take(array, np.array([row]))
        except (OSError, RuntimeError, ValueError) as error:
            raise DataError(
                f"{self._name}: the row of {clock.text(self.times[row])} cannot be read ({one_line(error)}); "
                f"{how_to_prepare(self.path)}"
            ) from None

    def _damaged(self, row: int) -> DataError:
        return DataError(
            f"{self._name}: the row of {clock.text(self.times[row])} is damaged; {how_to_prepare(self.path)}"
        )

    def __repr__(self) -> str:
        """In a line."""
        place = "in memory" if self.path is None else str(self.path)
        channels = len(self.spec.state_channels)
        return f"Store({place}: {channels} channels on {self.grid.describe()}, {self.times.size} times)"

    def lateral_at(self, times: np.ndarray) -> np.ndarray:
        """Lateral forcings at these times, in any order: float32 ``(time, latitude, longitude, lateral)``.

        Raises:
          DataError: the store lacks a time.
        """
        rows, missing = rows_at(self.times, times)
        if missing.size:
            raise DataError(f"{self._name}: no lateral boundary values at {missing[0]!s:.16} ({missing.size} times)")
        return self.take_persisted(rows)[..., self.forcing_builder.is_lateral]

    def segment_of(self, start: int, stop: int) -> Segment:
        """The segment that holds rows ``[start, stop)``.

        Raises:
          DataError: no single segment holds them.
        """
        for segment in self.segments:
            if segment.start <= start < stop <= segment.stop:
                return segment
        first = f" (from {self.times[start]!s:.16})" if 0 <= start < self.times.size else ""
        held = ", ".join(f"{s.split} {s.first_time!s:.16} to {s.last_time!s:.16}" for s in self.segments[:4])
        more = ", ..." if len(self.segments) > 4 else ""
        raise DataError(f"store: rows {start} to {stop}{first} do not lie within one segment; there are {held}{more}")

    def rows_of(self, split: Split) -> np.ndarray:
        """All rows of a split, int64, ascending."""
        segments = [np.arange(s.start, s.stop) for s in self.segments if s.split == split]
        return np.concatenate([np.empty(0, np.int64), *segments])

    def windows(self, split: Split, length: int) -> np.ndarray:
        """Starts of all windows of ``length`` rows inside one segment of the split, int64, ascending.

        Raises:
          DataError: no segment of the split is that long.
        """
        starts = [np.arange(s.start, s.stop - length + 1) for s in self.segments if s.split == split]
        out = np.concatenate(starts) if starts else np.empty(0, np.int64)
        if out.size == 0:
            longest = max((len(s) for s in self.segments if s.split == split), default=0)
            raise DataError(
                f"store: no window of {length} times in the {split} split, whose longest segment has {longest}; "
                "give it more data or ask for shorter rollouts"
            )
        return out.astype(np.int64)

    def dataset(self, indices: Sequence[int] | np.ndarray) -> xr.Dataset:
        """State and persisted forcings at these rows, canonical: dims ``(time, [level,] latitude, longitude)``."""
        rows = np.asarray(indices, np.int64)
        return self._canonical(rows, self._fields(rows))

    def lazy_dataset(self, indices: Sequence[int] | np.ndarray) -> xr.Dataset:
        """The same, but a row is read when it is loaded: for more rows than memory holds."""
        import dask.array

        rows = np.asarray(indices, np.int64)
        read = dask.delayed(self._fields, pure=False)
        shape = (1, *self.grid.shape, len(self.spec.state_channels) + len(self.spec.known_channels("persisted")))
        parts = [dask.array.from_delayed(read(row), shape, np.float32) for row in np.split(rows, rows.size)]
        return self._canonical(rows, dask.array.concatenate(parts))

    def _fields(self, rows: np.ndarray) -> np.ndarray:
        """State and persisted forcings, ``(row, latitude, longitude, channel)``."""
        values = self.take_states(rows)
        if not self.spec.known_channels("persisted"):
            return values
        return np.concatenate([values, self.take_persisted(rows)[..., ~self.forcing_builder.is_lateral]], axis=-1)

    def _canonical(self, rows: np.ndarray, values: np.ndarray | dask.array.Array) -> xr.Dataset:
        time_coord = ("time", self.times[rows], {"standard_name": "time", "long_name": "time", "axis": "T"})
        channels = (*self.spec.state_channels, *self.spec.known_channels("persisted"))
        return unstack_channels(values, self.spec, channels, self.grid, {"time": time_coord})

    @property
    def surface_geopotential(self) -> np.ndarray | None:
        """Surface geopotential of the truth in m2 s-2, ``(latitude, longitude)``; ``None`` if it is no static field."""
        return self._static("geopotential_at_surface")

    @property
    def land_share(self) -> np.ndarray | None:
        """Share of land of each point, 0 to 1, ``(latitude, longitude)``; ``None`` if it is no static field."""
        return self._static("land_sea_mask")

    def _static(self, name: str) -> np.ndarray | None:
        names = [c.variable for c in self.spec.static_channels]
        return self.static[..., names.index(name)] if name in names else None

    def verify(self, on_rows: Callable[[int], object] | None = None) -> None:
        """Reads every row and compares it with its hash, and all hashes with ``data_hash``.

        Args:
          on_rows: Told how many more rows have been read, for progress.

        Raises:
          DataError: names the time of the first damaged row.
        """
        at_once = max(1, _VERIFY_BYTES // row_bytes(self.spec, self.grid))
        for start in range(0, self.times.size, at_once):
            rows = np.arange(start, min(start + at_once, self.times.size))
            parts = zip(rows.tolist(), self.take_states(rows), self.take_persisted(rows), strict=True)
            for row, state, persisted in parts:
                if row_digest(state, persisted) != self.digests[row].tobytes():
                    raise self._damaged(row)
            if on_rows is not None:
                on_rows(rows.size)
        self.verify_fixed()

    def verify_fixed(self) -> None:
        """Compares everything but the rows with ``data_hash``; the hashes of the rows are part of it.

        Raises:
          DataError: it is another.
        """
        found = data_hash_of(self)
        if found != self.data_hash:
            raise DataError(
                f"{self._name}: statistics, climatology, forcing tables, static fields or the time axis are damaged: "
                f"contents hash to {found[:12]}, the manifest says {self.data_hash[:12]}; {how_to_prepare(self.path)}"
            )

    @property
    def _name(self) -> str:
        return "store" if self.path is None else str(self.path)


def row_bytes(spec: StateSpec, grid: Grid) -> int:
    """Bytes of the states of one time."""
    return 4 * grid.shape[0] * grid.shape[1] * len(spec.state_channels)


def row_digest(state: np.ndarray, persisted: np.ndarray) -> bytes:
    """SHA-256 of one row, by which stores are told apart, and CRC32C of its state and of what is persisted.

    A checksum is taken in a twentieth of the time of a hash, so it is compared whenever a row comes from disk.
    """
    both = [np.ascontiguousarray(x, np.float32).ravel() for x in (state, persisted)]
    digest = hashlib.sha256(both[0].data)
    digest.update(both[1].data)
    return digest.digest() + b"".join(map(_checksum, both))


_STATE_CHECKSUM = slice(_SHA_BYTES, _SHA_BYTES + _CRC_BYTES)
_PERSISTED_CHECKSUM = slice(_SHA_BYTES + _CRC_BYTES, _SHA_BYTES + 2 * _CRC_BYTES)
DIGEST_BYTES = _PERSISTED_CHECKSUM.stop


def _checksum(row: np.ndarray) -> bytes:
    return int(google_crc32c.value(row)).to_bytes(_CRC_BYTES, "little")


def memory_store(
    *,
    spec: StateSpec,
    grid: Grid,
    timestep: np.timedelta64,
    statistics: Statistics,
    climatology: Climatology,
    forcing_table: np.ndarray,
    static: np.ndarray,
    segments: Sequence[Segment],
    times: np.ndarray,
    state: np.ndarray,
    persisted: np.ndarray,
) -> Store:
    """A store whose arrays live in memory; equal to what ``StoreWriter`` and ``open_store`` make of the same arrays."""
    state, persisted = (np.asarray(x, np.float32) for x in (state, persisted))
    digests = [row_digest(s, p) for s, p in zip(state, persisted, strict=True)]
    store = Store(
        spec=spec,
        grid=grid,
        timestep=timestep.astype("timedelta64[ns]"),
        statistics=statistics,
        climatology=climatology,
        forcing_builder=ForcingBuilder(grid, spec, timestep, forcing_table),
        static=static,
        segments=tuple(segments),
        times=times.astype("datetime64[ns]"),
        data_hash="",
        state=state,
        persisted=persisted,
        digests=np.frombuffer(b"".join(digests), np.uint8).reshape(-1, DIGEST_BYTES),
    )
    return replace(store, data_hash=data_hash_of(store))


def read_manifest(path: str | Path) -> dict[str, Any]:
    """The manifest of a store.

    Raises:
      DataError: there is no store, the manifest is damaged, or another format version wrote it.
    """
    file = Path(path) / MANIFEST
    if not file.is_file():
        remedy = how_to_prepare(path) if Path(path).is_dir() else "'emulator prepare CONFIG' makes it"
        raise DataError(f"{path}: no prepared store there ({MANIFEST} is missing); {remedy}")
    manifest = read_object(file, how_to_prepare(path))
    if "format_version" not in manifest:
        raise DataError(f"{file}: damaged, format_version is missing; {how_to_prepare(path)}")
    if manifest["format_version"] != FORMAT_VERSION:
        raise DataError(
            f"{file}: format version {manifest['format_version']}, this program reads {FORMAT_VERSION}; "
            f"{how_to_prepare(path)}"
        )
    return manifest


def older_version(path: str | Path) -> int | None:
    """The format version of a store that an older program wrote; ``None`` for any other."""
    try:
        version = read_object(Path(path) / MANIFEST, "").get("format_version")
    except DataError:
        return None
    return version if isinstance(version, int) and version < FORMAT_VERSION else None


def how_to_prepare(path: str | Path | None) -> str:
    """What to do about a store that cannot be read."""
    again = "prepare the store again"
    if path is None:
        return again
    # an older store is replaced by itself, any other is taken for finished until it is gone
    away = "" if older_version(path) is not None else f"rm -r {shlex.quote(str(path))} && "
    return again + how_to_run("prepare", Path(path).parent, before=away)


def open_store(path: str | Path, *, in_memory: bool = False) -> Store:
    """Opens a prepared store, and compares all but its rows with their hash; rows are compared as they are read.

    A climatology too large for memory is left on disk and then not looked at; ``verify`` does.

    Args:
      path: Its folder.
      in_memory: Load states and persisted forcings now; random windows then cost a copy instead of a decompression.

    Raises:
      DataError: one line that says what is missing, damaged or of another version.
    """
    if not isinstance(path, str | Path):
        raise DataError(f"the path of a store is expected, not a {type(path).__name__}")
    manifest = read_manifest(path)
    try:
        store = read_group(Path(path), zarr.open_group(path, mode="r"), manifest)
        store = replace(store, path=Path(path))
    except KeyError as error:
        raise DataError(f"{path}: the store lacks {error}; {how_to_prepare(path)}") from None
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001 - what hostile metadata end in is anything
        raise DataError(f"{path}: the store is damaged ({one_line(error)}); {how_to_prepare(path)}") from None
    if isinstance(store.climatology.table, np.ndarray):
        store.verify_fixed()
    if in_memory:
        rows = np.arange(store.times.size)
        store = replace(store, state=store.take_states(rows), persisted=store.take_persisted(rows))
    return store


@lru_cache(maxsize=1)
def _reopen(path: Path, data_hash: str) -> Store:
    store = open_store(path)
    if store.data_hash != data_hash:
        raise DataError(f"{path}: was prepared anew while it was in use; start again")
    return store


def read_group(path: Path, group: zarr.Group, manifest: Mapping[str, Any]) -> Store:
    """The store that a group and its manifest hold, its rows on disk, nothing compared yet."""
    spec = StateSpec.from_dict(manifest["spec"])
    grid = Grid.from_dict(manifest["grid"])
    timestep = np.timedelta64(round(manifest["timestep_seconds"] * 1e9), "ns")
    times = np.asarray(_array(group, "time")[:]).astype("datetime64[ns]")
    rows: dict[str, ArrayLike] = {}
    for name, channels in (("state", spec.state_channels), ("persisted", spec.given_channels)):
        expected = (times.size, *grid.shape, len(channels))
        array = _array(group, name)
        if array.shape != expected:
            raise ValueError(f"{name} has shape {array.shape}, the manifest says {expected}")
        if any(c > max(n, 1) for c, n in zip(array.shards or array.chunks, array.shape, strict=True)):
            # TensorStore takes memory for a whole chunk, and ends the process where there is not as much
            raise ValueError(f"{name} has chunks of {array.shards or array.chunks}, larger than all of it")
        rows[name] = StoredRows.open(path / name)
    digests = np.asarray(_array(group, "digest")[:])
    if digests.shape != (times.size, DIGEST_BYTES):
        raise ValueError(f"digest has shape {digests.shape}, not {(times.size, DIGEST_BYTES)}")
    climatology = Climatology.from_arrays(_arrays(group, "climatology", _TABLE_IN_MEMORY_BYTES))
    fields_shape = rows["state"].shape[1:]
    if climatology.table.shape[-3:] != fields_shape:
        raise ValueError(f"the climatology's fields have shape {climatology.table.shape[-3:]}, not {fields_shape}")
    return Store(
        spec=spec,
        grid=grid,
        timestep=timestep,
        statistics=Statistics.from_arrays(_arrays(group, "statistics")),
        climatology=climatology,
        forcing_builder=ForcingBuilder.from_arrays(_arrays(group, "forcing"), grid, spec, timestep),
        static=np.asarray(_array(group, "static")[:]),
        segments=tuple(Segment.from_dict(s, times) for s in manifest["segments"]),
        times=times,
        data_hash=str(manifest["data_hash"]),
        digests=digests,
        state=rows["state"],
        persisted=rows["persisted"],
    )


def _array(group: zarr.Group, name: str) -> zarr.Array:
    array = group[name]
    if not isinstance(array, zarr.Array):
        raise TypeError(f"{name} is not an array")
    return array


def _arrays(group: zarr.Group, name: str, largest: int | None = None) -> dict[str, Any]:
    """The arrays of a part in memory; those of more than ``largest`` bytes are left on disk."""
    part = group[name]
    if not isinstance(part, zarr.Group):
        raise TypeError(f"{name} is not a group")
    lazy = {key for key, array in part.arrays() if largest is not None and array.nbytes > largest}
    return {key: array if key in lazy else np.asarray(array[...]) for key, array in part.arrays()}


def data_hash_of(store: Store) -> str:
    """SHA-256 of spec, grid, time step, segments, every row's hash and every other array."""
    digest = hashlib.sha256()
    segments = [s.to_dict() for s in store.segments]
    header = [store.spec.to_dict(), store.grid.to_dict(), int(store.timestep.astype(np.int64)), segments]
    digest.update(json.dumps(header, sort_keys=True).encode())
    hashes = store.digests[:, :_SHA_BYTES]
    arrays: dict[str, Any] = {"time": store.times.astype(np.int64), "static": store.static, "digest": hashes}
    for part in (store.statistics, store.climatology, store.forcing_builder):
        arrays |= {f"{type(part).__name__}/{key}": value for key, value in part.to_arrays().items()}
    for name in sorted(arrays):
        digest.update(name.encode())
        value = arrays[name]
        fields = np.ndindex(*value.shape[:2]) if isinstance(value, zarr.Array) else [()]
        for field_index in fields:  # field by field where it does not fit into memory
            digest.update(np.ascontiguousarray(value[field_index]).tobytes())
    return digest.hexdigest()
