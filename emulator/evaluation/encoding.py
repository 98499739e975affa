"""How results are stored as NetCDF: small, and with a checksum in every chunk, which HDF5 compares when it reads."""

from __future__ import annotations

from typing import Any

import xarray as xr

_SMALL: dict[str, Any] = {"zlib": True, "complevel": 1, "shuffle": True, "fletcher32": True}
_SPECIAL: dict[str, dict[str, Any]] = {
    "lead_time": {"units": "seconds", "dtype": "int64"},
    "init_time": {"units": "seconds since 1970-01-01", "dtype": "int64"},
    "quantile": {"_FillValue": None},
}


def encoding_of(results: xr.Dataset) -> dict[str, dict[str, Any]]:
    """Encodings for ``write_netcdf``, by variable."""
    stored = {str(n): v for n, v in results.variables.items() if v.ndim and v.dtype.kind in "fiumM"}
    return {name: _SMALL | _SPECIAL.get(name, {}) for name in stored}
