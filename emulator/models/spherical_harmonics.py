"""Spherical harmonic analysis and synthesis as matrix products, for networks.

A field is ``sum over l, m of sqrt(2) P_lm(sin lat) (a_lm cos(m lon) + b_lm sin(m lon))`` (without the root for m = 0):
functions of mean square 1 over the sphere, so that coefficients have the size of the field. Both directions are two
dense products, over longitudes and over latitudes. At the truncations of networks these are a small part of the
arithmetic, and work on any global grid. In float32 they keep its digits on every device: matrix units, unless told,
keep three, and a truncated field would hold what was cut off. (Libraries that offer transforms in JAX prescribe their
own samplings, or come with a physics model.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from data_prep.errors import ConfigError
from data_prep.grid import Grid
from emulator.models.layers import MOST_CONSTANT_BYTES, check_constants


def legendre_functions(truncation: int, sin_latitude: np.ndarray) -> np.ndarray:
    """Associated Legendre functions of mean square 1 over the sphere, without the sign (-1)^m.

    Args:
      truncation: Highest degree and order.
      sin_latitude: Sines of latitude, ``(latitude,)``.

    Returns:
      float64 ``(order, degree, latitude)``, zero where the order exceeds the degree. By the recurrence over the degree
      (Holmes and Featherstone 2002, eq. 11), which is stable far beyond the truncations used here.
    """
    x = np.asarray(sin_latitude, np.float64)
    n = truncation + 1
    p = np.zeros((n, n, x.size))
    p[0, 0] = 1.0
    for m in range(1, n):
        p[m, m] = np.sqrt((2 * m + 1) / (2 * m)) * np.sqrt(1 - x**2) * p[m - 1, m - 1]
    for m in range(n):
        for degree in range(m + 1, n):
            a = np.sqrt((4 * degree**2 - 1) / (degree**2 - m**2))
            b = np.sqrt(((degree - 1) ** 2 - m**2) / (4 * (degree - 1) ** 2 - 1))
            p[m, degree] = a * (x * p[m, degree - 1] - b * p[m, degree - 2])  # b is 0 in the first step
    return p


def highest_truncation(rows: int, columns: int) -> int:
    """The highest triangular truncation whose coefficients a global grid of so many cells tells apart."""
    return min(rows - 2, (columns - 1) // 2)


def check_truncation(truncation: int, rows: int, columns: int, what: str, key: str) -> int:
    """The truncation itself, where a global grid resolves it and its Legendre functions are no burden.

    Args:
      truncation: To be checked.
      rows, columns: Of the grid.
      what: The grid in words.
      key: Of the config that asks for it.

    Raises:
      ConfigError: they are not so; the config's ``key`` is named, and what it can be at most.
    """
    most = highest_truncation(rows, columns)
    if truncation > most:
        raise ConfigError(f"{key}: {truncation}, but {what} resolves {most} at most")
    per_pair = 2 * 4 * rows  # bytes of a degree and order, there and back
    check_constants(
        per_pair * (truncation + 1) ** 2,
        f"{key}: {truncation} on {what}",
        f"choose {math.isqrt(MOST_CONSTANT_BYTES // per_pair) - 1} at most",
    )
    return truncation


@dataclass(frozen=True, eq=False)
class SphericalHarmonics:
    """Transforms between a global grid and the coefficients of a triangular truncation.

    Coefficients are ``(batch, degree, order, part, channel)``: part 0 goes with cosines, part 1 with sines.

    Attributes:
      longitudinal: Cosines and sines, ``(part, order, longitude)``.
      meridional: Legendre functions, ``(order, degree, latitude)``.
      meridional_analysis: Their pseudo-inverse for fields weighted by area, ``(order, degree, latitude)``: exact for
        fields within the truncation on any latitudes, and the least-squares fit to others.
    """

    longitudinal: np.ndarray
    meridional: np.ndarray
    meridional_analysis: np.ndarray

    @classmethod
    @lru_cache(maxsize=4)
    def of(cls, grid: Grid, truncation: int) -> SphericalHarmonics:
        """The transforms of a global grid; longitudes are counted from its first column."""
        return cls.on(np.sin(np.radians(grid.latitude)), grid.latitude_weights, grid.shape[1], truncation)

    @classmethod
    def on(cls, sin_latitude: np.ndarray, weights: np.ndarray, n_columns: int, truncation: int) -> SphericalHarmonics:
        """The transforms on rows at these sines of latitude, with these area weights, each of so many cells."""
        meridional = legendre_functions(truncation, sin_latitude)
        root_weights = np.sqrt(weights)
        analysis = np.zeros_like(meridional)
        for m in range(truncation + 1):
            analysis[m, m:] = np.linalg.pinv(root_weights[:, None] * meridional[m, m:].T) * root_weights
        angle = 2 * np.pi / n_columns * np.arange(truncation + 1)[:, None] * np.arange(n_columns)
        scale = np.where(np.arange(truncation + 1) == 0, 1.0, np.sqrt(2.0))[:, None]
        longitudinal = scale * np.stack([np.cos(angle), np.sin(angle)])
        return cls(*(a.astype(np.float32) for a in (longitudinal, meridional, analysis)))

    def analyse(
        self, x: Float[Array, "batch lat lon channel"], dtype: DTypeLike = jnp.float32
    ) -> Float[Array, "batch degree order 2 channel"]:
        """Coefficients of fields; ``dtype`` is the compute precision."""
        n_columns = self.longitudinal.shape[-1]
        waves = _product("byxc,tmx->bytmc", x, self.longitudinal / n_columns, dtype)
        return _product("bytmc,mly->blmtc", waves, self.meridional_analysis, dtype)

    def synthesise(
        self, z: Float[Array, "batch degree order 2 channel"], dtype: DTypeLike = jnp.float32
    ) -> Float[Array, "batch lat lon channel"]:
        """Fields of coefficients; ``dtype`` is the compute precision."""
        waves = _product("blmtc,mly->bytmc", z, self.meridional, dtype)
        return _product("bytmc,tmx->byxc", waves, self.longitudinal, dtype)


def _product(subscripts: str, x: Array, basis: np.ndarray, dtype: DTypeLike) -> Array:
    exact = jax.lax.Precision.HIGHEST if jnp.dtype(dtype) == jnp.float32 else None
    return jnp.einsum(subscripts, x, jnp.asarray(basis, dtype), precision=exact)
