"""Rows from the neighbours, where the latitudes of a field are shared among devices.

Training splits every field into bands of latitude, one a device, and runs the network on each band by itself
(``jax.shard_map`` over the axis ``LATITUDE_AXIS``; see ``emulator/training/devices.py``). What lies beyond the edge of
a band is then either beyond the edge of the grid or in the neighbour's memory. Asking for it by hand keeps the traffic
at the rows themselves: XLA's own partitioner gathered whole fields for the padding over the poles (60 gathers for a
U-Net of two levels, two steps and their gradient; now none, and 24 permutations).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

LATITUDE_AXIS = "space"
"""Name of the mesh axis that latitudes are split over."""


def latitude_bands() -> int:
    """How many devices share the latitudes of the fields at hand: 1 outside of ``jax.shard_map``."""
    mesh = jax.sharding.get_abstract_mesh()
    return mesh.shape[LATITUDE_AXIS] if LATITUDE_AXIS in mesh.manual_axes else 1


def rows_beyond(
    x: Float[Array, "batch lat lon channel"],
    south: Float[Array, "batch south lon channel"],
    north: Float[Array, "batch north lon channel"],
) -> tuple[Float[Array, "batch south lon channel"], Float[Array, "batch north lon channel"]]:
    """What lies beyond a band: the neighbours' rows, and beyond the first and last band what the caller says.

    Args:
      x: The fields of this band.
      south, north: What lies beyond the edges of the grid; their lengths say how many rows are wanted, no more than a
        band has.

    Returns:
      As ``south`` and ``north``.
    """
    bands = latitude_bands()
    if bands == 1:
        return south, north
    band = jax.lax.axis_index(LATITUDE_AXIS)
    northwards = [(i, i + 1) for i in range(bands - 1)]
    southwards = [(i + 1, i) for i in range(bands - 1)]
    if south.shape[1]:
        below = jax.lax.ppermute(x[:, x.shape[1] - south.shape[1] :], LATITUDE_AXIS, northwards)
        south = jnp.where(band == 0, south, below)
    if north.shape[1]:
        above = jax.lax.ppermute(x[:, : north.shape[1]], LATITUDE_AXIS, southwards)
        north = jnp.where(band == bands - 1, north, above)
    return south, north


def roll_rows(x: Float[Array, "batch lat lon channel"], shift: int) -> Float[Array, "batch lat lon channel"]:
    """``jnp.roll`` along the latitudes of the whole grid.

    Args:
      x: The fields of this band.
      shift: By how many rows, northwards where positive; no more than a band has.
    """
    bands = latitude_bands()
    if bands == 1:
        return jnp.roll(x, shift, axis=1)
    step = 1 if shift > 0 else -1
    to_neighbour = [(i, (i + step) % bands) for i in range(bands)]
    leaving = x[:, x.shape[1] - shift :] if shift > 0 else x[:, :-shift]
    arriving = jax.lax.ppermute(leaving, LATITUDE_AXIS, to_neighbour)
    parts = [arriving, x[:, : x.shape[1] - shift]] if shift > 0 else [x[:, -shift:], arriving]
    return jnp.concatenate(parts, axis=1)


def rows_of_band(rows: Shaped[np.ndarray, "row ..."]) -> Shaped[Array, "band_row ..."]:
    """This band's share of something known for all rows of the grid, or of its patches or windows.

    Raises:
      ValueError: the bands do not divide the rows.
    """
    bands = latitude_bands()
    if bands == 1:
        return jnp.asarray(rows)
    share, rest = divmod(rows.shape[0], bands)
    if rest:
        raise ValueError(f"{bands} bands of latitude do not divide {rows.shape[0]} rows of the network")
    return jax.lax.dynamic_slice_in_dim(jnp.asarray(rows), jax.lax.axis_index(LATITUDE_AXIS) * share, share)
