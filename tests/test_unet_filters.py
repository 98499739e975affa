"""The U-Net's filters: what they see, on which grids they can be, and what every model must do."""

import jax.numpy as jnp
import model_checks as check
import numpy as np
import pytest
from flax import nnx

from data_prep.errors import ConfigError
from data_prep.grid import Grid
from emulator.config import UNetConfig
from emulator.models import build, convolution, latitude_factor
from emulator.models.unet import Coarsest

FILTERED = UNetConfig(patch=2, width=8, multipliers=[1], blocks=1, global_truncation=2)
GLOBE = Grid.gaussian(8)
POLE_ROWS = Grid.from_arrays(np.linspace(-90, 90, 13), np.arange(0, 360, 22.5))
REGION = Grid.from_arrays(np.arange(15, 77.5, 2.5), np.arange(200, 332.5, 2.5))


@pytest.fixture(scope="module")
def trial():
    return check.Trial(FILTERED.model_copy(update={"width": 16}), GLOBE)


class TestDuties(check.Duties):
    """On ``trial``."""


def test_rotation_by_whole_cells_commutes():
    check.check_turning_commutes(FILTERED, GLOBE, FILTERED.patch)


@pytest.mark.parametrize("truncation", [0, 2])
def test_what_happens_at_one_place_is_seen_everywhere(truncation):
    grid = Grid.gaussian(16)
    model = check.randomised(FILTERED.model_copy(update={"global_truncation": truncation}), grid)
    x = jnp.zeros((1, *grid.shape, 3))
    change = jnp.abs(model(x.at[0, 4, 2].set(1.0)) - model(x))[0].max(axis=-1)
    far = float(change[12, 18])  # the antipode
    assert far > 1e-3 if truncation else far == 0


def test_a_grid_with_poles_that_patches_do_not_divide():
    out = check.randomised(FILTERED, POLE_ROWS)(jnp.ones((1, *POLE_ROWS.shape, 3)))
    assert out.shape == (1, *POLE_ROWS.shape, 2)
    assert bool(jnp.isfinite(out).all())


@pytest.mark.parametrize("grid", [Grid.gaussian(16), POLE_ROWS], ids=["gaussian", "framed"])
def test_harmonics_lie_where_the_cells_do(grid):
    cells = Coarsest.of(FILTERED, grid)
    sines = np.sin(np.radians(grid.latitude))
    means = [sines[max(row, 0) : row + 2].mean() for row in range(-cells.frame.rows[0], grid.shape[0], 2)]
    zonal = jnp.asarray(np.broadcast_to(np.array(means)[None, :, None, None], (1, *cells.shape, 1)), jnp.float32)
    found = cells.harmonics.analyse(zonal)
    expected = np.zeros_like(found)
    expected[0, 1, 0, 0] = 1 / np.sqrt(3)  # the sine of latitude is one harmonic, of degree 1
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_grids_that_have_no_such_harmonics_are_refused():
    with pytest.raises(ConfigError, match=r"global_truncation: needs a grid that covers the globe, .* set it to 0"):
        build(FILTERED, 3, 2, REGION, nnx.Rngs(0))
    fine = FILTERED.model_copy(update={"global_truncation": 3})
    with pytest.raises(ConfigError, match="global_truncation: 3, but the coarsest level of 4 x 8 cells resolves 2"):
        build(fine, 3, 2, GLOBE, nnx.Rngs(0))


def test_counted_arithmetic_is_what_xla_counts(monkeypatch):
    monkeypatch.setattr(convolution, "convolve3x3", lambda x, kernel, _: convolution._convolution(x, kernel))
    config = UNetConfig(patch=2, width=64, multipliers=[1, 2], blocks=2, global_truncation=2)
    check.check_arithmetic_is_what_xla_counts(config, Grid.gaussian(16), tolerance=0.02)


def test_filters_need_all_latitudes_at_once():
    assert latitude_factor(FILTERED) is None
