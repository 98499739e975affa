"""The error in geopotential of a network that has none among its channels, as those on sigma levels have not.

A network on pressure levels finds geopotential among its targets. One on sigma levels has temperature and surface
pressure instead, and what errs a little in all layers alike, or in the pressure of half the globe, costs little in
either, yet adds up in the height of the 500 hPa surface. So the loss may count that sum as well.

What follows is linear, about the training mean, so that it is one small matrix: the geopotential at the pressure that a
level has on average changes by the hydrostatic integral of the virtual temperature below it, and by ``R Tv / ps`` times
the surface pressure that lifts the column.
"""

from __future__ import annotations

import numpy as np

from data_prep.spec import Channel, StateSpec
from data_prep.vertical import GAS_CONSTANT, sigma_geopotential, virtual_temperature

GEOPOTENTIAL = "geopotential"


def geopotential_channels(spec: StateSpec) -> tuple[Channel, ...]:
    """Geopotential on the temperature's levels, if it follows from a state and is no channel of it; else nothing."""
    channels = spec.state_channels[: spec.n_prognostic]
    levels = [c.level for c in channels if c.variable == "temperature" and c.level is not None]
    has_pressure = Channel("surface_pressure", None) in channels
    if spec.vertical != "sigma" or not has_pressure or any(c.variable == GEOPOTENTIAL for c in spec.state_channels):
        return ()
    return tuple(Channel(GEOPOTENTIAL, level) for level in levels)


def geopotential_matrix(spec: StateSpec, mean: np.ndarray) -> np.ndarray:
    """What a small difference of two states is in geopotential: ``difference @ matrix``.

    Args:
      spec: Of a state that ``geopotential_channels`` finds it in.
      mean: Of the state channels, in their units, ``(state,)``: what the matrix is linear about.

    Returns:
      float32 ``(state, level)``, in m2 s-2 per unit of the channel; levels as of ``geopotential_channels``.
    """
    levels = [c.level for c in geopotential_channels(spec)]
    index = {channel: i for i, channel in enumerate(spec.state_channels)}
    warm = [index[Channel("temperature", level)] for level in levels]
    wet = [index.get(Channel("specific_humidity", level)) for level in levels]
    pressure = index[Channel("surface_pressure", None)]
    temperature = mean[warm].astype(np.float64)
    humidity = np.array([0.0 if i is None else mean[i] for i in wet], np.float64)
    by_warmth = virtual_temperature(np.ones(len(levels)), humidity)
    by_moisture = virtual_temperature(temperature, np.ones(len(levels))) - temperature

    one_level_warmer = np.eye(len(levels))[..., None, None]
    integral = sigma_geopotential(one_level_warmer, np.zeros((1, 1)), np.array(levels))[..., 0, 0]
    matrix = np.zeros((len(spec.state_channels), len(levels)))
    matrix[warm] = by_warmth[:, None] * integral
    for level, i in enumerate(wet):
        if i is not None:
            matrix[i] = by_moisture[level] * integral[level]
    matrix[pressure] = GAS_CONSTANT * temperature * by_warmth / mean[pressure]
    return matrix.astype(np.float32)
