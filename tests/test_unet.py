"""The U-Net: persistence at the start, rotation, grids that patches do not divide, precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from data_prep.errors import ConfigError
from data_prep.grid import Grid
from emulator.config import UNetConfig
from emulator.models import build, forward_flops

TINY = UNetConfig(patch=2, width=8, multipliers=[1, 2], blocks=1)
REGION = Grid.from_arrays(np.arange(15, 77.5, 2.5), np.arange(200, 332.5, 2.5))


def randomised(n_in, n_out, grid, dtype="float32"):
    """A network with all parameters random: a fresh one is zero, and zero is equivariant to anything."""
    shapes = nnx.eval_shape(lambda: build(TINY, n_in, n_out, grid, nnx.Rngs(0), jnp.dtype(dtype)))
    graph, params = nnx.split(shapes)
    rng = np.random.default_rng(1)
    random = jax.tree.map(lambda p: 0.3 * jnp.asarray(rng.standard_normal(p.shape), p.dtype), params)
    return nnx.merge(graph, random)


def test_output_is_zero_before_training():
    model = nnx.jit(build(TINY, 5, 3, Grid.gaussian(8), nnx.Rngs(0)))
    x = jax.random.normal(jax.random.key(0), (2, 8, 16, 5))
    np.testing.assert_array_equal(model(x), np.zeros((2, 8, 16, 3), np.float32))


def test_rotation_by_whole_coarse_cells_commutes():
    model = nnx.jit(randomised(5, 3, Grid.gaussian(8)))
    x = jax.random.normal(jax.random.key(0), (1, 8, 16, 5))
    coarse = TINY.patch * 2 ** (len(TINY.multipliers) - 1)
    turned, straight = model(jnp.roll(x, coarse, axis=2)), model(x)
    assert float(jnp.abs(straight).max()) > 0.1
    np.testing.assert_allclose(turned, jnp.roll(straight, coarse, axis=2), atol=1e-4)


def test_information_crosses_the_pole():
    model = nnx.jit(randomised(2, 1, Grid.gaussian(8)))
    x = jnp.zeros((1, 8, 16, 2))
    beyond = model(x.at[0, -1, 2].set(1.0)) - model(x)
    assert float(jnp.abs(beyond[0, -1, 10]).max()) > 1e-4  # the opposite meridian, eight cells away along the circle


@pytest.mark.parametrize("grid", [REGION, Grid.from_arrays(np.linspace(-90, 90, 13), np.arange(0, 360, 22.5))])
def test_grids_that_patches_do_not_divide(grid):
    out = nnx.jit(randomised(3, 2, grid))(jnp.ones((1, *grid.shape, 3)))
    assert out.shape == (1, *grid.shape, 2)
    assert bool(jnp.isfinite(out).all())


def test_circle_that_patches_do_not_divide_is_refused():
    grid = Grid.from_arrays(np.linspace(-84, 84, 15), np.arange(36) * 10.0)
    with pytest.raises(ConfigError, match=r"36 longitudes .* no multiple of 8"):
        build(TINY, 3, 2, grid, nnx.Rngs(0))


def test_bfloat16_computes_near_float32_and_keeps_float32_parameters():
    grid = Grid.gaussian(8)
    x = jax.random.normal(jax.random.key(0), (1, 8, 16, 3))
    half = randomised(3, 2, grid, "bfloat16")
    assert {p.dtype for p in jax.tree.leaves(nnx.state(half))} == {jnp.dtype("float32")}
    exact, rounded = nnx.jit(randomised(3, 2, grid))(x), nnx.jit(half)(x)
    assert rounded.dtype == jnp.float32
    assert 1e-5 < float(jnp.abs(rounded - exact).max() / jnp.abs(exact).max()) < 0.05


@pytest.mark.parametrize("grid", [REGION, Grid.gaussian(16)], ids=["framed region", "globe"])
def test_counted_arithmetic_is_what_xla_counts(grid):
    config = UNetConfig(patch=2, width=64, multipliers=[1, 2, 3], blocks=1)
    model = nnx.eval_shape(lambda: build(config, 7, 5, grid, nnx.Rngs(0)))
    graph, params = nnx.split(model)
    x = jax.ShapeDtypeStruct((1, *grid.shape, 7), jnp.float32)
    compiled = jax.jit(lambda p, x: nnx.merge(graph, p)(x)).lower(params, x).compile()
    # XLA counts norms, activations and sums besides
    assert 1.0 <= compiled.cost_analysis()["flops"] / forward_flops(config, 7, 5, grid) < 1.02
