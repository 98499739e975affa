"""The U-Net's network of columns: what it adds, what it sees, and what every model must do."""

import jax
import jax.numpy as jnp
import model_checks as check
import numpy as np
import pytest
from flax import nnx

from data_prep.grid import Grid
from emulator.config import UNetConfig
from emulator.models import build, convolution, latitude_factor
from emulator.models.unet import Columns

GLOBE = Grid.gaussian(8)
POLE_ROWS = Grid.from_arrays(np.linspace(-90, 90, 13), np.arange(0, 360, 22.5))
WITH_COLUMNS = UNetConfig(patch=2, width=8, multipliers=[1], blocks=1, column_width=6)


@pytest.fixture(scope="module")
def trial():
    return check.Trial(WITH_COLUMNS.model_copy(update={"width": 16}), GLOBE)


class TestDuties(check.Duties):
    """On ``trial``."""


def test_rotation_by_whole_cells_commutes():
    check.check_turning_commutes(WITH_COLUMNS, GLOBE, WITH_COLUMNS.patch)


@pytest.mark.parametrize("grid", [GLOBE, POLE_ROWS], ids=["gaussian", "framed"])
def test_the_rest_of_the_network_is_as_without(grid):
    """Also with the same random weights, so that one choice is compared by itself."""
    networks = [
        build(WITH_COLUMNS.model_copy(update={"column_width": width}), 3, 2, grid, nnx.Rngs(0)) for width in (6, 0)
    ]
    found, without = (dict(nnx.to_flat_state(nnx.state(network))) for network in networks)
    assert {path for path in found if path[0] != "columns"} == without.keys() < found.keys()
    for path, leaf in without.items():
        np.testing.assert_array_equal(found[path][...], leaf[...])
    x = jax.random.normal(jax.random.key(0), (1, *grid.shape, 3))
    assert not networks[0](x).any()
    networks[0].columns.mlp.out.kernel[...] += 1.0
    assert networks[0](x).shape == (1, *grid.shape, 2)
    assert networks[0](x).all()


def test_a_column_sees_its_own_fields_and_the_latent_cell_around_it():
    columns = Columns(6, 8, 2, 3, 2, rngs=nnx.Rngs(0))
    columns.mlp.out.kernel[...] = jax.random.normal(jax.random.key(0), columns.mlp.out.kernel[...].shape)
    fields = jax.random.normal(jax.random.key(1), (1, 4, 6, 3))
    latent = jax.random.normal(jax.random.key(2), (1, 2, 3, 8))

    def changed(fields, other):
        return np.argwhere(np.asarray(jnp.abs(columns(fields, other) - columns(*here))[0].max(axis=-1)) > 1e-5).tolist()

    here = fields, latent
    assert changed(fields.at[0, 3, 2, 1].add(1.0), latent) == [[3, 2]]
    assert changed(fields, latent.at[0, 1, 2, 5].add(1.0)) == [[2, 4], [2, 5], [3, 4], [3, 5]]


def test_a_column_answers_by_more_than_a_linear_map():
    columns = Columns(6, 8, 2, 3, 2, rngs=nnx.Rngs(0))
    columns.mlp.out.kernel[...] = jnp.ones_like(columns.mlp.out.kernel[...])
    fields, latent = jnp.ones((1, 2, 2, 3)), jnp.zeros((1, 1, 1, 8))
    assert float(jnp.abs(columns(fields, latent) + columns(-fields, latent)).min()) > 0.1


def test_counted_arithmetic_is_what_xla_counts(monkeypatch):
    monkeypatch.setattr(convolution, "convolve3x3", lambda x, kernel, _: convolution._convolution(x, kernel))
    config = UNetConfig(patch=2, width=64, multipliers=[1, 2], blocks=2, column_width=96)
    check.check_arithmetic_is_what_xla_counts(config, Grid.gaussian(16), tolerance=0.02)


def test_latitudes_can_be_split_over_devices_as_without():
    assert latitude_factor(WITH_COLUMNS) == latitude_factor(WITH_COLUMNS.model_copy(update={"column_width": 0})) == 2
