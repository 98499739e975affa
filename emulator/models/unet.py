"""A U-Net on the sphere (Ronneberger et al. 2015, with residual blocks).

    patches -> [blocks, halve] x levels -> [double, join skip, blocks] x levels -> head -> patches back

The finest level works on patches of ``patch x patch`` cells: the same arithmetic then buys ``patch`` times the
channels, in larger and hence faster matrix products. Detail that does not fit the latent channels reaches the output
through a linear path from the patched input to the head.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from data_prep.errors import ConfigError
from data_prep.grid import Grid
from emulator.config import UNetConfig
from emulator.models.layers import (
    Boundary,
    ResidualBlock,
    depth_to_space,
    pad_sphere,
    space_to_depth,
)


@dataclass(frozen=True)
class Frame:
    """How many rows and columns are added around a grid so that patches and levels divide it."""

    rows: tuple[int, int]
    columns: tuple[int, int]

    @classmethod
    def of(cls, grid: Grid, factor: int) -> Frame:
        """The smallest frame that makes both sides multiples of ``factor``.

        Raises:
          ConfigError: a grid that goes round the globe cannot be divided: a frame would break the circle.
        """
        n_rows, n_columns = grid.shape
        needed = 2 * factor if grid.is_global else factor  # the way over a pole needs an even number at every level
        if grid.periodic and n_columns % needed:
            raise ConfigError(
                f"model: {n_columns} longitudes around the globe are no multiple of {needed} "
                "(patch * 2^(levels - 1), twice that with poles); choose a smaller patch or fewer multipliers"
            )
        return cls(_split(-n_rows % factor), _split(-n_columns % factor))

    def framed(self, grid: Grid) -> tuple[int, int]:
        """Rows and columns of the grid with its frame."""
        return grid.shape[0] + sum(self.rows), grid.shape[1] + sum(self.columns)


def _split(extra: int) -> tuple[int, int]:
    return extra // 2, extra - extra // 2


class UNet(nnx.Module):
    """The network: fields of ``n_in`` channels to fields of ``n_out`` channels on the same grid, zero at the start."""

    def __init__(self, config: UNetConfig, n_in: int, n_out: int, grid: Grid, *, dtype: DTypeLike, rngs: nnx.Rngs):
        """Makes all parameters.

        Args:
          config: Patch, widths, blocks.
          n_in, n_out: Channels.
          grid: The grid of the fields.
          dtype: Compute precision; parameters and output are float32.
          rngs: Source of the initial parameters.

        Raises:
          ConfigError: patch and levels do not fit the grid.
        """
        widths = [config.width * m for m in config.multipliers]
        levels = len(widths)
        self.patch = config.patch
        self.dtype = dtype
        self.boundary = Boundary.of(grid)
        self.frame = Frame.of(grid, config.patch * 2 ** (levels - 1))
        # Latent cells lie between poles: with pole rows the frame shifts them by up to half a cell, which is let be.
        latent = Boundary(self.boundary.periodic, "none" if self.boundary.pole == "none" else "beyond")

        def linear(n_from: int, n_to: int, *, zero: bool = False, bias: bool = True) -> nnx.Linear:
            init = nnx.initializers.zeros if zero else nnx.initializers.lecun_normal()
            return nnx.Linear(n_from, n_to, use_bias=bias, kernel_init=init, dtype=dtype, rngs=rngs)

        def blocks(width: int) -> nnx.List:
            return nnx.List([ResidualBlock(width, latent, dtype=dtype, rngs=rngs) for _ in range(config.blocks)])

        deep_in, deep_out = n_in * config.patch**2, n_out * config.patch**2
        self.embed = linear(deep_in, widths[0])
        self.encoder = nnx.List([blocks(w) for w in widths])
        self.halve = nnx.List([linear(4 * a, b) for a, b in pairwise(widths)])
        self.double = nnx.List([linear(b, 4 * a) for a, b in pairwise(widths)])
        self.join = nnx.List([linear(2 * w, w) for w in widths[:-1]])
        self.decoder = nnx.List([blocks(w) for w in widths[:-1]])
        self.norm = nnx.RMSNorm(widths[0], dtype=dtype, rngs=rngs)
        self.head = linear(widths[0], deep_out, zero=True)
        self.shortcut = linear(deep_in, deep_out, zero=True, bias=False)

    def __call__(self, x: Float[Array, "batch lat lon channel"]) -> Float[Array, "batch lat lon out"]:
        """Applies the network."""
        rows, columns = x.shape[1:3]
        framed = pad_sphere(x.astype(self.dtype), self.frame.rows, self.frame.columns, self.boundary)
        patches = space_to_depth(framed, self.patch)
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
        out = depth_to_space(self.head(self.norm(h)) + self.shortcut(patches), self.patch)
        south, west = self.frame.rows[0], self.frame.columns[0]
        return out[:, south : south + rows, west : west + columns].astype(jnp.float32)


def matmul_flops(config: UNetConfig, n_in: int, n_out: int, grid: Grid) -> int:
    """Floating-point operations of all matrix products and convolutions; see ``emulator.models.forward_flops``.

    Raises:
      ConfigError: patch and levels do not fit the grid.
    """
    widths = [config.width * m for m in config.multipliers]
    cells = math.prod(Frame.of(grid, config.patch * 2 ** (len(widths) - 1)).framed(grid)) // config.patch**2
    deep_in, deep_out = n_in * config.patch**2, n_out * config.patch**2
    total = cells * (deep_in * widths[0] + widths[0] * deep_out + deep_in * deep_out)  # embed, head, shortcut
    for level, width in enumerate(widths):
        is_coarsest = level == len(widths) - 1
        here = cells // 4**level
        total += here * 9 * width**2 * 2 * config.blocks * (1 if is_coarsest else 2)  # encoder, decoder
        if not is_coarsest:
            total += here // 4 * 4 * width * widths[level + 1] * 2  # halve, double
            total += here * 2 * width * width  # join
    return 2 * total
