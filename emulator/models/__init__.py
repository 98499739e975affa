"""Networks. A model is one file here, one section in ``emulator/config.py`` and one line in ``build``."""

from __future__ import annotations

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from data_prep.grid import Grid
from emulator.config import ModelConfig
from emulator.models import unet
from emulator.models.unet import UNet


def build(
    config: ModelConfig,
    in_channels: int,
    out_channels: int,
    grid: Grid,
    rngs: nnx.Rngs,
    dtype: DTypeLike = jnp.float32,
) -> nnx.Module:
    """The network that a config asks for.

    Args:
      config: Its section.
      in_channels, out_channels: Channels of input and output.
      grid: The grid of both.
      rngs: Source of the initial parameters.
      dtype: Compute precision; parameters and output stay float32.

    Returns:
      A module that maps ``(batch, lat, lon, in_channels)`` to ``(batch, lat, lon, out_channels)``; its output is zero
      before training.

    Raises:
      ConfigError: the config does not fit the grid.
    """
    return UNet(config, in_channels, out_channels, grid, dtype=dtype, rngs=rngs)


def forward_flops(config: ModelConfig, n_in: int, n_out: int, grid: Grid) -> int:
    """Floating-point operations of the forward pass of one sample, counted from the model's arithmetic.

    Matrix products and convolutions only, a multiply-add as two: what utilisation is measured against, the same on
    every device and for every compiler.

    Args:
      config: The model's section.
      n_in, n_out: Channels of input and output.
      grid: The grid of both.

    Raises:
      ConfigError: the config does not fit the grid.
    """
    return unet.matmul_flops(config, n_in, n_out, grid)
