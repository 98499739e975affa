"""A U-Net on the sphere (Ronneberger et al. 2015, with residual blocks).

    patches -> [blocks, halve] x (levels - 1) -> blocks -> [double, join skip, blocks] x (levels - 1)
            -> head -> patches back (+ columns)

Convolutions see neighbours. What the whole globe does in one step (its mean wind, its longest waves, the pressure that
they carry) can pass through filters of a few spherical harmonics at the coarsest level, ``x + filter(norm(x))`` before
each of its blocks.

The finest level works on patches of ``patch x patch`` cells: the same arithmetic then buys ``patch`` times the
channels, in larger and hence faster matrix products. Detail that does not fit the latent channels reaches the output
through a linear path from the patched input to the head.

What rain, clouds and radiation do follows from one column of air, and not linearly; the channels of a patch are shared
by several. A network of columns can be added to the output: an MLP that every cell of the grid has by itself, of its
own input and of what the latent cell that it lies in makes of the surroundings.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from data_prep.errors import ConfigError
from data_prep.grid import Grid
from emulator.config import UNetConfig
from emulator.models.convolution import Boundary, Frame
from emulator.models.layers import GatedMLP, Head, Norm, ResidualBlock, depth_to_space, linear, space_to_depth
from emulator.models.spectral_filter import SpectralFilter, filter_flops
from emulator.models.spherical_harmonics import SphericalHarmonics, check_truncation


@dataclass(frozen=True)
class Coarsest:
    """The cells of the coarsest level, and how they follow the globe; hashable, so it may be jit-static.

    Attributes:
      grid: The grid.
      frame: What is added around it.
      side: Rows and columns of the framed grid in a cell.
      truncation: Of spherical harmonics on the cells.
    """

    grid: Grid
    frame: Frame
    side: int
    truncation: int

    @classmethod
    def of(cls, config: UNetConfig, grid: Grid) -> Coarsest:
        """The coarsest level of a config on a grid.

        Raises:
          ConfigError: levels, patch or harmonics do not fit the grid.
        """
        side = config.coarsest_side
        columns = 2 * side if grid.is_global else side  # the way over a pole needs an even number at every level
        why = "patch * 2^(levels - 1), twice that with poles; choose a smaller patch or fewer multipliers"
        cells = cls(grid, Frame.of(grid, side, columns, why), side, config.global_truncation)
        if cells.truncation:
            key = "model.global_truncation"
            if not grid.is_global:
                raise ConfigError(f"{key}: needs a grid that covers the globe, found {grid.describe()}; set it to 0")
            rows, columns = cells.shape
            check_truncation(cells.truncation, rows, columns, f"the coarsest level of {rows} x {columns} cells", key)
        return cells

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of cells."""
        return self.frame.cells(self.grid, self.side)

    @cached_property
    def harmonics(self) -> SphericalHarmonics:
        """On the cells. A cell lies at the mean sine of latitude of its rows; rows of the frame have no weight."""
        sines = self.frame.sin_latitude(self.grid, self.side)
        weights = np.pad(self.grid.latitude_weights, self.frame.rows).reshape(-1, self.side).sum(axis=1)
        return SphericalHarmonics.on(sines, weights, self.shape[1], self.truncation)


class GlobalFilter(nnx.Module):
    """``x + filter(norm(x))`` over all cells at once; nothing is added at the start."""

    def __init__(self, width: int, cells: Coarsest, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs) -> None:
        self.cells = cells
        self.norm = Norm(width, dtype=dtype, rngs=rngs)
        self.filter = SpectralFilter(width, cells.truncation, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "batch lat lon channel"]) -> Float[Array, "batch lat lon channel"]:
        """Adds the filtered field."""
        return x + self.filter(self.norm(x), self.cells.harmonics)


