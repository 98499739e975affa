"""One file or folder, opened lazily whatever its format: NetCDF 3 and 4, Zarr 2 and 3, GRIB with the extra."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import netCDF4
import numpy as np
import xarray as xr

from data_prep.errors import DataError, UnreadableError, how_to_install, one_line
from data_prep.reading.locations import GRIB_SUFFIXES, MANIFEST, Location, is_zarr, protocol_hint
from data_prep.reading.recognise import canonical_name
from data_prep.variables import known

Format = Literal["NetCDF", "Zarr", "GRIB"]

CHUNK_CACHE_BYTES = 2**24
"""Of each variable of each open NetCDF file; the library's own 64 MiB are gigabytes where a data set has many files."""


def open_lazily(path: Location) -> xr.Dataset:
    """Opens a file or a URL with its times decoded and its packed integers unpacked, without reading a field.

    Raises:
      DataError: there is no such file, it is empty, damaged or what ``emulator prepare`` made, or an extra is missing
        (``grib``, ``cloud``).
    """
    return open_to_release(path)[0]


def open_to_release(path: Location) -> tuple[xr.Dataset, Callable[[], None]]:
    """Likewise, with a function that closes the file until it is read again: an open one keeps decoded chunks."""
    if isinstance(path, str):
        return _open_url(path), _nothing
    if not path.exists():
        raise UnreadableError(f"{path}: no such file")  # a network's disk may be away for a while
    if path.is_file() and path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty")
    if _first_bytes(path) == b"PK\x03\x04":
        raise DataError(f"{path}: a zip archive, in which the Climate Data Store sends several files: unzip it")
    if _first_bytes(path)[:2] == b"\x1f\x8b":
        raise DataError(f"{path}: is compressed as a whole by gzip: gunzip it")
    if path.is_dir() and not is_zarr(path):
        raise DataError(f"{path}: a folder that is no Zarr store; one file is expected here")
    if (path / MANIFEST).is_file():
        raise DataError(f"{path}: holds prepared data, a tensor; files such as it was made of are expected here")
    kind = format_of(path)
    if kind == "GRIB" and find_spec("cfgrib") is None:
        raise DataError(f"{path}: GRIB needs the extra 'grib': {how_to_install('grib')}, or make it NetCDF")
    try:
        with warnings.catch_warnings():
            # Old files earn remarks on their encoding; whatever matters of it is checked after decoding.
            warnings.simplefilter("ignore", xr.SerializationWarning)
            warnings.filterwarnings("ignore", category=RuntimeWarning, message=".*(calendar|cftime|consolidated).*")
            if kind == "Zarr":
                return _open_zarr(path), _nothing
            if kind == "GRIB":
                warnings.simplefilter("ignore", FutureWarning)  # of cfgrib's use of xarray
                return _open_grib(path), _nothing
            return _open_netcdf(path)
    except DataError:
        raise
    except Exception as error:  # noqa: BLE001 - what libraries make of damaged or hostile metadata is anything
        if counted := _MONTHS_SINCE.search(str(error)):
            raise DataError(
                f"{path}: its times are counted in {counted[1]}, which are no fixed spans; count them in days or hours"
            ) from None
        noun = {"Zarr": "Zarr store", "NetCDF": "NetCDF file", "GRIB": "GRIB file"}[kind]
        hint = "; is it whole? copy it again" if "HDF error" in str(error) else ""
        if kind == "NetCDF" and not _first_bytes(path).startswith((b"CDF", b"\x89HDF")):
            hint = "; it does not begin as one: was something else saved under its name, such as a page with an error?"
        raise UnreadableError(f"{path}: cannot be read as a {noun} ({one_line(error)}){hint}") from None


def _open_netcdf(path: Path) -> tuple[xr.Dataset, Callable[[], None]]:
    """The file, and how to close it; it is closed where it cannot be understood, so that it can be mended."""
    netCDF4.set_chunk_cache(CHUNK_CACHE_BYTES)
    file = _NetCDF.open(path)
    try:
        _refuse_one_cut_short(path, file)
        _refuse_groups_alone(path, file)
        return xr.open_dataset(file, chunks=None, decode_timedelta=False), partial(_close, file)
    except BaseException:
        _close(file)
        raise


