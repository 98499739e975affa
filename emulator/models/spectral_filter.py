"""A filter in spherical harmonics: a layer that sees the whole globe at once."""

from __future__ import annotations

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from emulator.models.spherical_harmonics import SphericalHarmonics


class SpectralFilter(nnx.Module):
    """Convolution with zonal kernels: a complex matrix for every degree, zero at the start.

    The imaginary part turns every wave by a quarter of its length, so the kernels tell east from west.
    """

    def __init__(self, width: int, truncation: int, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs) -> None:
        """Makes the kernel, ``(truncation + 1, 2 * width, width)``: a matrix for every degree.

        Args:
          width: Channels, in and out.
          truncation: Highest degree that passes; what is beyond is left out.
          dtype: Compute precision; the kernel is float32.
          rngs: Not drawn from.
        """
        self.dtype = dtype
        # real over imaginary part, so that ``(..., out)`` is a matrix from all inputs to the outputs
        self.kernel = nnx.Param(jnp.zeros((truncation + 1, 2 * width, width), jnp.float32))

    def __call__(
        self, x: Float[Array, "batch lat lon channel"], harmonics: SphericalHarmonics
    ) -> Float[Array, "batch lat lon channel"]:
        """Filters fields."""
        z = harmonics.analyse(x, self.dtype)
        cosine, sine = z[..., 0, :], z[..., 1, :]
        quarter = jnp.stack([sine, -cosine], axis=-2)
        both = jnp.concatenate([z, quarter], axis=-1)
        mixed = jnp.einsum("blmtc,lcd->blmtd", both, self.kernel[...].astype(self.dtype))
        return harmonics.synthesise(mixed, self.dtype)


def filter_flops(truncation: int, width: int, rows: int, columns: int) -> int:
    """Multiply-adds of a filter of one sample: there, mixed, and back."""
    degrees = truncation + 1
    transform = 2 * degrees * width * (rows * columns + degrees * rows)  # over longitudes, over latitudes
    return 2 * transform + 4 * degrees**2 * width**2
