"""Padding on the sphere against an analytic field, and the convolution's own gradient against XLA's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from data_prep.errors import ConfigError
from data_prep.grid import Grid
from emulator.models import convolution
from emulator.models.convolution import Boundary, Frame, SphereConv, convolve3x3, pad_sphere
from emulator.models.layers import ResidualBlock, depth_to_space, linear, space_to_depth

EQUAL_ANGLE = np.arange(-90 + 7.5, 90, 15)  # poles half a spacing beyond the outer rows
WITH_POLES = np.arange(-90, 91, 15.0)
LONGITUDE = np.arange(0, 360, 15.0)


def smooth(lat_deg, lon_deg):
    """A polynomial of the point on the unit sphere, hence smooth over the poles: (lat, lon)."""
    lat, lon = np.radians(lat_deg)[:, None], np.radians(lon_deg)[None, :]
    x, y, z = np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat) * np.ones_like(lon)
    return x + 2 * y * z - 0.5 * z**3 + x * y * 3 + 0.7 * x * z**2


@pytest.mark.parametrize("latitude", [EQUAL_ANGLE, WITH_POLES], ids=["poles between", "pole rows"])
def test_padding_continues_a_smooth_field_over_poles_and_dateline(latitude):
    grid = Grid.from_arrays(latitude, LONGITUDE)
    field = smooth(latitude, LONGITUDE)[None, :, :, None]
    padded = pad_sphere(jnp.asarray(field), (3, 2), (2, 4), Boundary.of(grid))[0, :, :, 0]
    # the same polynomial at latitudes beyond 90 degrees: cos(lat) turns negative, which is the opposite meridian
    wider_lat = np.concatenate([latitude[0] - 15 * np.arange(3, 0, -1), latitude, latitude[-1] + 15 * np.arange(1, 3)])
    wider_lon = np.arange(-2, LONGITUDE.size + 4) * 15.0
    np.testing.assert_allclose(padded, smooth(wider_lat, wider_lon), atol=2e-6)


def test_boundaries_are_read_from_the_grid():
    assert Boundary.of(Grid.gaussian(8)) == Boundary(True, (0, 0))
    assert Boundary.of(Grid.from_arrays(WITH_POLES, LONGITUDE)) == Boundary(True, (1, 1))
    assert Boundary.of(Grid.from_arrays(WITH_POLES[1:], LONGITUDE)) == Boundary(True, (0, 1))
    assert Boundary.of(Grid.from_arrays(np.arange(-30, 31, 10), LONGITUDE)) == Boundary(True, None)
    assert Boundary.of(Grid.from_arrays(np.arange(20, 60, 5), np.arange(200, 260, 5))) == Boundary(False, None)


def test_the_one_pole_that_has_a_row_has_no_other_side_and_its_fellow_that_was_left_out_is_stepped_over():
    grid = Grid.from_arrays(WITH_POLES[1:], LONGITUDE)
    field = smooth(grid.latitude, LONGITUDE)
    padded = pad_sphere(jnp.asarray(field)[None, :, :, None], (2, 2), (0, 0), Boundary.of(grid))[0, :, :, 0]
    wider = np.concatenate([[-120, -105], grid.latitude, [105, 120]])
    np.testing.assert_allclose(padded, smooth(wider, LONGITUDE), atol=2e-6)


def test_region_repeats_its_edges():
    x = jnp.arange(6.0).reshape(1, 2, 3, 1)
    padded = pad_sphere(x, (1, 0), (1, 2), Boundary(False, None))[0, :, :, 0]
    np.testing.assert_array_equal(padded, [[0, 0, 1, 2, 2, 2], [0, 0, 1, 2, 2, 2], [3, 3, 4, 5, 5, 5]])


def test_impossible_padding_is_refused():
    x = jnp.zeros((1, 2, 5, 1))
    with pytest.raises(ValueError, match="even number"):
        pad_sphere(x, (1, 1), (1, 1), Boundary(True, (0, 0)))
    with pytest.raises(ValueError, match="by 3 rows"):
        pad_sphere(x, (3, 0), (1, 1), Boundary(True, (0, 0)))
    with pytest.raises(ValueError, match="round the globe"):
        Boundary(False, (0, 0))


@pytest.mark.parametrize("latitude", [EQUAL_ANGLE, WITH_POLES], ids=["poles between", "pole rows"])
def test_a_frame_larger_than_the_globe_has_rows_for_is_refused(latitude):
    """Before anything is compiled: it takes windows or patches of more rows than the grid has by far."""
    grid = Grid.from_arrays(latitude, LONGITUDE)
    most = latitude.size + 2 * (latitude.size - (latitude is WITH_POLES))
    x = jnp.zeros((1, *grid.shape, 1))
    assert Frame.of(grid, most, 2, "window").add(x, Boundary.of(grid)).shape == (1, most, LONGITUDE.size, 1)
    with pytest.raises(ConfigError, match=rf"{latitude.size} rows are too few for cells of {most + 1} rows \(window\)"):
        Frame.of(grid, most + 1, 2, "window")


def test_a_frame_larger_than_its_region_is_refused():
    """A patch of a hundred rows on a small grid took all memory."""
    grid = Grid.from_arrays(np.linspace(40, 50, 5), np.linspace(0, 12, 7))
    assert Frame.of(grid, 10, 14, "patch") == Frame((2, 3), (3, 4))
    with pytest.raises(ConfigError, match=r"5 x 7 points are too few for cells of 11 x 14 \(patch\)"):
        Frame.of(grid, 11, 14, "patch")
    with pytest.raises(ConfigError, match=r"5 x 7 points are too few for cells of 10 x 15 \(patch\)"):
        Frame.of(grid, 10, 15, "patch")


def plain(x, kernel):
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))


@pytest.fixture
def to_convolve():
    """Padded fields, a kernel, and a cotangent of their convolution."""
    shapes = (2, 6, 9, 5), (3, 3, 5, 7), (2, 4, 7, 7)
    return [jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate(shapes)]


@pytest.mark.parametrize("factors", ["float32", "bfloat16"])
def test_convolution_and_its_gradients_are_xlas_of_what_is_multiplied(to_convolve, factors):
    *arrays, cotangent = to_convolve
    *rounded, rounded_cotangent = (x.astype(factors).astype(x.dtype) for x in to_convolve)
    ours, pull_ours = jax.vjp(lambda *of: convolve3x3(*of, factors), *arrays)
    xlas, pull_xlas = jax.vjp(plain, *rounded)
    np.testing.assert_allclose(ours, xlas, atol=1e-5)
    for gradient, expected in zip(pull_ours(cotangent), pull_xlas(rounded_cotangent), strict=True):
        assert gradient.dtype == jnp.float32
        np.testing.assert_allclose(gradient, expected, atol=2e-5)
    assert factors == "float32" or float(jnp.abs(ours - plain(*arrays)).max()) > 1e-3


@pytest.mark.parametrize(
    ("on_accelerators", "on_cpu", "of"),
    [
        ("_convolution", "_products_of_rows", (0, 1)),
        ("_spread", "_spread_in_products", (2, 3)),
        ("_kernel_gradient", "_kernel_gradient_in_half", (0, 2)),
        ("_kernel_gradient", "_kernel_gradient_on_cpu", (0, 2)),
    ],
)
def test_accelerators_and_cpus_compute_the_same(to_convolve, on_accelerators, on_cpu, of):
    arrays = [*to_convolve, to_convolve[1].swapaxes(2, 3)]
    halves = [arrays[i].astype("bfloat16") for i in of]
    theirs = getattr(convolution, on_accelerators)(*halves, dtype=jnp.float32)
    ours = getattr(convolution, on_cpu)(*(x.astype("float32") for x in halves))
    np.testing.assert_allclose(ours, theirs, atol=2e-5)


def test_convolution_commutes_with_rotation_on_the_globe():
    conv = SphereConv(2, 3, Boundary(True, (0, 0)), rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(0), (1, 6, 12, 2))
    np.testing.assert_allclose(conv(jnp.roll(x, 5, axis=2)), jnp.roll(conv(x), 5, axis=2), atol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_bias_is_learned_in_single_precision(dtype):
    """As a sum over all cells, of which half precision would lose most."""
    layer = linear(3, 2, dtype=dtype, rngs=nnx.Rngs(0))
    x = jnp.ones((1, 2, 2, 3), dtype)
    assert layer(x).dtype == dtype

    def loss(bias, x):
        graph, params = nnx.split(layer)
        params["bias"] = params["bias"].replace(bias)
        return nnx.merge(graph, params)(x).astype(jnp.float32).sum()

    program = jax.make_jaxpr(jax.grad(loss))(jnp.zeros(2), x)
    sums = [e for e in program.eqns if e.primitive.name == "reduce_sum"]
    assert sums and all(e.invars[0].aval.dtype == jnp.float32 for e in sums)
    np.testing.assert_allclose(jax.grad(loss)(jnp.zeros(2), jnp.ones((8, 64, 64, 3), dtype)), 8 * 64 * 64)


def test_residual_block_begins_as_identity():
    block = ResidualBlock(4, Boundary(True, (0, 0)), rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(0), (1, 4, 8, 4))
    np.testing.assert_array_equal(block(x), x)


def test_space_to_depth_gathers_neighbours_and_inverts():
    x = jnp.arange(2 * 4 * 6 * 3.0).reshape(2, 4, 6, 3)
    deep = space_to_depth(x, 2)
    np.testing.assert_array_equal(deep[1, 1, 2], x[1, 2:4, 4:6].reshape(-1))
    np.testing.assert_array_equal(depth_to_space(deep, 2), x)
