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
    GRAVITY,
    LAPSE_RATE,
    interpolate,
    surface_temperature,
    virtual_temperature,
)

_EXPONENT = GRAVITY / (GAS_CONSTANT * LAPSE_RATE)  # d ln p / d ln T along the standard lapse rate


def move_to_surface(
    fields: Mapping[str, np.ndarray], sigma: np.ndarray, source: np.ndarray, target: np.ndarray
) -> dict[str, np.ndarray]:
    """The same atmosphere over another surface.

    Pressure follows a lapse rate of 6.5 K/km from the surface temperature, upwards as downwards: a state that is moved
    and moved back has its pressure again to within a few hundredths of an hPa, which the actual profile (gone on the
    way up) cannot give. Below the old lowest level temperature follows that lapse rate, wind and humidity are constant.

    Args:
      fields: ``temperature``, ``specific_humidity``, ``surface_pressure`` and any other fields on sigma levels, dims
        ``(..., level, latitude, longitude)`` and ``(..., latitude, longitude)``.
      sigma: Level centres, top first.
      source: Geopotential (m2 s-2) of the surface that the fields stand on, ``(latitude, longitude)``.
      target: That of the surface they shall stand on.

    Returns:
      The same fields, float32.
    """
    virtual = virtual_temperature(fields["temperature"][..., -1, :, :], fields["specific_humidity"][..., -1, :, :])
    warmth = surface_temperature(virtual, float(sigma[-1]))
    log_ratio = _EXPONENT * np.log1p(LAPSE_RATE * (source - target) / (GRAVITY * warmth))
    knots = np.log(sigma)
    positions = knots[:, None, None] + log_ratio[..., None, :, :]
    moved = {name: interpolate(field, knots, positions) for name, field in fields.items() if name != "surface_pressure"}
    moved["temperature"] *= np.exp(np.maximum(positions - knots[-1], 0.0) / _EXPONENT)
    moved["surface_pressure"] = fields["surface_pressure"] * np.exp(log_ratio)
    return {name: moved[name].astype(np.float32) for name in fields}


def move_near_surface_temperature(temperature: np.ndarray, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Near-surface temperature (K) over another surface, at 6.5 K/km."""
    return temperature - LAPSE_RATE / GRAVITY * (target - source)
