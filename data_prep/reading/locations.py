"""Where data lie: a path of this machine, or the URL of a Zarr store elsewhere, which is kept as it is written.

A ``Path`` would make ``gs:/bucket`` of ``gs://bucket``, so a URL stays text. What it means is fsspec's to know: it
finds the file system by the protocol (extra ``cloud`` for ``gs://`` and ``s3://``), follows chains (``simplecache::s3://``),
and takes credentials and other options from its own configuration.
"""

from __future__ import annotations

import glob
import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import fsspec

from data_prep.errors import DataError, how_to_install, one_line

Location: TypeAlias = Path | str

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+(://|::)")  # two letters or more: C:\ is a path
_ZARR_METADATA = (".zmetadata", "zarr.json", ".zgroup")
MANIFEST = "manifest.json"
"""Beside the Zarr metadata of prepared data."""
GRIB_SUFFIXES = (".grib", ".grib1", ".grib2", ".grb", ".grb2", ".gb2")
_SUFFIXES = (".nc", ".nc4", ".cdf", ".netcdf", *GRIB_SUFFIXES, ".zarr")
_WILD = re.compile(r"[*?\[]")


def locate(text: str | Path) -> Location:
    """What a user wrote, as a URL or a path.

    Raises:
      DataError: it is neither, or empty.
    """
    if not isinstance(text, str | os.PathLike):
        if hasattr(text, "data_vars"):
            raise DataError(
                "one data set or the paths of several are expected; xarray.combine_by_coords makes one of them"
            )
        remedy = "; its to_dataset() makes one" if hasattr(text, "to_dataset") else ""
        raise DataError(f"a path or a data set is expected, not a {type(text).__name__}{remedy}")
    if isinstance(text, str) and not text:
        raise DataError("a path is empty; is a variable of the shell not set?")
    if isinstance(text, str) and is_url(text):
        return text
    return Path(os.path.expanduser(text))  # noqa: PTH111 - Path's own raises where there is no such user


def is_url(location: Location) -> bool:
    """Whether it is to be opened through fsspec."""
    return isinstance(location, str) and _URL.match(location) is not None


def find(pattern: str) -> list[Location]:
    """All places that a path or URL with wild cards means, sorted; none where nothing matches.

    Raises:
      DataError: it is no pattern; the protocol of a URL is not known, or the service cannot be reached.
    """
    if not is_url(pattern):
        anchor = Path(pattern).anchor
        if pattern and Path(pattern) == Path(anchor):  # of ./ Python 3.11 makes an AttributeError
            return [Path(pattern)]
        try:
            return _shown(sorted(Path(anchor).glob(pattern[len(anchor) :])), pattern)
        except (ValueError, IndexError):
            raise DataError(
                f"{pattern!r} is no path or pattern of files; '**' stands for whole folders alone"
            ) from None
    if not _WILD.search(pattern):
        return [pattern]  # whether there is such a store shows when it is opened
    system, path = _filesystem(pattern)
    try:
        return _shown([str(system.unstrip_protocol(found)) for found in sorted(system.glob(path))], pattern)
    except OSError as error:
        raise DataError(f"{pattern}: cannot be listed ({one_line(error)})") from None


def _shown(found: Sequence[Location], pattern: str) -> list[Location]:
    """Without hidden files, such as the ``._x.nc`` that macOS puts beside ``x.nc``, unless the pattern names such."""
    return [place for place in found if _is_hidden(pattern) or not _is_hidden(place)]


def _is_hidden(location: Location) -> bool:
    return Path(location).name.startswith(".")


def find_files(places: Iterable[str | Path]) -> list[Location]:
    """What a user named on a command line: files, URLs, patterns that no shell has expanded, folders of files.

    Raises:
      DataError: a pattern or a folder holds no such file.
    """
    found: dict[Location, None] = {}
    for place in places:
        location = locate(place)
        matching = [location]
        if isinstance(location, Path) and not location.exists() and _WILD.search(str(location)):
            matching = find(str(location))
            if not matching:
                raise DataError(f"{location}: matches no file (from {Path.cwd()})")
        found |= dict.fromkeys(with_folders_opened(matching))
    return list(found)


def find_inputs(patterns: Sequence[str], workdir: Path, key: str = "data.inputs") -> tuple[Location, ...]:
    """The files and URLs that a key of the config names, sorted within each glob, each once, whatever folder one is in.

    A folder that is no Zarr store stands for the files in it.

    Raises:
      DataError: a glob matches nothing, a folder holds no such file, or a URL has an unknown protocol.
    """
    found: dict[Location, None] = {}
    for pattern in patterns:
        matches = find(pattern.replace("{workdir}", glob.escape(str(workdir))))
        if not matches:
            raise DataError(f"{key}: {pattern.replace('{workdir}', str(workdir))} matches no file (from {Path.cwd()})")
        found |= dict.fromkeys(with_folders_opened(matches))
    return tuple(p.absolute() if isinstance(p, Path) else p for p in found)


def with_folders_opened(places: Iterable[Location]) -> Iterator[Location]:
    """The places, with the files in a folder, sorted, in place of a folder that is no Zarr store.

    Raises:
      DataError: a folder holds no such file, or cannot be read.
    """
    for place in places:
        if isinstance(place, str) or not place.is_dir() or place.suffix == ".zarr" or is_zarr(place):
            yield place
            continue
        try:
            inside = [p for p in sorted(place.iterdir()) if p.suffix.lower() in _SUFFIXES and not _is_hidden(p)]
        except OSError as error:
            raise DataError(f"{place}: cannot be listed ({one_line(error)})") from None
        if not inside:
            raise DataError(f"{place}: a folder without NetCDF, GRIB or Zarr in it ({', '.join(_SUFFIXES)})")
        yield from inside


def is_zarr(folder: Path) -> bool:
    """Whether it holds the metadata of a Zarr group, of version 2 or 3."""
    return any((folder / name).exists() for name in _ZARR_METADATA)


def stem(location: Location) -> str:
    """The last part of its name, without the ending."""
    return Path(location).stem


def stamp(location: Location) -> list[int | str]:
    """What changes when the data do: size and time of change; of a URL the hash of its Zarr metadata.

    Raises:
      DataError: no Zarr store lies at the URL, the folder is empty, or a link leads nowhere.
    """
    if isinstance(location, Path):
        try:
            stats = [f.stat() for f in (location.rglob("*") if location.is_dir() else (location,))]
        except OSError as error:
            raise DataError(f"{location}: cannot be read ({one_line(error)})") from None
        if not stats:
            raise DataError(f"{location}: an empty folder; expected a NetCDF or GRIB file, or a Zarr store")
        return [sum(s.st_size for s in stats), max(s.st_mtime_ns for s in stats)]
    system, path = _filesystem(location)
    for name in _ZARR_METADATA:
        try:
            return [hashlib.sha256(system.cat_file(f"{path.rstrip('/')}/{name}")).hexdigest()]
        except FileNotFoundError:
            continue
        except OSError as error:
            raise DataError(f"{location}: cannot be read ({one_line(error)})") from None
    raise DataError(f"{location}: no Zarr store lies there; other formats are read from this machine's disks alone")


def _filesystem(url: str) -> tuple[Any, str]:
    try:
        return fsspec.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise DataError(f"{url}: {protocol_hint(error)}") from None


def protocol_hint(error: Exception) -> str:
    """Why a protocol cannot be used, and what to install."""
    return f"needs the extra 'cloud': {how_to_install('cloud')} ({one_line(error)})"
