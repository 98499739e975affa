"""Layers that networks share: linear maps, norm, MLP, residual block, head.

Arrays are ``(batch, lat, lon, channel)`` with latitude and longitude ascending.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from data_prep.errors import ConfigError
from data_prep.grid import Grid
from emulator.models.convolution import Boundary, SphereConv

MOST_CONSTANT_BYTES = 2**29
"""Of a compiled program; XLA copies and hashes them, and a device holds them beside the weights."""

_EPSILON = 1e-6  # beside a mean square

N_ZONAL = 8
"""How many Legendre polynomials of the sine of latitude tell a network where it is."""


def linear(
    n_in: int,
    n_out: int,
    *,
    zero: bool = False,
    bias: bool = True,
    dtype: DTypeLike,
    out_dtype: DTypeLike | None = None,
    rngs: nnx.Rngs,
) -> Linear:
    """A linear map over channels.

    Args:
      n_in, n_out: Channels.
      zero: Begin with a kernel of zeros, so that a head or a residual branch begins as nothing.
      bias: Add a bias.
      dtype: Compute precision; parameters are kept in float32.
      out_dtype: What products are summed in and the output has; ``dtype`` when left out.
      rngs: Source of the initial kernel.
    """
    init = nnx.initializers.zeros if zero else nnx.initializers.lecun_normal()
    return Linear(
        n_in, n_out, use_bias=bias, kernel_init=init, dtype=dtype, preferred_element_type=out_dtype, rngs=rngs
    )


class Linear(nnx.Linear):
    """Flax's, but a bias is added in single precision.

    The gradient of a bias is a sum over the batch and all cells. Half precision does not hold it, and some GPUs would
    sum it there.
    """

    def __call__(self, inputs: Float[Array, "*place channel"], out_sharding: Any = None) -> Float[Array, "*place out"]:
        """Maps every cell."""
        x, kernel = self.promote_dtype((inputs, self.kernel[...]), dtype=self.dtype)
        along = (((x.ndim - 1,), (0,)), ((), ()))
        out = jax.lax.dot_general(
            x, kernel, along, preferred_element_type=self.preferred_element_type, out_sharding=out_sharding
        )
        return out if self.bias is None else (out.astype(jnp.float32) + self.bias[...]).astype(out.dtype)


class Norm(nnx.Module):
    """Division by the root mean square over channels, times a scale (Zhang and Sennrich 2019), in float32.

    The backward pass computes it again from its input. Kept would be three float32 arrays as large as the input, which
    in half precision are half of all that is kept.
    """

    def __init__(self, width: int, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs) -> None:
        """Makes the scale, of ones.

        Args:
          width: Channels.
          dtype: Of the output; the scale is kept in float32.
          rngs: A key is taken from it, as by every layer, so that what follows draws what it drew.
        """
        self.scale = nnx.Param(nnx.initializers.ones(rngs.params(), (width,), jnp.float32))
        self.dtype = dtype

    def __call__(self, x: Float[Array, "*place channel"]) -> Float[Array, "*place channel"]:
        """Normalises every cell."""
        return _over_root_mean_square(x, self.scale[...], self.dtype)


@partial(jax.jit, static_argnums=2)  # traced once for all norms of fields of one shape
@partial(jax.checkpoint, prevent_cse=False, static_argnums=2)
def _over_root_mean_square(x: Array, scale: Array, dtype: DTypeLike) -> Array:
    x, scale = x.astype(dtype), scale.astype(dtype)
    mean_square = jnp.square(x.astype(jnp.float32)).mean(axis=-1, keepdims=True)
    return (x * (jax.lax.rsqrt(mean_square + _EPSILON) * scale)).astype(dtype)


class GatedMLP(nnx.Module):
    """``out(silu(gate) * value)`` with gate and value from one matrix product (SwiGLU, Shazeer 2020); ends at zero."""

    def __init__(
        self,
        width: int,
        hidden: int,
        n_out: int | None = None,
        *,
        dtype: DTypeLike = jnp.float32,
        out_dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ) -> None:
        """Makes the parameters.

        Args:
          width: Channels of the input.
          hidden: Channels of gate and value.
          n_out: Channels of the output; ``width`` when left out.
          dtype: Compute precision.
          out_dtype: See ``linear``.
          rngs: Source of the initial parameters.
        """
        self.gate_and_value = linear(width, 2 * hidden, bias=False, dtype=dtype, rngs=rngs)
        self.out = linear(hidden, n_out or width, zero=True, bias=False, dtype=dtype, out_dtype=out_dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "*place channel"]) -> Float[Array, "*place out"]:
        """Applies the MLP to every cell."""
        gate, value = jnp.split(self.gate_and_value(x), 2, axis=-1)
        return self.out(nnx.silu(gate) * value)


def hidden_channels(width: int, ratio: float) -> int:
    """Hidden channels of an MLP: ``ratio * width`` rounded up to a multiple of 64, which matrix units like."""
    return 64 * math.ceil(ratio * width / 64)


class Head(nnx.Module):
    """From latent cells to the output: norm and linear map, plus a linear map of the input. Zero at the start, float32.

    The direct path carries the detail that does not fit the latent channels. Both products are summed in float32:
    the output is a change of the state, and is not rounded to the compute precision again.
    """

    def __init__(self, width: int, n_in: int, n_out: int, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs) -> None:
        """Makes the parameters.

        Args:
          width: Latent channels.
          n_in: Channels of the (patched) input.
          n_out: Channels of the (patched) output.
          dtype: Compute precision.
          rngs: Source of the initial parameters.
        """
        self.norm = Norm(width, dtype=dtype, rngs=rngs)
        to_output = partial(linear, n_out=n_out, zero=True, dtype=dtype, out_dtype=jnp.float32, rngs=rngs)
        self.latent = to_output(width)
        self.direct = to_output(n_in, bias=False)

    def __call__(
        self, latent: Float[Array, "*place channel"], inputs: Float[Array, "*place inputs"]
    ) -> Float[Array, "*place out"]:
        """The output of every cell."""
        return self.latent(self.norm(latent)) + self.direct(inputs)


def zonal_features(sin_latitude: np.ndarray) -> np.ndarray:
    """Where a place lies between the poles, as a network takes it: Legendre polynomials, float32 ``(..., N_ZONAL)``.

    These are the spherical harmonics that do not depend on longitude, of variance 1 over the sphere: smooth over the
    poles, and the same for all meridians. What distinguishes meridians (coasts, mountains) comes as static fields.
    """
    degrees = np.arange(N_ZONAL)
    return (np.polynomial.legendre.legvander(sin_latitude, N_ZONAL - 1) * np.sqrt(2 * degrees + 1)).astype(np.float32)


def check_constants(n_bytes: int, what: str, remedy: str) -> None:
    """For arrays that depend on the grid alone and are part of the compiled program, before they are made.

    Raises:
      ConfigError: they are larger than ``MOST_CONSTANT_BYTES``.
    """
    if n_bytes > MOST_CONSTANT_BYTES:
        raise ConfigError(
            f"{what}: needs {n_bytes / 2**20:.0f} MiB of constants in the program, {MOST_CONSTANT_BYTES / 2**20:.0f} "
            f"can be; {remedy}"
        )


def refuse_regional(grid: Grid, kind: str) -> None:
    """For models that need the whole sphere.

    Raises:
      ConfigError: the grid does not cover it.
    """
    if not grid.is_global:
        raise ConfigError(
            f"model.kind: {kind} needs a grid that covers the globe, found {grid.describe()}; "
            "choose unet or transformer"
        )


class ResidualBlock(nnx.Module):
    """``x + conv(silu(conv(norm(x))))``, pre-norm, with the second convolution starting at zero.

    The norm is the root mean square over channels of one cell (Zhang and Sennrich 2019): it needs one pass and knows
    nothing of the size of the grid, so a region and the globe are treated alike.
    """

    def __init__(
        self,
        width: int,
        boundary: Boundary,
        *,
        dtype: DTypeLike = jnp.float32,
        factors: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ) -> None:
        self.norm = Norm(width, dtype=dtype, rngs=rngs)
        convolution = partial(SphereConv, width, width, boundary, dtype=dtype, factors=factors, rngs=rngs)
        self.first = convolution()
        self.second = convolution(zero=True)

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


def count_parameters(params: Any) -> int:
    """How many numbers a model learns; ``params`` is any pytree of them."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))
