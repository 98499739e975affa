"""Moving a state from one model surface to another, hydrostatically.

Spectral cores smooth their orography according to their truncation, so two resolutions never stand on the same surface:
SPEEDY T31 and T21 differ by some 70 m RMS. A state of one, put unchanged on the surface of the other, carries a false
surface pressure that the model turns into a shock, and comes out with a stationary error of several hPa. Here the air
stays where it is: surface pressure follows the surface, and the fields are interpolated to the new sigma levels.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from data_prep.vertical import (
    GAS_CONSTANT,
    LAPSE_RATE,
    MODEL_GRAVITY,
    interpolate,
    surface_temperature,
    virtual_temperature,
)

_EXPONENT = MODEL_GRAVITY / (GAS_CONSTANT * LAPSE_RATE)  # d ln p / d ln T along the standard lapse rate


def move_to_surface(
    fields: Mapping[str, np.ndarray], sigma: np.ndarray, source: np.ndarray, target: np.ndarray
) -> dict[str, np.ndarray]:
    """The same atmosphere over another surface.

    The layer between two surfaces is taken to continue from the higher one at 6.5 K/km, whichever way the state goes:
    the actual profile there is gone once a state has been moved up, and only a rule that both ways share gives
    pressure back. Below the old lowest level temperature follows that lapse rate, wind and humidity are constant.

    Args:
      fields: ``temperature``, ``specific_humidity``, ``surface_pressure`` and any other fields on sigma levels, dims
        ``(..., level, latitude, longitude)`` and ``(..., latitude, longitude)``.
      sigma: Level centres, top first.
      source: Geopotential (m2 s-2) of the surface that the fields stand on, ``(latitude, longitude)``.
      target: That of the surface they shall stand on.

    Returns:
      The same fields, float32.
    """
    knots = np.log(sigma)
    virtual = virtual_temperature(fields["temperature"], fields["specific_humidity"])
    log_ratio = _log_pressure_ratio(virtual, sigma, source, target)
    positions = knots[:, None, None] + log_ratio[..., None, :, :]
    moved = {name: interpolate(field, knots, positions) for name, field in fields.items() if name != "surface_pressure"}
    moved["temperature"] *= np.exp(np.maximum(positions - knots[-1], 0.0) / _EXPONENT)
    moved["surface_pressure"] = fields["surface_pressure"] * np.exp(log_ratio)
    return {name: moved[name].astype(np.float32) for name in fields}


def _log_pressure_ratio(virtual: np.ndarray, sigma: np.ndarray, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Logarithm of target over source surface pressure, ``(..., latitude, longitude)``."""
    knots, lowest = np.log(sigma), float(sigma[-1])
    rise = target - source
    ground = surface_temperature(virtual[..., -1, :, :], lowest)
    down = _EXPONENT * np.log1p(LAPSE_RATE * np.maximum(-rise, 0.0) / (MODEL_GRAVITY * ground))
    # Upwards the lowest level of the new column is not known before its pressure is: three rounds settle it.
    up = _EXPONENT * np.log1p(LAPSE_RATE * np.maximum(rise, 0.0) / (MODEL_GRAVITY * ground))
    for _ in range(3):
        ground = surface_temperature(interpolate(virtual, knots, knots[-1] - up[..., None, :, :])[..., 0, :, :], lowest)
        up = _EXPONENT * np.log1p(LAPSE_RATE * np.maximum(rise, 0.0) / (MODEL_GRAVITY * ground))
    return down - up


def move_near_surface_temperature(temperature: np.ndarray, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Near-surface temperature (K) over another surface, at 6.5 K/km."""
    return temperature - LAPSE_RATE / MODEL_GRAVITY * (target - source)
