"""The spherical truncation of what a network gives, by channel.

A network that works on patches or cells can put power at scales where the data have none, and what it puts there feeds
on itself from step to step. Fields of a spectral model have nothing beyond its truncation; with this the changes that a
network makes to them have nothing there either, whatever its weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from data_prep.errors import ConfigError
from data_prep.grid import Grid
from data_prep.spec import StateSpec
from emulator.models.spherical_harmonics import SphericalHarmonics, check_truncation


@dataclass(frozen=True)
class Truncation:
    """Projects some channels onto spherical harmonics, each up to its own degree. Hashable, so it may be jit-static.

    Attributes:
      grid: Of the fields; global.
      channels: Which channels, ascending.
      degrees: The highest degree and order of each of them.
    """

    grid: Grid
    channels: tuple[int, ...]
    degrees: tuple[int, ...]

    @classmethod
    def of(cls, by_variable: Mapping[str, int], spec: StateSpec, grid: Grid) -> Truncation | None:
        """The truncation that a config asks for; ``None`` where it asks for none.

        Args:
          by_variable: Highest degree by variable of the state.
          spec, grid: The state, and where.

        Raises:
          ConfigError: a variable is not of the state, or the grid is regional or too coarse.
        """
        if not by_variable:
            return None
        if not grid.is_global:
            raise ConfigError(f"model.output_truncation needs a grid that covers the globe, found {grid.describe()}")
        names = [channel.variable for channel in spec.state_channels]
        for name, degree in by_variable.items():
            if name not in names:
                known = ", ".join(dict.fromkeys(names))
                raise ConfigError(f"model.output_truncation.{name}: the state has no such variable; it has {known}")
            check_truncation(degree, grid, f"model.output_truncation.{name}")
        chosen = [(i, by_variable[name]) for i, name in enumerate(names) if name in by_variable]
        channels, degrees = zip(*chosen, strict=True)
        return cls(grid, channels, degrees)

    def __call__(self, fields: Float[Array, "batch lat lon channel"]) -> Float[Array, "batch lat lon channel"]:
        """The fields with nothing beyond the truncation, in float32; channels without one as they are."""
        harmonics = SphericalHarmonics.of(self.grid, max(self.degrees))
        chosen = np.array(self.channels)
        keep = np.arange(max(self.degrees) + 1)[:, None] <= np.array(self.degrees)
        z = harmonics.analyse(fields[..., chosen]) * jnp.asarray(keep, jnp.float32)[:, None, None]
        return fields.at[..., chosen].set(harmonics.synthesise(z))
