"""A U-Net on the sphere (Ronneberger et al. 2015, with residual blocks).

    patches -> [blocks, halve] x levels -> [double, join skip, blocks] x levels -> head -> patches back

The finest level works on patches of ``patch x patch`` cells: the same arithmetic then buys ``patch`` times the
channels, in larger and hence faster matrix products. Detail that does not fit the latent channels reaches the output
through a linear path from the patched input to the head.
"""

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from data_prep.grid import Grid
from emulator.config import UNetConfig
from emulator.models.layers import (
    Boundary,
    Frame,
    Head,
    ResidualBlock,
    depth_to_space,
    linear,
    space_to_depth,
)


def _frame(config: UNetConfig, grid: Grid) -> Frame:
    factor = config.patch * 2 ** (len(config.multipliers) - 1)
    # the way over a pole needs an even number of columns at every level
    return Frame.of(
        grid,
        factor,
        2 * factor if grid.is_global else factor,
        "patch * 2^(levels - 1), twice that with poles; choose a smaller patch or fewer multipliers",
    )


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
        self.patch = config.patch
        self.dtype = dtype
        self.boundary = Boundary.of(grid)
        self.frame = _frame(config, grid)
        # Latent cells lie between poles: with pole rows the frame shifts them by up to half a cell, which is let be.
        latent = Boundary(self.boundary.periodic, "none" if self.boundary.pole == "none" else "beyond")

        dense = partial(linear, dtype=dtype, rngs=rngs)

        def blocks(width: int) -> nnx.List:
            return nnx.List([ResidualBlock(width, latent, dtype=dtype, rngs=rngs) for _ in range(config.blocks)])

        deep_in, deep_out = n_in * config.patch**2, n_out * config.patch**2
        self.embed = dense(deep_in, widths[0])
        self.encoder = nnx.List([blocks(w) for w in widths])
        self.halve = nnx.List([dense(4 * a, b) for a, b in pairwise(widths)])
        self.double = nnx.List([dense(b, 4 * a) for a, b in pairwise(widths)])
        self.join = nnx.List([dense(2 * w, w) for w in widths[:-1]])
        self.decoder = nnx.List([blocks(w) for w in widths[:-1]])
        self.head = Head(widths[0], deep_in, deep_out, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "batch lat lon channel"]) -> Float[Array, "batch lat lon out"]:
        """Applies the network."""
        patches = space_to_depth(self.frame.add(x.astype(self.dtype), self.boundary), self.patch)
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
        return self.frame.remove(depth_to_space(self.head(h, patches), self.patch))


def matmul_flops(config: UNetConfig, n_in: int, n_out: int, grid: Grid) -> int:
    """Floating-point operations of all matrix products and convolutions; see ``emulator.models.forward_flops``.

    Raises:
      ConfigError: patch and levels do not fit the grid.
    """
    widths = [config.width * m for m in config.multipliers]
    cells = math.prod(_frame(config, grid).framed(grid)) // config.patch**2
    deep_in, deep_out = n_in * config.patch**2, n_out * config.patch**2
    total = cells * (deep_in * widths[0] + widths[0] * deep_out + deep_in * deep_out)  # embed, head
    for level, width in enumerate(widths):
        is_coarsest = level == len(widths) - 1
        here = cells // 4**level
        total += here * 9 * width**2 * 2 * config.blocks * (1 if is_coarsest else 2)  # encoder, decoder
        if not is_coarsest:
            total += here // 4 * 4 * width * widths[level + 1] * 2  # halve, double
            total += here * 2 * width * width  # join
    return 2 * total