def _refuse_one_cut_short(path: Path, file: xr.backends.NetCDF4DataStore) -> None:
    """Of NetCDF 3, which nothing packs: the library reads as zero what is not there."""
    dataset = file.ds
    if not dataset.data_model.startswith("NETCDF3"):
        return
    size, needed = path.stat().st_size, sum(v.size * v.dtype.itemsize for v in dataset.variables.values())
    if size < needed:
        raise DataError(f"{path}: is cut short: {size} bytes, and its variables alone take {needed}; copy it again")


def _refuse_groups_alone(path: Path, file: xr.backends.NetCDF4DataStore) -> None:
    """Of NetCDF 4: what lies in a group is not read, and an empty file would be a riddle."""
    groups = list(file.ds.groups)
    if groups and not file.ds.variables:
        raise DataError(
            f"{path}: its variables lie in groups ({', '.join(groups)}), which are not read; ncks -G : -g {groups[0]} "
            "IN OUT makes a file of one"
        )


def _close(file: xr.backends.NetCDF4DataStore) -> None:
    """Closes it when no thread reads it; of itself xarray 2025.7 closes it in the midst of a read."""
    with file.lock:
        file.close(needs_lock=False)


def _nothing() -> None:
    """Keeps no file open between reads."""


def format_of(path: Location) -> Format:
    """What a path holds: folders and URLs are Zarr, GRIB shows in its first bytes or its name, the rest is NetCDF."""
    if isinstance(path, str) or path.is_dir():
        return "Zarr"
    return "GRIB" if _first_bytes(path) == b"GRIB" or path.suffix.lower() in GRIB_SUFFIXES else "NetCDF"


def _first_bytes(path: Path) -> bytes:
    """Four of a file, none of a folder."""
    if path.is_dir():
        return b""
    with path.open("rb") as file:
        return file.read(4)


def _open_zarr(path: Location) -> xr.Dataset:
    """A Zarr store decoded, but for a fill value of 0 that nobody declared: zarr-python 2 gives it to any array.

    In format 2 xarray takes every fill value for a missing one, which would make each zero NaN. Of a URL consolidated
    metadata are read where it has them: listing a bucket takes minutes.
    """
    consolidated = None if isinstance(path, str) else False
    raw = xr.open_zarr(path, chunks=None, consolidated=consolidated, decode_cf=False)
    doubtful = [n for n, v in raw.variables.items() if v.attrs.get("_FillValue") == 0 and not _MASKS & v.attrs.keys()]
    if doubtful:
        import zarr  # slow to import

        group = zarr.open_group(str(path), mode="r", use_consolidated=consolidated)
        for name in doubtful:
            if "_FillValue" not in group[str(name)].attrs:
                del raw.variables[name].attrs["_FillValue"]
    for variable in raw.variables.values():
        _round_missing_values(variable)
    data = xr.decode_cf(raw, decode_timedelta=False)
    if strange := [name for name in (*data.dims, *data.variables) if not isinstance(name, str)]:
        raise ValueError(f"the name {strange[0]!r} of a dimension is no text")
    if twice := [name for name, v in data.variables.items() if len(set(v.dims)) < len(v.dims)]:
        raise ValueError(f"{twice[0]} has a dimension twice")
    return _valid_stretch(data)


class _NetCDF(xr.backends.NetCDF4DataStore):
    """A NetCDF file whose missing values have the precision of its values."""

    def open_store_variable(self, name: str, var: netCDF4.Variable) -> xr.Variable:
        """As xarray opens it, not decoded yet."""
        variable = super().open_store_variable(name, var)
        _round_missing_values(variable)
        return variable


def _round_missing_values(variable: xr.Variable) -> None:
    """Gives what a file declares as missing the type of its values: a float32 -99.9 equals no -99.9 of 64 bits."""
    for key in ("_FillValue", "missing_value"):
        given = np.asarray(variable.attrs.get(key))
        if variable.dtype.kind == "f" and given.dtype.kind == "f" and given.dtype != variable.dtype:
            with np.errstate(over="ignore"):
                stored = given.astype(variable.dtype)
            if np.array_equal(np.isfinite(stored), np.isfinite(given)):
                variable.attrs[key] = stored if stored.ndim else stored[()]