class Columns(nnx.Module):
    """The output of every cell of the grid from its input and the latent cell around it; zero at the start, float32."""

    def __init__(
        self,
        width: int,
        latent: int,
        patch: int,
        n_in: int,
        n_out: int,
        *,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        """Makes the parameters.

        Args:
          width: Channels of a cell.
          latent: Channels of a latent cell.
          patch: Cells per side of it.
          n_in, n_out: Channels of input and output of a cell.
          dtype: Compute precision.
          rngs: Source of the initial parameters.
        """
        self.patch = patch
        self.latent_norm = Norm(latent, dtype=dtype, rngs=rngs)
        self.around = linear(latent, width * patch**2, dtype=dtype, rngs=rngs)
        self.inside = linear(n_in, width, dtype=dtype, rngs=rngs)
        self.norm = Norm(width, dtype=dtype, rngs=rngs)
        self.mlp = GatedMLP(width, width, n_out, dtype=dtype, out_dtype=jnp.float32, rngs=rngs)

    def __call__(
        self, fields: Float[Array, "batch lat lon channel"], latent: Float[Array, "batch coarse_lat coarse_lon deep"]
    ) -> Float[Array, "batch lat lon out"]:
        """What is added to the output."""
        around = depth_to_space(self.around(self.latent_norm(latent)), self.patch)
        return self.mlp(self.norm(self.inside(fields) + around))


class UNet(nnx.Module):
    """The network: fields of ``n_in`` channels to fields of ``n_out`` channels on the same grid, zero at the start."""

    def __init__(
        self,
        config: UNetConfig,
        n_in: int,
        n_out: int,
        grid: Grid,
        *,
        dtype: DTypeLike,
        factors: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ) -> None:
        """Makes all parameters.

        Args:
          config: Patch, widths, blocks, filters, columns.
          n_in, n_out: Channels.
          grid: The grid of the fields.
          dtype: Compute precision; parameters and output are float32.
          factors: What convolutions multiply; see ``convolution.convolve3x3``. ``dtype`` when left out.
          rngs: Source of the initial parameters.

        Raises:
          ConfigError: patch, levels or filters do not fit the grid.
        """
        widths = [config.width * m for m in config.multipliers]
        self.patch = config.patch
        self.dtype = dtype
        self.boundary = Boundary.of(grid)
        coarsest = Coarsest.of(config, grid)
        self.frame = coarsest.frame
        # Latent cells lie between poles: with pole rows the frame shifts them by up to half a cell, which is let be.
        latent = self.boundary.of_cells

        dense = partial(linear, dtype=dtype, rngs=rngs)

        def blocks(width: int, with_filters: bool = False) -> nnx.List:
            layers: list[nnx.Module] = []
            for _ in range(config.blocks):
                if with_filters:
                    layers.append(GlobalFilter(width, coarsest, dtype=dtype, rngs=rngs))
                layers.append(ResidualBlock(width, latent, dtype=dtype, factors=factors, rngs=rngs))
            return nnx.List(layers)

        deep_in, deep_out = n_in * config.patch**2, n_out * config.patch**2
        self.embed = dense(deep_in, widths[0])
        self.encoder = nnx.List([*map(blocks, widths[:-1]), blocks(widths[-1], coarsest.truncation > 0)])
        self.halve = nnx.List([dense(4 * a, b) for a, b in pairwise(widths)])
        self.double = nnx.List([dense(b, 4 * a) for a, b in pairwise(widths)])
        self.join = nnx.List([dense(2 * w, w) for w in widths[:-1]])
        self.decoder = nnx.List([blocks(w) for w in widths[:-1]])
        self.head = Head(widths[0], deep_in, deep_out, dtype=dtype, rngs=rngs)
        columns = partial(Columns, config.column_width, widths[0], config.patch, n_in, n_out, dtype=dtype, rngs=rngs)
        self.columns = columns() if config.column_width else None

    def __call__(self, x: Float[Array, "batch lat lon channel"]) -> Float[Array, "batch lat lon out"]:
        """Applies the network."""
        fields = self.frame.add(x.astype(self.dtype), self.boundary)
        patches = space_to_depth(fields, self.patch)
        h = self.embed(patches)
        skips = []
        for level, blocks in enumerate(self.encoder):
            if level:
                skips.append(h)
                h = self.halve[level - 1](space_to_depth(h, 2))
            for block in blocks:
                h = block(h)
        for level in reversed(range(len(self.decoder))):
            h = depth_to_space(self.double[level](h), 2)
            h = self.join[level](jnp.concatenate([skips[level], h], axis=-1))
            for block in self.decoder[level]:
                h = block(h)
        out = depth_to_space(self.head(h, patches), self.patch)
        if self.columns is not None:
            out += self.columns(fields, h)
        return self.frame.remove(out)


def matmul_flops(config: UNetConfig, n_in: int, n_out: int, grid: Grid) -> int:
    """Floating-point operations of all matrix products and convolutions; see ``emulator.models.forward_flops``.

    Raises:
      ConfigError: patch, levels or filters do not fit the grid.
    """
    widths = [config.width * m for m in config.multipliers]
    coarsest = Coarsest.of(config, grid)
    cells = math.prod(coarsest.frame.framed(grid)) // config.patch**2
    deep_in, deep_out = n_in * config.patch**2, n_out * config.patch**2
    total = cells * (deep_in * widths[0] + widths[0] * deep_out + deep_in * deep_out)  # embed, head
    for level, width in enumerate(widths):
        is_coarsest = level == len(widths) - 1
        here = cells // 4**level
        total += here * 9 * width**2 * 2 * config.blocks * (1 if is_coarsest else 2)  # encoder, decoder
        if not is_coarsest:
            total += here // 4 * 4 * width * widths[level + 1] * 2  # halve, double
            total += here * 2 * width * width  # join
    if coarsest.truncation:
        total += config.blocks * filter_flops(coarsest.truncation, widths[-1], *coarsest.shape)
    if width := config.column_width:
        total += cells * config.patch**2 * width * (widths[0] + n_in + 2 * width + n_out)
    return 2 * total
