"""Values in another unit than they are said to be: Celsius for kelvin, hPa for Pa, heights for geopotential."""

from __future__ import annotations

import math

from data_prep.units import Conversion
from data_prep.variables import GRAVITY, possible_range

# Values no field in this SI unit has, but every field in the other one: SI unit, lowest, highest, unit, factor, offset.
_SLIPS = (
    ("K", -120.0, 70.0, Conversion("degC", 1.0, 273.15)),
    ("Pa", 300.0, 1200.0, Conversion("hPa", 100.0)),
    ("kg kg-1", -10.0, 100.0, Conversion("g kg-1", 1e-3)),
)
_LOWEST_HEIGHT_HPA = 900.0  # below this surface a height may be anything, zero included
_UNDECLARED = (-9999.0, -999.0, -32767.0, -32768.0, 32766.0, 32767.0)


def slip_of(name: str, units: str, level: float | None, low: float, high: float) -> Conversion | None:
    """The unit that a field is in, if not the one it is said to be in.

    Args:
      name: Canonical name.
      units: The SI unit that the field should be in.
      level: Its pressure in hPa; ``None`` for fields on no pressure surface.
      low, high: Range of the field.

    Returns:
      ``units``: the unit it is in; ``factor`` and ``offset`` bring it to SI. ``None`` where nothing looks wrong.
    """
    if name == "geopotential" and level is not None and level <= _LOWEST_HEIGHT_HPA:
        ratio = (low + high) / 2 / (GRAVITY * standard_height(level))
        if 0.7 / GRAVITY < ratio < 1.4 / GRAVITY:
            return Conversion("m", GRAVITY)
        if 0.7 * GRAVITY < ratio < 1.4 * GRAVITY:
            return Conversion("m2 s-2 multiplied by g twice", 1 / GRAVITY)
        return None
    lowest, highest = possible_range(name, units)
    if lowest <= low and high <= highest:
        return None
    return next((c for unit, first, last, c in _SLIPS if units == unit and first <= low and high <= last), None)


def hint(name: str, units: str, level: float | None, low: float, high: float) -> str:
    """A half-sentence for an error message on what impossible values look like; empty where they look like nothing."""
    found = slip_of(name, units, level, low, high)
    if found is not None:
        degrees = "degrees Celsius" if found.units == "degC" else found.units
        return f"; these look like {degrees}: set the units attribute of the file right"
    if max(abs(low), abs(high)) > 1e14 or low in _UNDECLARED or high in _UNDECLARED:
        return "; this looks like a missing value that is not declared: set _FillValue in the file"
    return ""


def standard_height(pressure_hpa: float) -> float:
    """Height of a pressure surface in the International Standard Atmosphere (ISO 2533) to 20 km and beyond, in m."""
    tropopause_hpa, tropopause_m = 226.321, 11000.0
    if pressure_hpa > tropopause_hpa:
        return 288.15 / 0.0065 * (1.0 - (pressure_hpa / 1013.25) ** (0.0065 * 287.053 / GRAVITY))
    return tropopause_m + 287.053 * 216.65 / GRAVITY * math.log(tropopause_hpa / pressure_hpa)