_MONTHS_SINCE = re.compile(r"decode time units '((?:month|year)s?) since", re.I)
_MASKS = {"missing_value", "scale_factor", "add_offset"}  # of who has one, 0 may be missing: packed fields need a value


def _open_url(url: str) -> xr.Dataset:
    """The Zarr store at a URL."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=RuntimeWarning, message=".*(calendar|cftime|consolidated).*")
            return _open_zarr(url)
    except ImportError as error:
        raise DataError(f"{url}: {protocol_hint(error)}") from None
    except Exception as error:  # noqa: BLE001 - every service has errors of its own
        raise UnreadableError(
            f"{url}: cannot be read as a Zarr store ({one_line(error)}); is it one, and public, or are credentials set?"
        ) from None


def _open_grib(path: Location) -> xr.Dataset:
    """All messages of a GRIB file as one data set; cfgrib cuts it into one for each kind of level and set of times.

    What is of a single time beside others of many, and may stay the same (a mask, orography), is a constant field.

    Raises:
      DataError: variables differ in their times.
    """
    import cfgrib

    whole = xr.Dataset()
    parts = cfgrib.open_datasets(str(path), backend_kwargs={"indexpath": ""})
    parts = sorted(parts, key=lambda part: not set(_GRIB_TIMES) & set(part.dims))  # single times come last
    for number, part in enumerate(parts):
        for dim in set(part.dims) & set(whole.dims) - {"latitude", "longitude", *_GRIB_TIMES}:
            if not part[dim].equals(whole[dim]):  # other variables on other levels
                part = part.rename({dim: f"{dim}_{number}"})
        for name, variable in part.data_vars.items():
            kind = str(variable.attrs.get("GRIB_typeOfLevel", "other"))
            # Kinds of level differ in scalar coordinates only: each variable keeps its own as attribute, none collide.
            scalars = [str(c) for c, v in variable.coords.items() if v.ndim == 0 and str(c) not in _GRIB_TIMES]
            level = variable.coords[kind] if kind in scalars else None
            kept = variable.drop_vars(scalars)
            if level is not None and kind == "heightAboveGround":
                kept.attrs["height_above_ground_m"] = float(level)
            elif level is not None and kind == "isobaricInhPa":
                kept = kept.expand_dims({f"isobaricInhPa_{name}": [float(level)]})
                kept[f"isobaricInhPa_{name}"].attrs = dict(level.attrs)
            if set(_GRIB_TIMES) & set(whole.dims) and not set(_GRIB_TIMES) & set(kept.dims) and _may_stay(kept):
                kept = kept.drop_vars(set(_GRIB_TIMES) & set(kept.coords))
            if any(c in whole.coords and not kept[c].equals(whole[c]) for c in _GRIB_TIMES if c in kept.coords):
                short = variable.attrs.get("GRIB_shortName", name)
                raise DataError(
                    f"{path}: {name} has other times or leads than {next(iter(whole.data_vars))}; "
                    f"put it into a file of its own: grib_copy -w shortName={short} IN OUT"
                )
            whole = whole.merge(
                {f"{name}_{kind}" if name in whole else str(name): kept}, join="exact", compat="no_conflicts"
            )
    return whole


def _may_stay(variable: xr.DataArray) -> bool:
    """Whether a variable may be the same at all times; so may one that the program does not know."""
    entry = known(canonical_name(variable) or "")
    return entry is None or entry.slow


_GRIB_TIMES = ("time", "step", "valid_time")


def _valid_stretch(data: xr.Dataset) -> xr.Dataset:
    """Leaves out the times that ARCO-ERA5 reserves but has not filled; its attributes name the stretch that is."""
    start, stop = data.attrs.get("valid_time_start"), data.attrs.get("valid_time_stop")
    if start is None or stop is None or "time" not in data.dims or data["time"].dtype.kind != "M":
        return data
    times = data["time"].values
    first, after = np.datetime64(str(start), "D"), np.datetime64(str(stop), "D") + np.timedelta64(1, "D")
    rows = np.flatnonzero((times >= first) & (times < after))
    return data.isel(time=slice(int(rows[0]), int(rows[-1]) + 1)) if rows.size else data
