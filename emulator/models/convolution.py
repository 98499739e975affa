"""Convolutions of 3 x 3 that know the sphere: what lies beyond the poles and across the date line.

Arrays are ``(batch, lat, lon, channel)`` with latitude and longitude ascending.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from data_prep.errors import ConfigError
from data_prep.grid import Grid
from emulator.hardware.platforms import by_platform
from emulator.models.halo import rows_beyond

_LAYOUT = ("NHWC", "HWIO", "NHWC")
POLE_TOLERANCE_DEG = 1e-3


@dataclass(frozen=True)
class Boundary:
    """What lies beyond the edges of a grid.

    Attributes:
      periodic: Longitudes go round the globe; otherwise the outer columns are repeated.
      pole_rows: How many rows at the southern and at the northern end are a pole and so have no other side: none where
        the pole lies half a spacing beyond the outer row (Gaussian and cell-centred grids), or where its row was left
        out (ERA5 on 720 x 1440). ``None`` for a grid that ends before the poles, whose outer rows are repeated.
    """

    periodic: bool
    pole_rows: tuple[int, int] | None

    def __post_init__(self) -> None:
        if self.pole_rows is not None and not self.periodic:
            raise ValueError("a grid goes over the poles only if it goes round the globe")

    @classmethod
    def of(cls, grid: Grid) -> Boundary:
        """The boundary of a grid; regional grids have neither wrap nor poles."""
        if not grid.is_global:
            return cls(grid.periodic, None)
        south, north = (bool(x < POLE_TOLERANCE_DEG) for x in (grid.latitude[0] + 90, 90 - grid.latitude[-1]))
        return cls(True, (int(south), int(north)))

    @property
    def of_cells(self) -> Boundary:
        """Of cells that are made of several rows each, with the poles on their edges."""
        return Boundary(self.periodic, None if self.pole_rows is None else (0, 0))

    def most_rows(self, n_rows: int) -> int:
        """How many rows can be added at either end of a grid of so many."""
        return n_rows - max(self.pole_rows or (0, 0))


@partial(jax.jit, static_argnames=("rows", "columns", "boundary"))  # traced once for all fields of one shape
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
    if max(west, east) > n_columns and boundary.periodic:
        raise ValueError(f"padding by {max(west, east)} columns, but there are {n_columns}")
    beyond = _beyond(x, south, north, boundary) if south or north else (x[:, :0], x[:, :0])
    if not boundary.periodic:
        widths = ((0, 0), (0, 0), (west, east), (0, 0))
        return jnp.pad(jnp.concatenate([beyond[0], x, beyond[1]], axis=1), widths, mode="edge")

    def placed(part: Array, row: int, column: int) -> Array:
        ends = n_rows + south + north - row - part.shape[1], n_columns + west + east - column - part.shape[2]
        around = ((0, 0, 0), (row, ends[0], 0), (column, ends[1], 0), (0, 0, 0))
        return jax.lax.pad(part, jnp.zeros((), part.dtype), around)

    def round_the_globe(part: Array) -> Array:
        return jnp.concatenate([part[:, :, n_columns - west :], part, part[:, :, :east]], axis=2)

    # A sum of parts with zeros around them is one pass over the fields on an accelerator, where rows first and then
    # columns are two.
    parts = [
        (x, south, west),
        (x[:, :, n_columns - west :], south, 0),
        (x[:, :, :east], south, west + n_columns),
        (round_the_globe(beyond[0]), 0, 0),
        (round_the_globe(beyond[1]), south + n_rows, 0),
    ]
    first, *others = (placed(*part) for part in parts if part[0].size)
    return sum(others, first)


def _beyond(x: Array, south: int, north: int, boundary: Boundary) -> tuple[Array, Array]:
    """The rows beyond the outer ones; see ``pad_sphere``."""
    n_rows, n_columns = x.shape[1:3]
    if boundary.pole_rows is None:
        return rows_beyond(x, jnp.repeat(x[:, :1], south, axis=1), jnp.repeat(x[:, -1:], north, axis=1))
    if max(south, north) > boundary.most_rows(n_rows):
        raise ValueError(f"padding by {max(south, north)} rows, but there are {n_rows}")
    if n_columns % 2:
        raise ValueError(f"the way over a pole needs an even number of longitudes, there are {n_columns}")
    first, last = boundary.pole_rows[0], n_rows - boundary.pole_rows[1]
    beyond_south = jnp.roll(x[:, first : first + south][:, ::-1], n_columns // 2, axis=2)
    beyond_north = jnp.roll(x[:, last - north : last][:, ::-1], n_columns // 2, axis=2)
    return rows_beyond(x, beyond_south, beyond_north)


@dataclass(frozen=True)
class Frame:
    """How many rows and columns are added around a grid so that patches, levels or windows divide it."""

    rows: tuple[int, int]
    columns: tuple[int, int]

    @classmethod
    def of(cls, grid: Grid, row_factor: int, column_factor: int, why: str) -> Frame:
        """The smallest frame that makes the sides multiples of these factors.

        Args:
          grid: What is framed.
          row_factor, column_factor: What the framed sides are to be multiples of. A grid with poles needs an even
            ``column_factor``, or there would be no opposite meridian to fill rows beyond a pole from.
          why: Where ``column_factor`` comes from and what to do, for the message.

        Raises:
          ConfigError: a grid that goes round the globe cannot be divided: a frame would break the circle; one that goes
            over the poles has fewer rows than the frame would add there; or a region is smaller than its frame.
        """
        n_rows, n_columns = grid.shape
        if grid.periodic and n_columns % column_factor:
            if grid.is_global and n_columns % 2:
                why = "of an odd number none lies opposite another; take model.kind: spectral, or regrid"
            raise ConfigError(
                f"model: {n_columns} longitudes around the globe are no multiple of {column_factor} ({why})"
            )
        rows = _split(-n_rows % row_factor)
        if grid.is_global and max(rows) > Boundary.of(grid).most_rows(n_rows):
            raise ConfigError(f"model: {n_rows} rows are too few for cells of {row_factor} rows ({why})")
        frame = cls(rows, _split(-n_columns % column_factor))
        if not grid.is_global and (sum(frame.rows) > n_rows or sum(frame.columns) > n_columns):
            raise ConfigError(
                f"model: {n_rows} x {n_columns} points are too few for cells of {row_factor} x {column_factor} ({why})"
            )
        return frame

    def framed(self, grid: Grid) -> tuple[int, int]:
        """Rows and columns of the grid with its frame."""
        return grid.shape[0] + sum(self.rows), grid.shape[1] + sum(self.columns)

    def cells(self, grid: Grid, side: int) -> tuple[int, int]:
        """Rows and columns of cells of ``side x side`` points in the framed grid."""
        n_rows, n_columns = self.framed(grid)
        return n_rows // side, n_columns // side

    def sin_latitude(self, grid: Grid, side: int) -> np.ndarray:
        """Mean sine of latitude of every row of cells, ``(row,)``; rows of the frame repeat those at the edge."""
        return np.pad(np.sin(np.radians(grid.latitude)), self.rows, mode="edge").reshape(-1, side).mean(axis=1)

    def add(
        self, x: Float[Array, "batch lat lon channel"], boundary: Boundary
    ) -> Float[Array, "batch framed_lat framed_lon channel"]:
        """Fields with the frame around them."""
        return pad_sphere(x, self.rows, self.columns, boundary)

    def remove(self, x: Float[Array, "batch framed_lat framed_lon channel"]) -> Float[Array, "batch lat lon channel"]:
        """Fields without their frame."""
        (south, north), (west, east) = self.rows, self.columns
        return x[:, south : x.shape[1] - north, west : x.shape[2] - east]


def _split(extra: int) -> tuple[int, int]:
    return extra // 2, extra - extra // 2


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve3x3(
    padded: Float[Array, "batch lat_plus_2 lon_plus_2 channel"],
    kernel: Float[Array, "3 3 channel out"],
    factors: DTypeLike,
) -> Float[Array, "batch lat lon out"]:
    """Convolution of fields that were padded by one cell with a 3 x 3 kernel.

    Accelerators take it as it stands. On a CPU it and its gradients are put in other words, which XLA runs faster there
    (``scripts/benchmark.py train`` times a step).

    Args:
      padded: The fields.
      kernel: The kernel, in the same precision.
      factors: What is multiplied, here and for the gradients: that precision, or ``bfloat16`` where it is ``float32``;
        sums are in the precision of the fields.
    """
    return _multiplied(factors, _convolution, _convolution_on_cpu, _products_of_rows, padded, kernel)


def _multiplied(
    factors: DTypeLike,
    default: Callable[..., Array],
    on_cpu: Callable[..., Array],
    in_half_on_cpu: Callable[..., Array],
    *arrays: Array,
) -> Array:
    """The same by one of three ways, the last two being a CPU's, the last for factors of half the precision."""
    if jnp.dtype(factors) == arrays[0].dtype:
        return by_platform(*arrays, cpu=on_cpu, default=default)

    def rounded(*arrays: Array) -> Array:
        return default(*(x.astype(factors) for x in arrays), dtype=arrays[0].dtype)

    return by_platform(*arrays, cpu=in_half_on_cpu, default=rounded)


