"""A plain transformer on the sphere (Vaswani et al. 2017; Dosovitskiy et al. 2021), pre-norm, with gated MLPs.

    patches -> embed + latitude -> [x + attention(norm(x)), x + mlp(norm(x))] x depth -> head -> patches back

Where a patch lies enters twice. Zonal spherical harmonics of its latitude are added to its channels. And queries and
keys are rotated by angles that grow with longitude and latitude (rotary positions, Su et al. 2021), so that attention
depends on differences; along longitude the wave numbers are whole, so the difference goes round the globe without a
seam. Nothing else tells one meridian from another: turning input and static fields by whole patches turns the output.

What is global, like the calendar or the length of a step, comes as input channels, as to every model here.

With ``attention: windowed`` a patch sees its window of rows and columns (Liu et al. 2021), so that its cost does not
grow with the grid. Every other block shifts the windows by half their sides, round the globe and over the poles: half
a window at a pole is joined with the opposite half, so no patch of a global grid is masked.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from data_prep.grid import Grid
from emulator.config import TransformerConfig
from emulator.hardware.machine import AMPERE, nvidia_capability
from emulator.models.convolution import Boundary, Frame
from emulator.models.halo import roll_rows, rows_of_band
from emulator.models.layers import (
    N_ZONAL,
    GatedMLP,
    Head,
    Norm,
    depth_to_space,
    hidden_channels,
    linear,
    space_to_depth,
    zonal_features,
)

_CUDNN_LARGEST_HEAD = 128


@dataclass(frozen=True)
class Tokens:
    """The patches of a grid and the windows they lie in; hashable, so it may be jit-static.

    Attributes:
      grid: The grid.
      frame: What is added around it.
      patch: Cells per side of a patch.
      window: Rows and columns of patches in a window; with global attention all of them.
    """

    grid: Grid
    frame: Frame
    patch: int
    window: tuple[int, int]

    @classmethod
    def of(cls, config: TransformerConfig, grid: Grid) -> Tokens:
        """The patches that a config makes of a grid.

        Raises:
          ConfigError: patches or windows do not go round the globe.
        """
        patch = config.patch
        if config.attention == "global":
            columns = math.lcm(patch, 2) if grid.is_global else patch
            frame = Frame.of(grid, patch, columns, "patch, even with poles; choose another patch")
            return cls(grid, frame, patch, frame.cells(grid, patch))
        window_rows, window_columns = config.window
        columns = patch * window_columns * (2 if grid.is_global else 1)  # opposite halves meet at a pole
        why = "patch * columns of a window, twice that with poles; choose a smaller patch or window"
        return cls(grid, Frame.of(grid, patch * window_rows, columns, why), patch, (window_rows, window_columns))

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self.frame.cells(self.grid, self.patch)

    def sin_latitude(self) -> np.ndarray:
        """Mean sine of latitude of every row of patches, ``(row,)``; rows of the frame repeat those at the edge."""
        return self.frame.sin_latitude(self.grid, self.patch)

    def angles(self, n: int) -> np.ndarray:
        """Rotary angles, ``(row, column, n)``: half of them grow with the column, the others with the row.

        Waves are spaced evenly in the logarithm of their length, from the whole grid to two patches.
        """
        rows, columns = self.shape
        n_across = n // 2
        waves = np.geomspace(1, columns, n - n_across)
        if self.grid.periodic:
            waves = 2 * np.maximum(np.round(waves / 2), 1)
        along = np.pi / columns * np.arange(columns)[:, None] * waves
        across = np.pi / rows * np.arange(rows)[:, None] * np.geomspace(1, rows, n_across)
        return np.concatenate(
            [
                np.broadcast_to(along[None], (rows, columns, n - n_across)),
                np.broadcast_to(across[:, None], (rows, columns, n_across)),
            ],
            axis=-1,
        )


@dataclass(frozen=True, eq=False)
class PatchLayout:
    """How patches are laid in windows, where they are then, and who sees whom.

    Attributes:
      tokens: The patches.
      shifted: The windows are moved by half their sides.
      cos, sin: Of the rotary angles, float32 ``(window_row, window_column, token, 1, pair)``.
      mask: Whether a query sees a key, ``(window_row, window_column, 1, query, key)``; ``None`` where all do.
    """

    tokens: Tokens
    shifted: bool
    cos: np.ndarray
    sin: np.ndarray
    mask: np.ndarray | None

    @classmethod
    @lru_cache(maxsize=8)
    def of(cls, tokens: Tokens, shifted: bool, n_pairs: int) -> PatchLayout:
        """The layout of a kind of block, with ``n_pairs`` rotary angles."""
        rows, columns = tokens.shape
        order = window_order(tokens, shifted)
        angles = tokens.angles(n_pairs).reshape(rows * columns, n_pairs)[order][..., None, :]
        # Patches that a shift carried round a region are no neighbours of those they meet.
        row, column = np.divmod(order, columns)
        carried_rows = (row < tokens.window[0] // 2) & shifted & (not tokens.grid.is_global)
        carried_columns = (column < tokens.window[1] // 2) & shifted & (not tokens.grid.periodic)
        piece = 2 * carried_rows + carried_columns
        mask = (piece[..., :, None] == piece[..., None, :])[:, :, None]
        cos, sin = (f(angles).astype(np.float32) for f in (np.cos, np.sin))
        return cls(tokens, shifted, cos, sin, None if mask.all() else mask)

    def gather(self, x: Float[Array, "batch row column channel"]) -> Float[Array, "batch wr wc token channel"]:
        """Patches by window."""
        rows, columns = self.tokens.window
        if self.shifted:
            x = jnp.roll(roll_rows(x, -(rows // 2)), -(columns // 2), axis=2)
            x = self._join_over_poles(x)
        b, r, c, d = x.shape
        return (
            x.reshape(b, r // rows, rows, c // columns, columns, d)
            .swapaxes(2, 3)
            .reshape(b, r // rows, c // columns, rows * columns, d)
        )

    def scatter(self, x: Float[Array, "batch wr wc token channel"]) -> Float[Array, "batch row column channel"]:
        """Inverse of ``gather``."""
        rows, columns = self.tokens.window
        b, wr, wc, _, d = x.shape
        x = x.reshape(b, wr, wc, rows, columns, d).swapaxes(2, 3).reshape(b, wr * rows, wc * columns, d)
        if self.shifted:
            x = self._join_over_poles(x)
            x = jnp.roll(roll_rows(x, rows // 2), columns // 2, axis=2)
        return x

    def _join_over_poles(self, x: Float[Array, "b row column channel"]) -> Float[Array, "b row column channel"]:
        """Lets shifted windows go over the poles; its own inverse.

        A shift brings half a window of rows of the north pole and as many of the south pole into the last row of
        windows. Read as (pole, rows, hemisphere, columns), it becomes (hemisphere, rows, pole, columns): each window
        there then holds patches of one pole, from opposite meridians.
        """
        if not self.tokens.grid.is_global:
            return x
        rows = self.tokens.window[0]
        b, r, c, d = x.shape
        as_shifted = x.reshape(b, r // rows, 2, rows // 2, 2, c // 2, d)
        n_window_rows = self.tokens.shape[0] // rows
        at_poles = rows_of_band(np.arange(n_window_rows) == n_window_rows - 1)
        joined = jnp.where(at_poles[:, None, None, None, None, None], as_shifted.swapaxes(2, 4), as_shifted)
        return joined.reshape(x.shape)

    def rotate(
        self, x: Float[Array, "batch wr wc token head channel"]
    ) -> Float[Array, "batch wr wc token head channel"]:
        """Turns the pairs of channels ``(i, i + channel / 2)`` by the angles of each patch, in float32."""
        cos, sin = rows_of_band(self.cos), rows_of_band(self.sin)
        a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
        return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


def window_order(tokens: Tokens, shifted: bool) -> Int[np.ndarray, "window_row window_column token"]:
    """Which patch (row-major number) lies where in the windows."""
    rows, columns = tokens.window
    numbers = np.arange(math.prod(tokens.shape)).reshape(tokens.shape)
    if shifted:
        numbers = np.roll(numbers, (-(rows // 2), -(columns // 2)), axis=(0, 1))
        if tokens.grid.is_global:
            poles = numbers[-rows:].reshape(2, rows // 2, 2, -1)
            numbers[-rows:] = poles.swapaxes(0, 2).reshape(rows, -1)
    by_window = numbers.reshape(-1, rows, tokens.shape[1] // columns, columns).swapaxes(1, 2)
    return by_window.reshape(*by_window.shape[:2], rows * columns)


def attend(
    query: Float[Array, "batch window token head channel"],
    key: Float[Array, "batch window token head channel"],
    value: Float[Array, "batch window token head channel"],
    mask: Bool[Array, "window 1 token token"] | None,
) -> Float[Array, "batch window token head channel"]:
    """Softmax attention within windows: cuDNN's fused kernel where it can run, XLA's own operations elsewhere."""
    fused = mask is None and _cudnn_takes(query.dtype, query.shape[-1])

    def within(q: Array, k: Array, v: Array) -> Array:
        return jax.nn.dot_product_attention(q, k, v, mask=mask, implementation="cudnn" if fused else "xla")

    return jax.vmap(within)(query, key, value)


def _cudnn_takes(dtype: DTypeLike, head_size: int) -> bool:
    """Whether cuDNN's flash attention runs on the default device: Nvidia since Ampere, half precision, small heads."""
    if dtype not in (jnp.bfloat16, jnp.float16) or head_size % 8 or head_size > _CUDNN_LARGEST_HEAD:
        return False
    return (nvidia_capability() or 0.0) >= AMPERE


