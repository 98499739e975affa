"""A spherical Fourier neural operator (Bonev et al. 2023, arXiv:2306.03838), pre-norm; global grids only.

    embed + latitude -> [x + filter(norm(x)), x + mlp(norm(x))] x depth -> head

A filter takes all channels to spherical harmonics, mixes them by a complex matrix of each degree, and comes back: a
convolution over the whole sphere. The MLP works on every cell by itself. Scales beyond the truncation pass through the
residual path, the MLPs and the head.
"""

from __future__ import annotations

import math
from functools import partial

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from data_prep.grid import Grid
from emulator.config import SpectralConfig
from emulator.models.layers import (
    N_ZONAL,
    GatedMLP,
    Head,
    Norm,
    hidden_channels,
    linear,
    refuse_regional,
    zonal_features,
)
from emulator.models.spectral_filter import SpectralFilter, filter_flops
from emulator.models.spherical_harmonics import SphericalHarmonics, check_truncation, highest_truncation


def _truncation(config: SpectralConfig, grid: Grid) -> int:
    """The truncation of a config on a grid.

    Raises:
      ConfigError: the grid is regional or does not resolve the truncation, or that is too high for one program.
    """
    refuse_regional(grid, config.kind)
    finest = min((2 * grid.shape[0] - 1) // 3, highest_truncation(*grid.shape))
    return check_truncation(config.truncation or finest, *grid.shape, grid.describe(), "model.truncation")


class Block(nnx.Module):
    """Filter and MLP, each added to what it reads; both begin as nothing."""

    def __init__(
        self, config: SpectralConfig, truncation: int, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs
    ) -> None:
        width = config.width
        self.filter_norm = Norm(width, dtype=dtype, rngs=rngs)
        self.filter = SpectralFilter(width, truncation, dtype=dtype, rngs=rngs)
        self.mlp_norm = Norm(width, dtype=dtype, rngs=rngs)
        self.mlp = GatedMLP(width, hidden_channels(width, config.mlp_ratio), dtype=dtype, rngs=rngs)

    def __call__(
        self, x: Float[Array, "batch lat lon channel"], harmonics: SphericalHarmonics
    ) -> Float[Array, "batch lat lon channel"]:
        """Applies the block."""
        x = x + self.filter(self.filter_norm(x), harmonics)
        return x + self.mlp(self.mlp_norm(x))


class SpectralNetwork(nnx.Module):
    """The network: fields of ``n_in`` channels to fields of ``n_out`` channels on the same grid, zero at the start."""

    def __init__(
        self, config: SpectralConfig, n_in: int, n_out: int, grid: Grid, *, dtype: DTypeLike, rngs: nnx.Rngs
    ) -> None:
        """Makes all parameters.

        Args:
          config: Width, depth, truncation.
          n_in, n_out: Channels.
          grid: The grid of the fields.
          dtype: Compute precision; parameters and output are float32.
          rngs: Source of the initial parameters.

        Raises:
          ConfigError: the grid is regional or does not resolve the truncation.
        """
        self.grid = grid
        self.truncation = _truncation(config, grid)
        self.dtype = dtype
        block = partial(Block, config, self.truncation, dtype=dtype, rngs=rngs)
        self.embed = linear(n_in, config.width, dtype=dtype, rngs=rngs)
        self.place = linear(N_ZONAL, config.width, bias=False, dtype=dtype, rngs=rngs)
        self.blocks = nnx.List([block() for _ in range(config.depth)])
        self.head = Head(config.width, n_in, n_out, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "batch lat lon channel"]) -> Float[Array, "batch lat lon out"]:
        """Applies the network."""
        harmonics = SphericalHarmonics.of(self.grid, self.truncation)
        places = zonal_features(np.sin(np.radians(self.grid.latitude)))
        x = x.astype(self.dtype)
        h = self.embed(x) + self.place(jnp.asarray(places))[:, None]
        for block in self.blocks:
            h = block(h, harmonics)
        return self.head(h, x)


def matmul_flops(config: SpectralConfig, n_in: int, n_out: int, grid: Grid) -> int:
    """Floating-point operations of all matrix products; see ``emulator.models.forward_flops``.

    Raises:
      ConfigError: the grid is regional or does not resolve the truncation.
    """
    width, cells, rows = config.width, math.prod(grid.shape), grid.shape[0]
    filtering = filter_flops(_truncation(config, grid), width, *grid.shape)
    mlp = 3 * cells * width * hidden_channels(width, config.mlp_ratio)
    ends = cells * (n_in * width + width * n_out + n_in * n_out) + rows * N_ZONAL * width
    return 2 * (config.depth * (filtering + mlp) + ends)
