"""Between spherical-harmonic states and grids: truncation of modal fields, means or interpolation of gridpoint ones.

Model arrays of jcm and dinosaur are ``(..., longitude, latitude)``; ours are ``(..., latitude, longitude)``. The turn
happens here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from dinosaur.spherical_harmonic import Grid as SpectralGrid
from dinosaur.spherical_harmonic import uv_nodal_to_vor_div_modal, vor_div_to_uv_nodal
from jcm.physics.speedy.speedy_coords import get_speedy_coords

from data_prep.grid import Grid
from data_prep.regrid_weights import (
    bilinear_latitude,
    bilinear_longitude,
    conservative_latitude,
    conservative_longitude,
)


@lru_cache
def spectral_grid(truncation: int) -> SpectralGrid:
    """The spherical-harmonic basis and quadratic Gaussian grid of a triangular truncation."""
    with jax.ensure_compile_time_eval():  # may be asked for first while something is being traced
        return get_speedy_coords(spectral_truncation=truncation).horizontal


@lru_cache
def gaussian_grid(truncation: int) -> Grid:
    """The Gaussian grid that belongs to a truncation (T21: 64 x 32, T31: 96 x 48, T42: 128 x 64)."""
    spectral = spectral_grid(truncation)
    return Grid.from_arrays(np.degrees(spectral.latitudes), np.degrees(spectral.longitudes))


def resize(modal: jax.Array, source: int, target: int) -> jax.Array:
    """Coefficients ``(..., m, l)`` of one truncation as those of another: padded with zeros, or triangularly truncated.

    At the same truncation nothing is lost: dinosaur's basis holds one total wavenumber more than its name says, and
    it is kept. Truncation to a lower ``target`` keeps total wavenumbers up to ``target``, as is usual.
    """
    if source == target:
        return modal
    columns, rows = spectral_grid(target).modal_shape
    if target > source:
        padding = [(0, 0)] * (modal.ndim - 2) + [(0, columns - modal.shape[-2]), (0, rows - modal.shape[-1])]
        return jnp.pad(modal, padding)
    return spectral_grid(target).clip_wavenumbers(modal[..., :columns, :rows], n=1)


def to_modal(field: jax.Array, truncation: int) -> jax.Array:
    """Coefficients of a gridpoint field ``(..., latitude, longitude)`` on the truncation's Gaussian grid."""
    return spectral_grid(truncation).to_modal(jnp.swapaxes(field, -1, -2))


def to_nodal(modal: jax.Array, truncation: int) -> jax.Array:
    """Gridpoint field ``(..., latitude, longitude)`` on the truncation's Gaussian grid; inverse of ``to_modal``."""
    return jnp.swapaxes(spectral_grid(truncation).to_nodal(modal), -1, -2)


def winds_to_modal(u: jax.Array, v: jax.Array, truncation: int) -> tuple[jax.Array, jax.Array]:
    """Coefficients of vorticity and divergence (s-1) of winds (m s-1) ``(..., latitude, longitude)``."""
    return uv_nodal_to_vor_div_modal(spectral_grid(truncation), jnp.swapaxes(u, -1, -2), jnp.swapaxes(v, -1, -2))


def winds_to_nodal(vorticity: jax.Array, divergence: jax.Array, truncation: int) -> tuple[jax.Array, jax.Array]:
    """Winds (m s-1) ``(..., latitude, longitude)`` of vorticity and divergence; inverse of ``winds_to_modal``.

    The winds of the highest total wavenumber reach one wavenumber further, which dinosaur cuts off unless told not to:
    with it, vorticity and divergence up to the truncation come back exactly.
    """
    u, v = vor_div_to_uv_nodal(spectral_grid(truncation), vorticity, divergence, clip=False)
    return jnp.swapaxes(u, -1, -2), jnp.swapaxes(v, -1, -2)


@partial(jax.jit, static_argnums=(1, 2))
def regrid(fields: Mapping[str, jax.Array], source: int, target: int) -> dict[str, jax.Array]:
    """Canonical fields from the Gaussian grid of one truncation to that of another, spectrally.

    Winds go through vorticity and divergence, surface pressure as its logarithm; humidity is clipped at zero. Where
    both truncations are the same, the fields lose what that truncation cannot hold.

    Args:
      fields: By canonical name, ``(..., latitude, longitude)``; both wind components or none.
      source: Truncation whose grid the fields are on.
      target: Truncation whose grid they come out on.
    """
    out: dict[str, jax.Array] = {}
    if "u_component_of_wind" in fields:
        modal = winds_to_modal(fields["u_component_of_wind"], fields["v_component_of_wind"], source)
        vorticity, divergence = (resize(m, source, target) for m in modal)
        u, v = winds_to_nodal(vorticity, divergence, target)
        out |= {"u_component_of_wind": u, "v_component_of_wind": v}
    for name, field in fields.items():
        if name in out:
            continue
        logarithm = name == "surface_pressure"
        field = to_nodal(resize(to_modal(jnp.log(field) if logarithm else field, source), source, target), target)
        out[name] = jnp.exp(field) if logarithm else field
    if "specific_humidity" in out:
        out["specific_humidity"] = jnp.maximum(out["specific_humidity"], 0.0)
    return out


@lru_cache
def _weights(source: int, target: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shares of source in target rows, of source in target columns, and of the poles in target rows; float32."""
    grids = gaussian_grid(source), gaussian_grid(target)
    axes = (
        (conservative_latitude(*grids), conservative_longitude(*grids))
        if target < source
        else (bilinear_latitude(*grids), bilinear_longitude(*grids))
    )
    latitude, longitude = (axis.matrix.toarray().astype(np.float32) for axis in axes)
    return latitude, longitude, axes[0].polar.astype(np.float32)


def with_kinks(field: Any, source: int, target: int) -> Any:
    """A gridpoint field with kinks, such as rain, ``(..., latitude, longitude)`` on another truncation's grid.

    Truncation would make it ring below zero. So cells of a coarser grid get area means, which conserve the global mean,
    and points of a finer one what is between the points around: a mean over a part of a cell would be the cell's value,
    in blocks. To the rounding of float32 on every device: matrix units, unless told, keep three digits of each factor.
    """
    if source == target:
        return field
    latitude, longitude, polar = _weights(source, target)
    product = partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
    out = product(product(latitude, field), longitude.T)
    if target < source:
        return out
    poles = field[..., jnp.array([0, -1]), :].mean(axis=-1, keepdims=True)
    return out + product(polar, poles)