def _convolution(
    x: Array,
    kernel: Array,
    padding: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0)),
    dtype: DTypeLike | None = None,
) -> Array:
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), padding, dimension_numbers=_LAYOUT, preferred_element_type=dtype
    )


def _convolution_on_cpu(padded: Array, kernel: Array) -> Array:
    """Over two columns of zeros more on either side, which XLA hands to Eigen: in two thirds of the time (jax 0.10)."""
    return _convolution(padded, kernel, ((0, 0), (2, 2)))[:, :, 2:-2]


def _products_of_rows(padded: Array, kernel: Array) -> Array:
    """A matrix product, since XLA's convolutions of bfloat16 are no faster than those of float32 on a CPU.

    Rows of the kernel lie side by side on its inputs, columns on its outputs, which are shifted and added.
    """
    (batch, rows, columns, n_in), n_out = padded.shape, kernel.shape[-1]
    halves = _halves(padded)
    tall = jnp.concatenate([halves[:, i : rows - 2 + i] for i in range(3)], axis=-1)
    factor = _halves(kernel).transpose(0, 2, 1, 3).reshape(3 * n_in, 3 * n_out)
    parts = _half_product(tall.reshape(-1, 3 * n_in), factor).reshape(batch, rows - 2, columns, 3, n_out)
    west, middle, east = (parts[:, :, j : columns - 2 + j, j] for j in range(3))
    return west + middle + east