class Attention(nnx.Module):
    """Multi-head attention within windows, with queries and keys normalised (Henry et al. 2020) and then rotated."""

    def __init__(self, width: int, heads: int, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs) -> None:
        self.heads = heads
        self.dtype = dtype
        self.query_key_value = linear(width, 3 * width, bias=False, dtype=dtype, rngs=rngs)
        self.query_norm = Norm(width // heads, dtype=jnp.float32, rngs=rngs)
        self.key_norm = Norm(width // heads, dtype=jnp.float32, rngs=rngs)
        self.out = linear(width, width, zero=True, bias=False, dtype=dtype, rngs=rngs)

    def __call__(
        self, x: Float[Array, "batch row column channel"], layout: PatchLayout
    ) -> Float[Array, "batch row column channel"]:
        """Attends within the windows of a layout."""
        windows = layout.gather(x)
        b, wr, wc, t, d = windows.shape
        heads = self.query_key_value(windows).reshape(b, wr, wc, t, 3, self.heads, d // self.heads)
        query = layout.rotate(self.query_norm(heads[..., 0, :, :])).astype(self.dtype)
        key = layout.rotate(self.key_norm(heads[..., 1, :, :])).astype(self.dtype)
        query, key, value = (a.reshape(b, wr * wc, *a.shape[3:]) for a in (query, key, heads[..., 2, :, :]))
        mask = None
        if layout.mask is not None:
            mask = rows_of_band(layout.mask)
            mask = mask.reshape(wr * wc, *mask.shape[2:])
        mixed = attend(query, key, value, mask).reshape(windows.shape)
        return layout.scatter(self.out(mixed))


class Block(nnx.Module):
    """Attention and MLP, each added to what it reads; both begin as nothing."""

    def __init__(self, config: TransformerConfig, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs) -> None:
        width = config.width
        self.attention_norm = Norm(width, dtype=dtype, rngs=rngs)
        self.attention = Attention(width, config.heads, dtype=dtype, rngs=rngs)
        self.mlp_norm = Norm(width, dtype=dtype, rngs=rngs)
        self.mlp = GatedMLP(width, hidden_channels(width, config.mlp_ratio), dtype=dtype, rngs=rngs)

    def __call__(
        self, x: Float[Array, "batch row column channel"], layout: PatchLayout
    ) -> Float[Array, "batch row column channel"]:
        """Applies the block."""
        x = x + self.attention(self.attention_norm(x), layout)
        return x + self.mlp(self.mlp_norm(x))


class Transformer(nnx.Module):
    """The network: fields of ``n_in`` channels to fields of ``n_out`` channels on the same grid, zero at the start."""

    def __init__(
        self, config: TransformerConfig, n_in: int, n_out: int, grid: Grid, *, dtype: DTypeLike, rngs: nnx.Rngs
    ) -> None:
        """Makes all parameters.

        Args:
          config: Patch, width, depth, heads, windows.
          n_in, n_out: Channels.
          grid: The grid of the fields.
          dtype: Compute precision; parameters and output are float32.
          rngs: Source of the initial parameters.

        Raises:
          ConfigError: patches or windows do not fit the grid.
        """
        self.tokens = Tokens.of(config, grid)
        self.boundary = Boundary.of(grid)
        self.windowed = config.attention == "windowed"
        self.n_pairs = config.width // config.heads // 2
        self.dtype = dtype
        deep_in, deep_out = n_in * config.patch**2, n_out * config.patch**2
        self.embed = linear(deep_in, config.width, dtype=dtype, rngs=rngs)
        self.place = linear(N_ZONAL, config.width, bias=False, dtype=dtype, rngs=rngs)
        self.blocks = nnx.List([Block(config, dtype=dtype, rngs=rngs) for _ in range(config.depth)])
        self.head = Head(config.width, deep_in, deep_out, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "batch lat lon channel"]) -> Float[Array, "batch lat lon out"]:
        """Applies the network."""
        patch = self.tokens.patch
        patches = space_to_depth(self.tokens.frame.add(x.astype(self.dtype), self.boundary), patch)
        latitude = rows_of_band(zonal_features(self.tokens.sin_latitude()))
        h = self.embed(patches) + self.place(latitude)[:, None]
        for i, block in enumerate(self.blocks):
            h = block(h, PatchLayout.of(self.tokens, self.windowed and i % 2 == 1, self.n_pairs))
        return self.tokens.frame.remove(depth_to_space(self.head(h, patches), patch))


def matmul_flops(config: TransformerConfig, n_in: int, n_out: int, grid: Grid) -> int:
    """Floating-point operations of all matrix products; see ``emulator.models.forward_flops``.

    Raises:
      ConfigError: patches or windows do not fit the grid.
    """
    tokens = Tokens.of(config, grid)
    n_tokens, width = math.prod(tokens.shape), config.width
    hidden = hidden_channels(width, config.mlp_ratio)
    block = 3 * width**2 + 2 * width * math.prod(tokens.window) + width**2 + 3 * width * hidden
    deep_in, deep_out = n_in * config.patch**2, n_out * config.patch**2
    ends = deep_in * width + width * deep_out + deep_in * deep_out
    return 2 * (n_tokens * (config.depth * block + ends) + tokens.shape[0] * N_ZONAL * width)
