"""Writes a data set as NetCDF so that a disk that is full or fails is an error and no crash."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import netCDF4
import xarray as xr
from xarray.backends import NetCDF4DataStore
from xarray.backends.common import ArrayWriter

from data_prep.files.disk import closing_once


def write_netcdf(
    dataset: xr.Dataset,
    path: Path,
    *,
    mode: Literal["w", "a"] = "w",
    encoding: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """As ``Dataset.to_netcdf`` does, which closes a file that could not be flushed, where HDF5 crashes the process.

    Args:
      dataset: Its arrays may be dask's.
      path: To be put in place by ``disk.replacing``.
      mode: ``w`` for a new file, ``a`` to add to one.
      encoding: Of variables, in place of the data set's own.

    Raises:
      OSError, RuntimeError: it could not be written to its end.
    """
    unlimited = set(dataset.encoding.get("unlimited_dims", ())) & set(dataset.sizes)
    file = netCDF4.Dataset(path, mode, format="NETCDF4")
    with closing_once(file):
        writer = ArrayWriter()
        dataset.dump_to_store(
            NetCDF4DataStore(file), writer=writer, encoding=dict(encoding or {}), unlimited_dims=unlimited
        )
        writer.sync()