def _halves(x: Array) -> Array:
    """Rounded to bfloat16, as bits: on a CPU XLA moves bfloat16 as float32, and integers as they are."""
    return jax.lax.bitcast_convert_type(x.astype(jnp.bfloat16), jnp.uint16)


def _half_product(a: Array, b: Array) -> Array:
    """Of ``_halves``, summed in float32: to end in bfloat16 takes a CPU twice the time (jax 0.10)."""
    factors = (jax.lax.bitcast_convert_type(x, jnp.bfloat16) for x in (a, b))
    return jnp.matmul(*factors, preferred_element_type=jnp.float32)


def _convolve3x3_forward(padded: Array, kernel: Array, factors: DTypeLike) -> tuple[Array, tuple[Array, Array]]:
    return convolve3x3(padded, kernel, factors), (padded, kernel)


def _convolve3x3_backward(factors: DTypeLike, residuals: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array]:
    padded, kernel = residuals
    turned = kernel[::-1, ::-1].swapaxes(2, 3)
    to_padded = _multiplied(factors, _spread, _spread, _spread_in_products, cotangent, turned)
    to_kernel = _multiplied(
        factors, _kernel_gradient, _kernel_gradient_on_cpu, _kernel_gradient_in_half, padded, cotangent
    )
    return to_padded, to_kernel.astype(kernel.dtype)


