"""NetCDF files whose bytes are sound and whose metadata are not: names, dimensions, attributes, coordinates, types."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

_TEXTS = (
    "",
    " ",
    "nan",
    "..",
    "../../escaped",
    "/escaped",
    "</script><script>alert(1)",
    "\x1b[2J",
    "é" * 50,
    "a" * 5000,
)
_UNITS = ("", "K", "m", "days since 9999-99-99", "hours since", "seconds since 1970-01-01", "1e999", "kg kg-1", "%%%")
_NUMBERS = (float("nan"), float("inf"), -float("inf"), -1, 0, 1, 1e300, -1e300, 2**62, -(2**62))
_CODES = ("units", "calendar", "dtype", "scale_factor", "add_offset", "_FillValue", "missing_value", "coordinates")
_TYPES = ("i1", "i8", "f4", "f8", "U")


def netcdf_tree(content: bytes, rng: random.Random) -> bytes:
    """One thing of a NetCDF file is other than it was; what cannot be written as NetCDF is tried again."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.nc"
        path.write_bytes(content)
        with xr.open_dataset(path, decode_cf=False) as whole:
            dataset = whole.load()
        while True:
            try:
                _changed(dataset.copy(deep=True), rng).to_netcdf(path, engine="netcdf4")
            except Exception:  # noqa: BLE001 - whatever xarray and netCDF4 say of what is no NetCDF
                continue
            return path.read_bytes()


def _changed(dataset: xr.Dataset, rng: random.Random) -> xr.Dataset:
    name = rng.choice(list(dataset.variables))
    variable = dataset[name]
    holder = rng.choice((dataset, variable, variable)).attrs
    what = rng.choice((_attribute, _attribute, _values, _values, _rename, _drop, _type, _shape, _dimension))
    return what(dataset, name, holder, rng)


def _attribute(dataset: xr.Dataset, _: Any, holder: dict[Any, Any], rng: random.Random) -> xr.Dataset:
    """One is another, is new, or is gone."""
    key = rng.choice([*holder, rng.choice(_CODES)])
    if rng.random() < 0.25:
        holder.pop(key, None)
    else:
        numbers = np.array(rng.choices(_NUMBERS, k=rng.choice((1, 3))))
        holder[key] = rng.choice((rng.choice(_TEXTS), rng.choice(_UNITS), rng.choice(_NUMBERS), numbers, ["a", "b"]))
    return dataset


def _values(dataset: xr.Dataset, name: Any, _: Any, rng: random.Random) -> xr.Dataset:
    """Some or all values are hostile, the same, or in another order."""
    values = np.array(dataset[name].values, copy=True)
    flat = values.reshape(-1)
    if flat.size and values.dtype.kind in "OUS":
        flat[rng.choice((slice(None), slice(0, 1)))] = rng.choice((*_TEXTS, str(flat[-1])))
    elif flat.size and rng.random() < 0.3:
        flat[:] = flat[::-1].copy()
    elif flat.size:
        with np.errstate(all="ignore"):
            hostile = np.array(rng.choice(_NUMBERS)).astype(values.dtype)
        flat[rng.choice((slice(None), slice(0, 1), slice(0, None, 2)))] = hostile
    return dataset.assign({name: (dataset[name].dims, flat.reshape(values.shape), dataset[name].attrs)})


def _rename(dataset: xr.Dataset, name: Any, _: Any, rng: random.Random) -> xr.Dataset:
    """A variable or dimension has another name, perhaps that of another."""
    names = [*dataset.variables, *dataset.dims]
    return dataset.rename({rng.choice(names): rng.choice(("x", "time", "latitude", *map(str, names)))})


def _drop(dataset: xr.Dataset, name: Any, _: Any, rng: random.Random) -> xr.Dataset:
    """A variable is missing, or all attributes are."""
    return dataset.drop_vars(name) if rng.random() < 0.8 else dataset.drop_attrs()


def _type(dataset: xr.Dataset, name: Any, _: Any, rng: random.Random) -> xr.Dataset:
    """Values are of another type."""
    with np.errstate(all="ignore"):
        values = dataset[name].values.astype(rng.choice(_TYPES))
    return dataset.assign({name: (dataset[name].dims, values, dataset[name].attrs)})


def _shape(dataset: xr.Dataset, _: Any, __: Any, rng: random.Random) -> xr.Dataset:
    """A dimension is shorter, backwards, or empty."""
    part = rng.choice((slice(0, 0), slice(0, 1), slice(1, None), slice(None, None, -1)))
    return dataset.isel({rng.choice(list(dataset.dims)): part})


def _dimension(dataset: xr.Dataset, name: Any, _: Any, rng: random.Random) -> xr.Dataset:
    """A variable has one more, one less, or its own in another order."""
    variable = dataset[name]
    if not variable.dims or rng.random() < 0.3:
        return dataset.assign({name: variable.expand_dims("more").drop_vars(variable.coords)})
    if rng.random() < 0.5:
        return dataset.assign({name: variable.transpose(*reversed(variable.dims))})
    return dataset.drop_vars(name).assign({name: variable.isel({variable.dims[0]: 0}, drop=True)})
