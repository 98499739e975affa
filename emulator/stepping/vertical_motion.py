"""What rising and sinking air changes: fields carried up and down and the heat of compression, as a network's input.

How fast air goes through the levels follows from the winds and surface pressure, for in sigma coordinates mass is kept
in every column; all levels together decide it, and it is multiplied with vertical differences. A network would have to
make that out of sums and activations. Vertical sums and differences are those of Simmons and Burridge (1981,
doi:10.1175/1520-0493(1981)109<0758:AEAAMC>2.0.CO;2), horizontal ones are centred.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from data_prep.errors import ConfigError
from data_prep.spec import StateSpec
from data_prep.variables import WINDS
from emulator.stepping.pytree import pytree
from emulator.stepping.vectors import OnLevels, Vectors, components, dot

MOST_SHOWN = 20.0
"""Standard deviations of a change over a step.

More is rare in truths: one value in 14,000 of SPEEDY T42 seen at T31, by six hours. In forecasts errors feed on
themselves through what is shown of the uppermost layers, for a network goes on in a straight line beyond what it has
seen: one that fell apart after four to six days did not when held within these bounds, and erred the same to three.
"""

Flat: TypeAlias = Float[Array, "batch lat lon field"]

_SURFACE_PRESSURE = "surface_pressure"
_KAPPA = 2 / 7  # gas constant over heat capacity of dry air


@pytree
@dataclass(frozen=True)
class VerticalMotion:
    """Changes a second from rising and sinking, of all prognostic fields on sigma levels. A pytree without arrays.

    Attributes:
      levels: Sigma, top first.
      surface_pressure: Its channel.
      n: How many scalars there are on levels.
      temperature: Which of them is temperature, if any.
    """

    levels: tuple[float, ...] = field(metadata={"static": True})
    surface_pressure: int = field(metadata={"static": True})
    n: int = field(metadata={"static": True})
    temperature: int | None = field(metadata={"static": True})

    @classmethod
    def of(cls, spec: StateSpec) -> VerticalMotion:
        """For the states of a spec that has winds at every level.

        Raises:
          ConfigError: they are on pressure levels, hold no surface pressure, or variables on different levels.
        """
        channels = spec.state_channels[: spec.n_prognostic]
        names = [c.variable for c in channels]
        by_name = {c.variable: spec[c.variable].levels for c in channels if c.level is not None}
        if spec.vertical != "sigma":
            raise ConfigError("model.vertical_motion: needs sigma levels (data.vertical)")
        if _SURFACE_PRESSURE not in names:
            raise ConfigError(f"model.vertical_motion: needs {_SURFACE_PRESSURE} in data.prognostic")
        if len(set(by_name.values())) > 1:
            raise ConfigError("model.vertical_motion: needs all variables of data.prognostic on the same levels")
        (levels,) = set(by_name.values())
        scalars = [name for name in by_name if name not in WINDS]
        temperature = scalars.index("temperature") if "temperature" in scalars else None
        return cls(tuple(levels), names.index(_SURFACE_PRESSURE), len(scalars), temperature)

    def __call__(
        self,
        on_levels: OnLevels,
        surface_pressure: Float[Array, "batch lat lon"],
        east: Vectors,
        north: Vectors,
        slopes: Callable[[Flat], tuple[Flat, Flat]],
    ) -> OnLevels:
        """Changes a second.

        Args:
          on_levels: Fields.
          surface_pressure: In the unit of its channel.
          east, north: Where these lie at every point.
          slopes: Gives differences eastward and northward, a metre.
        """
        wind = components(on_levels)
        eastward, northward = slopes(jnp.concatenate([*wind, surface_pressure[..., None]], axis=-1))
        of_wind = [jnp.split(x[..., :-1], 3, axis=-1) for x in (eastward, northward)]
        diverging = dot(of_wind[0], east) + dot(of_wind[1], north)
        log_slopes = [x[..., -1:] / surface_pressure[..., None] for x in (eastward, northward)]
        rising_ground = dot(wind, east) * log_slopes[0] + dot(wind, north) * log_slopes[1]

        levels = np.array(self.levels)
        edges = np.append((levels[1:] + levels[:-1]) / 2, 1.0)  # below each level
        thickness = jnp.asarray(np.diff(edges, prepend=0.0), on_levels.dtype)
        lost = (diverging + rising_ground) * thickness
        above = jnp.cumsum(lost, axis=-1)
        through = jnp.asarray(edges, lost.dtype) * above[..., -1:] - above  # the edge below, downwards
        steps = jnp.diff(on_levels, axis=-2) * through[..., :-1, None]
        nothing = jnp.zeros_like(on_levels[..., :1, :])
        both = jnp.concatenate([steps, nothing], axis=-2) + jnp.concatenate([nothing, steps], axis=-2)
        changes = -both / (2 * thickness[:, None])
        if self.temperature is None:
            return changes
        compression = rising_ground - (above - lost / 2) / jnp.asarray(levels, lost.dtype)
        at = 3 + self.temperature
        return changes.at[..., at].add(_KAPPA * on_levels[..., at] * compression)
