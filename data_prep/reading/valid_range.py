"""The valid range that a file gives a variable (``valid_range``, ``valid_min``, ``valid_max``): others are missing.

xarray leaves these attributes alone. The NetCDF Users Guide has them in the units of the packed values where they have
their type, and in those of the unpacked values where they have the type of ``scale_factor`` and ``add_offset``. Of
packed integers any floating-point range is one of unpacked values: people write 180.0 to 340.0 in either precision.
"""

from __future__ import annotations

import numpy as np
import xarray as xr


def valid_range_of(variable: xr.DataArray) -> tuple[float, float] | None:
    """Lowest and highest valid value of a variable as xarray decoded it; ``None`` where its file gives none."""
    stored = variable.encoding.get("dtype")
    if stored is None or np.dtype(stored).kind not in "iuf" or "_Unsigned" in variable.encoding:
        return None  # never stored, or as numbers that the attributes may hold with another sign
    stored = np.dtype(stored)
    scales = [np.asarray(variable.encoding[key]) for key in ("scale_factor", "add_offset") if key in variable.encoding]
    ends = _ends(variable)
    if ends is None:
        return None
    low, high = (float(end) for end in ends)
    if not scales:
        # in the type of the values, so that a bound that is one of them is valid
        if stored.kind != "f":
            return low, high
        with np.errstate(over="ignore"):
            return float(np.float64(low).astype(stored)), float(np.float64(high).astype(stored))
    scale = float(np.ravel(variable.encoding.get("scale_factor", 1.0))[0])
    offset = float(np.ravel(variable.encoding.get("add_offset", 0.0))[0])
    unpacked = np.result_type(*(s.dtype for s in scales))
    wider = np.can_cast(stored, unpacked) and stored != unpacked
    of = np.result_type(*(end.dtype for end in ends))
    is_of_values = (stored.kind in "iu" and of.kind == "f") or (wider and of == unpacked)
    if not is_of_values:
        low, high = sorted((low * scale + offset, high * scale + offset))
    half = abs(scale) / 2  # unpacking rounds
    return low - half, high + half


def _ends(variable: xr.DataArray) -> tuple[np.ndarray, np.ndarray] | None:
    """As the file has them; what cannot be a range is none."""
    attrs = variable.attrs
    pair = np.ravel(attrs.get("valid_range", ()))
    if pair.size != 2:
        given = [np.ravel(attrs[key]) for key in ("valid_min", "valid_max") if key in attrs]
        if not given or any(end.size != 1 for end in given):
            return None
        of = given[0].dtype
        if of.kind not in "iuf":
            return None
        info = np.iinfo(of) if of.kind in "iu" else np.finfo(of)
        pair = np.ravel([attrs.get("valid_min", info.min), attrs.get("valid_max", info.max)]).astype(of)
    if pair.dtype.kind not in "iuf" or not pair[0] < pair[1]:
        return None
    return pair[0], pair[1]


def are_invalid(values: np.ndarray, valid: tuple[float, float]) -> np.ndarray:
    """Which values are not valid; those that are missing already are not among them."""
    return (values < valid[0]) | (values > valid[1])
