"""Values in another unit than they are said to be: Celsius for kelvin, hPa for Pa, heights for geopotential."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from data_prep.reading.units import Conversion
from data_prep.variables import GRAVITY, known, possible_range, usual_range

# Values no field in this SI unit has, but every field in the other one: SI unit, lowest, highest, unit, factor, offset.
_SLIPS = (
    ("K", -120.0, 70.0, Conversion("degC", 1.0, 273.15)),
    ("Pa", 300.0, 1200.0, Conversion("hPa", 100.0)),
    ("kg kg-1", -10.0, 100.0, Conversion("g kg-1", 1e-3)),
)
_KELVIN = 150.0, 400.0  # where temperatures in K lie, and no temperature in degrees Celsius
_LOWEST_HEIGHT_HPA = 900.0  # below this surface a height may be anything, zero included
# What files write where a value is missing, and the unit that the SI unit may have been made of since.
_FILLS = np.array(
    [
        *(-999, -999.9, -9999, -9999.9, 9999, 99999, -9.99e8, 1e15, 1e20, 9.999e20),
        *(-32767, -32768, 32766, 32767, -(2**31), 2**31),  # -2147483647 of NetCDF is -2^31 in float32
    ],
    np.float32,
)
# NetCDF's 9.97e36 for what was never written, 1e30, -9.99e33; all the molecules of an atmospheric column are 2e29 m-2
_NOTHING_HAS = 9.9e29
_MADE_OF = {unit: conversion for unit, _, _, conversion in _SLIPS} | {
    "m": Conversion("mm", 1e-3),
    "1": Conversion("%", 1e-2),
    "m2 s-2": Conversion("m", GRAVITY),
}


def _looks_like(unit: str) -> str:
    return f"; these look like {unit}: set the units attribute of the file right"


LIKE_CELSIUS = _looks_like("degrees Celsius")
"""A half-sentence for an error message."""


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


def may_slip(name: str, units: str) -> bool:
    """Whether ``slips_of`` can tell the units of a variable apart at all."""
    told = any(units == unit for unit, *_ in _SLIPS) if known(name) is not None else units == "K"
    return name == "geopotential" or told


def kelvin_and_celsius(units: str, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which times lie where temperatures in K do, and which where those in degrees Celsius do, with all their values.

    Times without a value are neither; nor is what has one value everywhere, such as zeros where nothing is known.

    Args:
      units: SI unit.
      low, high: Ranges of the fields, ``(time, level)``.
    """
    unit, lowest, highest, _ = _SLIPS[0]
    some = (low < high).any(axis=1) & (units == unit)

    def within(least: float, most: float) -> np.ndarray:
        return some & (np.isnan(low) | ((low >= least) & (high <= most))).all(axis=1)

    return within(*_KELVIN), within(lowest, highest)


def is_mostly_kelvin(kelvin: int, rows: int) -> bool:
    """Whether a record of so many times, with values, is one of a temperature in K: no anomaly, and no difference."""
    return 2 * kelvin > rows


def in_celsius(name: str, units: str, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Which times of a record are in degrees Celsius, of a variable that the program does not know, ``(time,)``.

    Those that lie where these do, if most lie where kelvins do; other arguments as of ``kelvin_and_celsius``.
    """
    kelvin, celsius = kelvin_and_celsius(units, low, high)
    rows = int((~np.isnan(low)).any(axis=1).sum())
    return celsius & (known(name) is None and is_mostly_kelvin(int(kelvin.sum()), rows))


def impossible_and_unusual(name: str, units: str, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which fields are impossible, and which are unusual and no more; arguments as of ``slip_of``, of many fields.

    Of a variable that the program does not know only a missing value that is not declared is impossible.
    """
    lowest, highest = usual_range(name, units)
    strange = (low < lowest) | (high > highest)
    if known(name) is not None:
        return strange, np.zeros_like(strange)
    if math.isinf(highest):  # whose values may have any size, and come as the file has them
        beyond = np.maximum(np.abs(low), np.abs(high)) > _NOTHING_HAS
        return beyond | np.isin(low, _FILLS) | np.isin(high, _FILLS), strange
    undeclared = _undeclared(units, low, high)
    return strange & undeclared, strange & ~undeclared


def slips_of(
    name: str, units: str, levels: Sequence[float | None], low: np.ndarray, high: np.ndarray
) -> list[Conversion | None]:
    """The unit that each time of a record is in, of all levels alike: nobody writes one level in another unit.

    Levels near the ground and dry ones tell nothing of their own, and go with those that do. A time at which no level
    tells goes with the time beside it, unless the values jump there by about what a change of unit is.

    Args:
      name, units: As of ``slip_of``.
      levels: In hPa; ``None`` for fields on no pressure surface.
      low, high: Ranges of the fields, ``(time, level)``.

    Returns:
      By time, as of ``slip_of``; ``None`` too where levels disagree: whoever checks the values refuses those that slip.
    """
    if known(name) is None:
        return [_SLIPS[0][-1] if slipped else None for slipped in in_celsius(name, units, low, high)]
    told = [
        {slip_of(name, units, *field) for field in zip(levels, least, most, strict=True)} - {None}
        for least, most in zip(low.tolist(), high.tolist(), strict=True)
    ]
    out = [next(iter(slips)) if len(slips) == 1 else None for slips in told]
    slip = next((slip for slip in out if slip is not None), None)
    if slip is None or slip.factor == 1.0 or len(set(out) - {None}) > 1:
        return out
    first = out.index(slip)
    largest = int(high[first].argmax())
    with np.errstate(divide="ignore", invalid="ignore"):
        size = np.log(high[:, largest]).tolist()
    for rows in (range(first, len(out)), range(first, -1, -1)):
        slipped = True
        for before, row in pairwise(rows):
            if told[row]:
                slipped = out[row] is not None
                continue
            slipped ^= abs(size[row] - size[before]) > abs(math.log(slip.factor)) / 2
            out[row] = slip if slipped else None
    return out


def hint(name: str, units: str, level: float | None, low: float, high: float) -> str:
    """A half-sentence for an error message on what impossible values look like; empty where they look like nothing."""
    found = slip_of(name, units, level, low, high)
    if found is not None:
        return LIKE_CELSIUS if found.units == "degC" else _looks_like(found.units)
    if _undeclared(units, np.array(low), np.array(high)):
        return "; this looks like a missing value that is not declared: set _FillValue in the file"
    return ""


def _undeclared(units: str, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Which ranges end at what looks like a missing value, in SI as it is or as a conversion has left it."""
    made_of = _MADE_OF.get(units, Conversion(units))
    fills = np.concatenate([_FILLS, made_of.apply(_FILLS.astype(np.float64))])
    at_end = [np.isclose(end[..., None], fills, rtol=1e-6, atol=0).any(axis=-1) for end in (low, high)]
    return (np.maximum(np.abs(low), np.abs(high)) > 1e14) | at_end[0] | at_end[1]


def standard_height(pressure_hpa: float) -> float:
    """Height of a pressure surface in the International Standard Atmosphere (ISO 2533) to 20 km and beyond, in m."""
    tropopause_hpa, tropopause_m = 226.321, 11000.0
    if pressure_hpa > tropopause_hpa:
        return 288.15 / 0.0065 * (1.0 - (pressure_hpa / 1013.25) ** (0.0065 * 287.053 / GRAVITY))
    return tropopause_m + 287.053 * 216.65 / GRAVITY * math.log(tropopause_hpa / pressure_hpa)
