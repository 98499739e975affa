"""What training minimises: squared error by area, by variable, in units of a normal change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from data_prep.errors import ConfigError
from data_prep.spec import StateSpec

LevelWeighting = Literal["equal", "sqrt_pressure", "pressure"]

_EXPONENT: Mapping[LevelWeighting, float] = {"equal": 0.0, "sqrt_pressure": 0.5, "pressure": 1.0}


def channel_weights(
    spec: StateSpec, variable_weights: Mapping[str, float], level_weighting: LevelWeighting = "equal"
) -> np.ndarray:
    """Weight of every state channel in the loss, mean 1, float32 ``(state,)``.

    Args:
      spec: The channels.
      variable_weights: Weight of a variable; 1 where it is not named.
      level_weighting: ``pressure`` weighs the levels of a variable in proportion to their pressure or sigma, hence to
        the density of the air there (Lam et al. 2023, doi:10.1126/science.adi2336), ``sqrt_pressure`` to the root of
        it; both leave the mean weight of the variable alone. ``equal`` weighs them alike.

    Raises:
      ConfigError: a name is no state variable.
    """
    names = [c.variable for c in spec.state_channels]
    unknown = sorted(set(variable_weights) - set(names))
    if unknown:
        raise ConfigError(
            f"train.variable_weights: {', '.join(unknown)}: no such state variable; there are "
            f"{', '.join(dict.fromkeys(names))}"
        )
    weights = np.array([variable_weights.get(name, 1.0) for name in names], np.float64)
    levels = np.array([1.0 if c.level is None else c.level for c in spec.state_channels])
    by_level = levels ** _EXPONENT[level_weighting]
    mean_of = {name: np.mean(by_level[[n == name for n in names]]) for name in names}
    weights *= by_level / [mean_of[name] for name in names]
    return (weights / weights.mean()).astype(np.float32)


def weighted_mse(
    forecast: Float[Array, "batch time lat lon state"],
    truth: Float[Array, "batch time lat lon state"],
    unit: Float[Array, "*batch state"],
    latitude_weights: Float[Array, " lat"],
    weights: Float[Array, " state"],
) -> Float[Array, ""]:
    """Mean squared error over everything.

    Args:
      forecast, truth: States in physical units.
      unit: What an error of each channel is divided by: the standard deviation of its change over one step (of its
        value, if diagnostic), so that persistence scores about 1 after one step in every channel. Anything that
        broadcasts against the states.
      latitude_weights: Area weight of each row, mean 1.
      weights: Weight of each channel, mean 1.

    Returns:
      mean over batch, time, lat, lon and state of ``latitude_weights * weights * ((forecast - truth) / unit)^2``.
    """
    error = (forecast - truth) / unit
    return jnp.mean(latitude_weights[:, None, None] * weights * error**2)
