"""The U-Net: rotation, poles, grids that patches do not divide, and what every model must do."""

import jax
import jax.numpy as jnp
import model_checks as check
import numpy as np
import pytest
from flax import nnx

from data_prep.errors import ConfigError
from data_prep.grid import Grid
from emulator.config import UNetConfig
from emulator.models import build, convolution, latitude_factor
from emulator.models.convolution import Boundary, Frame

TINY = UNetConfig(patch=2, width=8, multipliers=[1, 2], blocks=1)
GLOBE = Grid.gaussian(8)
POLE_ROWS = Grid.from_arrays(np.linspace(-90, 90, 13), np.arange(0, 360, 22.5))
REGION = Grid.from_arrays(np.arange(15, 77.5, 2.5), np.arange(200, 332.5, 2.5))


@pytest.fixture(scope="module")
def trial():
    return check.Trial(TINY.model_copy(update={"width": 16}), GLOBE)


class TestDuties(check.Duties):
    """On ``trial``."""


def test_rotation_by_whole_coarse_cells_commutes():
    check.check_turning_commutes(TINY, GLOBE, TINY.patch * 2 ** (len(TINY.multipliers) - 1))


def test_information_crosses_the_pole():
    model = check.randomised(TINY, GLOBE)
    x = jnp.zeros((1, 8, 16, 3))
    beyond = model(x.at[0, -1, 2].set(1.0)) - model(x)
    assert float(jnp.abs(beyond[0, -1, 10]).max()) > 1e-4  # the opposite meridian, eight cells away along the circle


@pytest.mark.parametrize("grid", [REGION, POLE_ROWS])
def test_grids_that_patches_do_not_divide(grid):
    out = check.randomised(TINY, grid)(jnp.ones((1, *grid.shape, 3)))
    assert out.shape == (1, *grid.shape, 2)
    assert bool(jnp.isfinite(out).all())


def test_circle_that_patches_do_not_divide_is_refused():
    grid = Grid.from_arrays(np.linspace(-84, 84, 15), np.arange(36) * 10.0)
    with pytest.raises(ConfigError, match=r"36 longitudes .* no multiple of 8"):
        build(TINY, 3, 2, grid, nnx.Rngs(0))


def test_bfloat16_computes_near_float32_and_keeps_float32_parameters():
    check.check_half_precision_is_near(TINY, GLOBE)


def test_little_is_kept_in_float32_for_the_gradient_in_bfloat16():
    check.check_little_is_kept_in_float32(TINY, GLOBE)


@pytest.mark.parametrize("grid", [REGION, Grid.gaussian(16)], ids=["framed region", "globe"])
def test_counted_arithmetic_is_what_xla_counts(grid, monkeypatch):
    # as accelerators run it: on a CPU columns of zeros are added to what is convolved, for speed
    monkeypatch.setattr(convolution, "convolve3x3", lambda x, kernel, _: convolution._convolution(x, kernel))
    config = UNetConfig(patch=2, width=64, multipliers=[1, 2, 3], blocks=1)
    check.check_arithmetic_is_what_xla_counts(config, grid, tolerance=0.02)


def test_bands_of_latitude_hold_whole_coarse_cells():
    assert latitude_factor(TINY) == 4


def test_a_region_does_not_see_round_the_globe():
    model, x = check.randomised(TINY, REGION), check.inputs(REGION)
    change = jnp.abs(model(x.at[:, :, 0].add(100.0)) - model(x)).max(axis=(0, 1, 3))
    assert float(change[1]) > 0 and float(change[-1]) == 0


@pytest.mark.parametrize("grid", [REGION, POLE_ROWS])
def test_a_frame_comes_off_where_it_was_put_on(grid):
    x = check.inputs(grid)
    frame = Frame.of(grid, 2, 2, "patch")
    assert sum(frame.rows) % 2 == 1
    np.testing.assert_array_equal(frame.remove(frame.add(x, Boundary.of(grid))), x)


def test_detail_goes_round_the_coarser_level():
    """Without the coarser level and what goes round both, the skip is all that makes the network no linear map."""

    def cut(path, parameter):
        return 0 * parameter if any(name in jax.tree_util.keystr(path) for name in ("double", "direct")) else parameter

    graph, shapes = check.structure(TINY, GLOBE)
    model = nnx.merge(graph, jax.tree_util.tree_map_with_path(cut, check.random_parameters(shapes)))
    x = check.inputs(GLOBE)
    assert float(jnp.abs(model(2 * x) - model(-x)).max()) > 1e-2