def _spread(cotangent: Array, kernel: Array, dtype: DTypeLike | None = None) -> Array:
    return _convolution(cotangent, kernel, ((2, 2), (2, 2)), dtype)


def _spread_in_products(cotangent: Array, kernel: Array) -> Array:
    return _products_of_rows(jnp.pad(cotangent, ((0, 0), (2, 2), (2, 2), (0, 0))), kernel)


def _kernel_gradient(padded: Array, cotangent: Array, dtype: DTypeLike | None = None) -> Array:
    # batch plays the summed channel, channels play the batch
    return jax.lax.conv_general_dilated(
        padded,
        cotangent,
        (1, 1),
        "VALID",
        dimension_numbers=("CHWN", "IHWO", "HWNC"),
        preferred_element_type=dtype,
    )


def _kernel_gradient_on_cpu(padded: Array, cotangent: Array) -> Array:
    """Three matrix products, one for each row of the kernel.

    The convolution with a window as large as the field came to 30 GFLOP/s on two cores (16 x 16 x 32 cells, 96
    channels), these to 280 to 300 (8 x 24 x 48 and 8 x 16 x 32 cells).
    """
    n_rows, n_in = cotangent.shape[1], padded.shape[-1]
    wide = _columns_side_by_side(cotangent)
    return _kernel_of([padded[:, i : i + n_rows].reshape(-1, n_in).T @ wide for i in range(3)])


def _kernel_gradient_in_half(padded: Array, cotangent: Array) -> Array:
    """The same; what is turned, once for all three, is what lies in memory already."""
    n_rows, n_in = cotangent.shape[1], padded.shape[-1]
    wide = _columns_side_by_side(_halves(cotangent))
    turned = _halves(padded).transpose(3, 0, 1, 2)
    return _kernel_of([_half_product(turned[:, :, i : i + n_rows].reshape(n_in, -1), wide) for i in range(3)])


def _columns_side_by_side(cotangent: Array) -> Array:
    columns = [jnp.pad(cotangent, ((0, 0), (0, 0), (j, 2 - j), (0, 0))) for j in range(3)]
    return jnp.concatenate(columns, axis=-1).reshape(-1, 3 * cotangent.shape[-1])


def _kernel_of(products: list[Array]) -> Array:
    """The gradient from its rows, ``(channel, column * out)`` each."""
    n_in, wide = products[0].shape
    return jnp.stack(products).reshape(3, n_in, 3, wide // 3).swapaxes(1, 2)


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
        factors: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ) -> None:
        """Makes the kernel.

        Args:
          n_in, n_out: Channels.
          boundary: What lies beyond the edges.
          zero: Begin with a kernel of zeros, so that a residual branch begins as nothing.
          dtype: Compute precision; the kernel is kept in float32.
          factors: What is multiplied; see ``convolve3x3``. ``dtype`` when left out.
          rngs: Source of the initial kernel.
        """
        init = nnx.initializers.zeros if zero else nnx.initializers.lecun_normal()
        self.kernel = nnx.Param(init(rngs.params(), (3, 3, n_in, n_out), jnp.float32))
        self.boundary = boundary
        self.dtype = dtype
        self.factors = dtype if factors is None else factors

    def __call__(self, x: Float[Array, "batch lat lon channel"]) -> Float[Array, "batch lat lon out"]:
        """Convolves."""
        padded = pad_sphere(x.astype(self.dtype), (1, 1), (1, 1), self.boundary)
        return convolve3x3(padded, self.kernel[...].astype(self.dtype), self.factors)
