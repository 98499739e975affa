"""Layers on the sphere: padding that goes round the globe and over the poles, and the convolution built on it.

Arrays are ``(batch, lat, lon, channel)`` with latitude and longitude ascending.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from data_prep.grid import Grid
from emulator.models.halo import rows_beyond

_LAYOUT = ("NHWC", "HWIO", "NHWC")
_POLE_TOLERANCE_DEG = 1e-3


@dataclass(frozen=True)
class Boundary:
    """What lies beyond the edges of a grid.

    Attributes:
      periodic: Longitudes go round the globe; otherwise the outer columns are repeated.
      pole: ``beyond`` where each pole lies half a spacing beyond the outer row (Gaussian and cell-centred grids),
        ``on_row`` where the outer rows are the poles themselves, ``none`` where the outer rows are repeated.
    """

    periodic: bool
    pole: Literal["none", "beyond", "on_row"]

    def __post_init__(self) -> None:
        if self.pole != "none" and not self.periodic:
            raise ValueError("a grid goes over the poles only if it goes round the globe")

    @classmethod
    def of(cls, grid: Grid) -> Boundary:
        """The boundary of a grid; regional grids have neither wrap nor poles."""
        if not grid.is_global:
            return cls(grid.periodic, "none")
        on_row = max(grid.latitude[0] + 90, 90 - grid.latitude[-1]) < _POLE_TOLERANCE_DEG
        return cls(True, "on_row" if on_row else "beyond")


def pad_sphere(
    x: Float[Array, "batch lat lon channel"],
    rows: tuple[int, int],
    columns: tuple[int, int],
    boundary: Boundary,
) -> Float[Array, "batch padded_lat padded_lon channel"]:
    """Continues fields beyond the edges of their grid.

    A meridian goes on beyond a pole as the opposite meridian: the row ``k`` beyond the pole is the row ``k`` before it,
    turned by 180 degrees. This is exact for scalars. Components of vectors change sign there; latent channels have no
    such type, so they are all treated as scalars, and the network learns what to do with wind next to a pole.

    Args:
      x: Fields.
      rows: How many rows to add in the south and in the north, at most as many as there are (one less with pole rows).
      columns: How many columns to add in the west and in the east, at most as many as there are.
      boundary: What lies beyond the edges.

    Raises:
      ValueError: more is asked for than there is, or the fields go over the poles with an odd number of longitudes.
    """
    (south, north), (west, east) = rows, columns
    n_rows, n_columns = x.shape[1:3]
    skip = 1 if boundary.pole == "on_row" else 0
    if south or north:
        if boundary.pole == "none":
            beyond_south, beyond_north = jnp.repeat(x[:, :1], south, axis=1), jnp.repeat(x[:, -1:], north, axis=1)
        else:
            if max(south, north) > n_rows - skip:
                raise ValueError(f"padding by {max(south, north)} rows, but there are {n_rows}")
            if n_columns % 2:
                raise ValueError(f"the way over a pole needs an even number of longitudes, there are {n_columns}")
            beyond_south = jnp.roll(x[:, skip : skip + south][:, ::-1], n_columns // 2, axis=2)
            beyond_north = jnp.roll(x[:, n_rows - skip - north : n_rows - skip][:, ::-1], n_columns // 2, axis=2)
        beyond_south, beyond_north = rows_beyond(x, beyond_south, beyond_north)
        x = jnp.concatenate([beyond_south, x, beyond_north], axis=1)
    if not boundary.periodic:
        return jnp.pad(x, ((0, 0), (0, 0), (west, east), (0, 0)), mode="edge")
    if max(west, east) > n_columns:
        raise ValueError(f"padding by {max(west, east)} columns, but there are {n_columns}")
    return jnp.concatenate([x[:, :, n_columns - west :], x, x[:, :, :east]], axis=2)


@jax.custom_vjp
def convolve3x3(
    padded: Float[Array, "batch lat_plus_2 lon_plus_2 channel"], kernel: Float[Array, "3 3 channel out"]
) -> Float[Array, "batch lat lon out"]:
    """Convolution of fields that were padded by one cell with a 3 x 3 kernel.

    The gradient is our own for the sake of processors: XLA turns the gradient of the kernel into a convolution with a
    window as large as the field, which its CPU code runs at 30 GFLOP/s on two cores, while nine matrix products, one
    for each offset, reach 100 (16 x 16 x 32 cells, 96 channels). Accelerators keep the convolution.
    """
    return _valid_convolution(padded, kernel, 0)


def _valid_convolution(x: Array, kernel: Array, padding: int) -> Array:
    pads = [(padding, padding), (padding, padding)]
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), pads, dimension_numbers=_LAYOUT)


def _convolve3x3_forward(padded: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _valid_convolution(padded, kernel, 0), (padded, kernel)


def _convolve3x3_backward(residuals: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array]:
    padded, kernel = residuals
    to_padded = _valid_convolution(cotangent, kernel[::-1, ::-1].swapaxes(2, 3), 2)
    to_kernel = jax.lax.platform_dependent(
        padded, cotangent, cpu=_kernel_gradient_by_offsets, default=_kernel_gradient_by_convolution
    )
    return to_padded, to_kernel.astype(kernel.dtype)


def _kernel_gradient_by_offsets(padded: Array, cotangent: Array) -> Array:
    rows, columns, n_out = cotangent.shape[1:]
    transposed = cotangent.reshape(-1, n_out).T
    products = [
        (transposed @ padded[:, i : i + rows, j : j + columns].reshape(-1, padded.shape[-1])).T
        for i in range(3)
        for j in range(3)
    ]
    return jnp.stack(products).reshape(3, 3, padded.shape[-1], n_out)


def _kernel_gradient_by_convolution(padded: Array, cotangent: Array) -> Array:
    # batch plays the summed channel, channels play the batch
    return jax.lax.conv_general_dilated(padded, cotangent, (1, 1), "VALID", dimension_numbers=("CHWN", "IHWO", "HWNC"))


convolve3x3.defvjp(_convolve3x3_forward, _convolve3x3_backward)


class SphereConv(nnx.Module):
    """3 x 3 convolution that continues its input over the edges of the grid; no bias (a norm or a sum follows)."""

    def __init__(
        self,
        n_in: int,
        n_out: int,
        boundary: Boundary,
        *,
        zero: bool = False,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        """Makes the kernel.

        Args:
          n_in, n_out: Channels.
          boundary: What lies beyond the edges.
          zero: Begin with a kernel of zeros, so that a residual branch begins as nothing.
          dtype: Compute precision; the kernel is kept in float32.
          rngs: Source of the initial kernel.
        """
        init = nnx.initializers.zeros if zero else nnx.initializers.lecun_normal()
        self.kernel = nnx.Param(init(rngs.params(), (3, 3, n_in, n_out), jnp.float32))
        self.boundary = boundary
        self.dtype = dtype

    def __call__(self, x: Float[Array, "batch lat lon channel"]) -> Float[Array, "batch lat lon out"]:
        """Convolves."""
        padded = pad_sphere(x.astype(self.dtype), (1, 1), (1, 1), self.boundary)
        return convolve3x3(padded, self.kernel[...].astype(self.dtype))


class ResidualBlock(nnx.Module):
    """``x + conv(silu(conv(norm(x))))``, pre-norm, with the second convolution starting at zero.

    The norm is the root mean square over channels of one cell (Zhang and Sennrich 2019): it needs one pass and knows
    nothing of the size of the grid, so a region and the globe are treated alike.
    """

    def __init__(self, width: int, boundary: Boundary, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs) -> None:
        self.norm = nnx.RMSNorm(width, dtype=dtype, rngs=rngs)
        self.first = SphereConv(width, width, boundary, dtype=dtype, rngs=rngs)
        self.second = SphereConv(width, width, boundary, zero=True, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "batch lat lon channel"]) -> Float[Array, "batch lat lon channel"]:
        """Adds the branch."""
        return x + self.second(nnx.silu(self.first(self.norm(x))))


def space_to_depth(
    x: Float[Array, "batch lat lon channel"], size: int
) -> Float[Array, "batch coarse_lat coarse_lon deep_channel"]:
    """Gathers blocks of ``size x size`` cells into the channels of one; ``depth_to_space`` is the inverse."""
    b, h, w, c = x.shape
    x = x.reshape(b, h // size, size, w // size, size, c).swapaxes(2, 3)
    return x.reshape(b, h // size, w // size, size * size * c)


def depth_to_space(
    x: Float[Array, "batch coarse_lat coarse_lon deep_channel"], size: int
) -> Float[Array, "batch lat lon channel"]:
    """Spreads the channels of a cell over ``size x size`` cells."""
    b, h, w, c = x.shape
    x = x.reshape(b, h, w, size, size, c // size**2).swapaxes(2, 3)
    return x.reshape(b, h * size, w * size, c // size**2)


def count_parameters(params: nnx.State) -> int:
    """How many numbers a model learns."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))
