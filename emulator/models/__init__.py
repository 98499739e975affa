"""Networks. A model is one file here, one section in ``emulator.config.model`` and one case in each function below."""

from __future__ import annotations

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from data_prep.grid import Grid
from emulator.config import GraphConfig, ModelConfig, SpectralConfig, TransformerConfig, UNetConfig
from emulator.models import graph, spectral, transformer, unet
from emulator.models.layers import count_parameters


def build(
    config: ModelConfig,
    in_channels: int,
    out_channels: int,
    grid: Grid,
    rngs: nnx.Rngs,
    dtype: DTypeLike = jnp.float32,
    factors: DTypeLike | None = None,
) -> nnx.Module:
    """The network that a config asks for.

    Args:
      config: Its section.
      in_channels, out_channels: Channels of input and output.
      grid: The grid of both.
      rngs: Source of the initial parameters.
      dtype: Compute precision; parameters and output stay float32.
      factors: What the convolutions of a U-Net multiply; ``dtype`` when left out.

    Returns:
      A module that maps ``(batch, lat, lon, in_channels)`` to ``(batch, lat, lon, out_channels)``; its output is zero
      before training.

    Raises:
      ConfigError: the config does not fit the grid.
    """
    match config:
        case UNetConfig():
            return unet.UNet(config, in_channels, out_channels, grid, dtype=dtype, factors=factors, rngs=rngs)
        case TransformerConfig():
            return transformer.Transformer(config, in_channels, out_channels, grid, dtype=dtype, rngs=rngs)
        case SpectralConfig():
            return spectral.SpectralNetwork(config, in_channels, out_channels, grid, dtype=dtype, rngs=rngs)
        case GraphConfig():
            return graph.GraphNetwork(config, in_channels, out_channels, grid, dtype=dtype, rngs=rngs)


def parameter_count(config: ModelConfig, in_channels: int, out_channels: int, grid: Grid) -> int:
    """How many numbers the network of a config learns; arguments are those of ``build``, and nothing is drawn."""
    network = nnx.eval_shape(lambda: build(config, in_channels, out_channels, grid, nnx.Rngs(0)))
    return count_parameters(nnx.state(network, nnx.Param))


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
    match config:
        case UNetConfig():
            return unet.matmul_flops(config, n_in, n_out, grid)
        case TransformerConfig():
            return transformer.matmul_flops(config, n_in, n_out, grid)
        case SpectralConfig():
            return spectral.matmul_flops(config, n_in, n_out, grid)
        case GraphConfig():
            return graph.matmul_flops(config, n_in, n_out, grid)


def latitude_factor(config: ModelConfig) -> int | None:
    """What the rows of every device must be a multiple of where devices share the latitudes.

    Returns:
      ``None`` where the model needs all latitudes at once and cannot be split so.
    """
    if config.output_truncation or config.conserve or config.advection:
        return None
    match config:
        case UNetConfig():
            return None if config.global_truncation else config.coarsest_side
        case TransformerConfig():
            return config.patch * config.window[0] if config.attention == "windowed" else None
        case SpectralConfig() | GraphConfig():
            return None
