"""The loss against its definition, and its weights."""

import jax.numpy as jnp
import numpy as np
import pytest
from tiny_store import SPEC

from data_prep.errors import ConfigError
from data_prep.grid import Grid
from emulator.losses import channel_weights, weighted_mse


def test_loss_is_the_weighted_mean_of_squared_normalised_errors():
    rng = np.random.default_rng(0)
    grid = Grid.gaussian(4)
    forecast, truth = rng.standard_normal((2, 2, 3, *grid.shape, 4))
    unit, weights = np.array([1.0, 2.0, 0.5, 4.0]), np.array([0.5, 1.5, 1.0, 1.0])
    expected = (
        np.einsum("btyxc,y,c->", ((forecast - truth) / unit) ** 2, grid.latitude_weights, weights) / forecast.size
    )
    np.testing.assert_allclose(
        weighted_mse(*map(jnp.asarray, (forecast, truth, unit, grid.latitude_weights, weights))), expected, rtol=1e-5
    )


def test_an_error_of_one_unit_everywhere_costs_one_on_any_grid():
    grid = Grid.from_arrays(np.arange(15, 77.5, 2.5), np.arange(200, 332.5, 2.5))
    truth = np.zeros((1, 1, *grid.shape, 4), np.float32)
    unit = np.array([3.0, 0.1, 7.0, 2.0], np.float32)
    weights = channel_weights(SPEC, {"temperature": 3.0})
    np.testing.assert_allclose(
        weighted_mse(*map(jnp.asarray, (truth + unit, truth, unit, grid.latitude_weights, weights))), 1.0, rtol=1e-5
    )


def test_weights_go_by_variable_and_have_mean_one():
    weights = channel_weights(SPEC, {"temperature": 3.0})
    np.testing.assert_allclose(weights, np.array([3, 3, 1, 1]) / 2.0)
    np.testing.assert_array_equal(channel_weights(SPEC, {}), np.ones(4))


def test_weight_of_an_unknown_variable_is_refused():
    with pytest.raises(ConfigError, match=r"variable_weights: temprature: no such .* temperature, specific_humidity"):
        channel_weights(SPEC, {"temprature": 2.0})


def test_levels_weigh_by_pressure_or_its_root_and_leave_their_variable_its_weight():
    weights = channel_weights(SPEC, {}, "pressure")  # temperature at 500 and 850 hPa, humidity at one, rain at none
    np.testing.assert_allclose(weights, [500 / 675, 850 / 675, 1, 1], rtol=1e-6)
    weights = channel_weights(SPEC, {"temperature": 3.0}, "pressure")
    np.testing.assert_allclose(weights, np.array([3 * 500 / 675, 3 * 850 / 675, 1, 1]) / 2, rtol=1e-6)
    roots = np.sqrt([500, 850])
    np.testing.assert_allclose(channel_weights(SPEC, {}, "sqrt_pressure"), [*roots / roots.mean(), 1, 1], rtol=1e-6)
