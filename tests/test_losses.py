"""The loss against its definition, its weights, and what it counts of geopotential."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from synthetic import ON_SIGMA, make_store
from tiny_store import SPEC

from data_prep.errors import ConfigError
from data_prep.grid import Grid
from data_prep.vertical import GAS_CONSTANT, sigma_geopotential, virtual_temperature
from emulator.config import RolloutStage, TrainConfig, UNetConfig
from emulator.training.geopotential_error import geopotential_channels, geopotential_matrix
from emulator.training.job import set_up
from emulator.training.losses import Objective, channel_weights


def objective(grid: Grid, weights: np.ndarray) -> Objective:
    """Of four state channels and no derived one, with a row of weights for each stage."""
    rows = np.atleast_2d(weights)
    area, rows, derived, unit = (
        jnp.asarray(a, jnp.float32) for a in (grid.latitude_weights, rows, np.zeros((4, 0)), np.zeros((1, 0)))
    )
    return Objective(area, rows, jnp.int32(len(rows) - 1), derived, unit)


def test_loss_is_the_weighted_mean_of_squared_normalised_errors():
    rng = np.random.default_rng(0)
    grid = Grid.gaussian(4)
    forecast, truth = jnp.asarray(rng.standard_normal((2, 2, 3, *grid.shape, 4)), jnp.float32)
    units, weights = np.array([[1.0, 2.0, 0.5, 4.0], [3.0, 1.0, 1.0, 2.0]]), np.array([0.5, 1.5, 1.0, 1.0])
    error = np.asarray(forecast - truth, np.float64) / units[:, None, None, None]
    expected = np.einsum("btyxc,y,c->", error**2, grid.latitude_weights, weights) / error.size
    unit = jnp.asarray(units, jnp.float32)
    np.testing.assert_allclose(objective(grid, weights).loss(forecast, truth, unit), expected, rtol=1e-5)
    first = replace(objective(grid, np.stack([weights, np.ones(4)])), stage=jnp.int32(0))
    np.testing.assert_allclose(first.loss(forecast, truth, unit), expected, rtol=1e-5)


def test_an_error_of_one_unit_everywhere_costs_one_on_any_grid():
    grid = Grid.from_arrays(np.arange(15, 77.5, 2.5), np.arange(200, 332.5, 2.5))
    truth = jnp.zeros((1, 1, *grid.shape, 4))
    unit = jnp.array([3.0, 0.1, 7.0, 2.0])
    weights = channel_weights(SPEC, {"temperature": 3.0})
    np.testing.assert_allclose(objective(grid, weights).loss(truth + unit, truth, unit[None]), 1.0, rtol=1e-5)


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


def test_the_loss_of_a_config_weighs_levels_and_areas_as_it_asks():
    store = make_store(days=2)
    config = TrainConfig(stages=[RolloutStage(steps=1)], level_weighting="pressure")
    found = Objective.of(config, store, store.statistics.mean, [1])
    np.testing.assert_allclose(found.weights[0], [500 / 675, 850 / 675, 1, 1], rtol=1e-6)
    np.testing.assert_allclose(found.latitude_weights, store.grid.latitude_weights, rtol=1e-6)


LEVELS = np.array([0.2, 0.5, 0.8, 0.95])  # of ON_SIGMA: temperature, humidity, surface pressure


def test_geopotential_of_a_small_difference_is_that_of_the_hydrostatics():
    def where_the_pressure_is_as_on_average(state: np.ndarray) -> np.ndarray:
        virtual = virtual_temperature(state[:4], state[4:8])
        on_sigma = sigma_geopotential(virtual[:, None, None], np.zeros((1, 1)), LEVELS)[:, 0, 0]
        return on_sigma + GAS_CONSTANT * virtual * np.log(state[8] / mean[8])

    mean = ON_SIGMA.mean.astype(np.float64)
    difference = np.array([0.5, -0.3, 0.8, 0.1, 1e-6, 1e-5, -2e-4, 1e-4, 120.0])
    before, after = map(where_the_pressure_is_as_on_average, (mean, mean + difference))
    channels = geopotential_channels(ON_SIGMA.spec)
    assert [(c.variable, c.level) for c in channels] == [("geopotential", level) for level in LEVELS]
    found = difference @ geopotential_matrix(ON_SIGMA.spec, ON_SIGMA.mean)
    np.testing.assert_allclose(found, after - before, rtol=2e-3)


def test_geopotential_counts_in_the_stages_that_name_it_in_units_of_its_change():
    store = make_store(world=ON_SIGMA, days=20)
    stages = [RolloutStage(steps=1), RolloutStage(steps=1, variable_weights={"geopotential": 2.0})]
    config = TrainConfig(stages=stages, variable_weights={"temperature": 3.0})
    found = Objective.of(config, store, ON_SIGMA.mean, [1, 2])
    np.testing.assert_allclose(found.weights[0], np.array([3] * 4 + [1] * 5 + [0] * 4) / (17 / 13), rtol=1e-6)
    np.testing.assert_allclose(found.weights[1], np.array([1] * 9 + [2] * 4) / (17 / 13), rtol=1e-6)

    matrix = geopotential_matrix(ON_SIGMA.spec, ON_SIGMA.mean)
    for row, step in enumerate((1, 2)):
        starts = store.windows("train", step + 1)
        change = (store.take_states(starts + step) - store.take_states(starts)) @ matrix.astype(np.float64)
        area = np.broadcast_to(store.grid.latitude_weights[:, None], store.grid.shape)
        mean = np.average(change, axis=(1, 2), weights=area).mean(axis=0)
        squares = np.average((change - mean) ** 2, axis=(1, 2), weights=area).mean(axis=0)
        np.testing.assert_allclose(found.derived_unit[row], np.sqrt(squares), rtol=0.05)

    error = jnp.zeros((1, 1, *store.grid.shape, 9)).at[..., 8].set(100.0)
    unit = found.units(jnp.full((1, 9), 50.0), jnp.array([1]))
    of_geopotential = 2 * np.sum((100 * matrix[8] / np.asarray(found.derived_unit[1])) ** 2)
    expected = (1 * 2.0**2 + of_geopotential) / 17
    np.testing.assert_allclose(found.loss(error, jnp.zeros_like(error), unit), expected, rtol=1e-5)


@pytest.mark.parametrize(
    "spec", [SPEC, replace(ON_SIGMA.spec, variables=ON_SIGMA.spec.variables[:2])], ids=["on pressure", "without ps"]
)
def test_geopotential_is_refused_where_it_does_not_follow_from_the_state(spec):
    config = TrainConfig(stages=[RolloutStage(steps=1)], variable_weights={"geopotential": 1.0})
    with pytest.raises(ConfigError, match="variable_weights: geopotential: no such state variable"):
        Objective.of(config, replace(make_store(days=2), spec=spec), ON_SIGMA.mean, [1])


def test_geopotential_is_linear_about_the_fields_themselves_where_anomalies_are_learned():
    store = make_store(world=ON_SIGMA, days=10, splits=("train", "validation"))
    one = np.ones(1, np.float32)
    statistics = replace(store.statistics, mean=ON_SIGMA.mean, static_mean=one, static_std=one)
    store = replace(store, statistics=statistics)
    stages = [RolloutStage(steps=1)]
    config = TrainConfig(stages=stages, batch_size=2, anomalies=True, variable_weights={"geopotential": 1.0})
    model = UNetConfig(width=8, multipliers=[1], blocks=1)
    expected = geopotential_matrix(store.spec, ON_SIGMA.mean)
    np.testing.assert_array_equal(set_up(config, model, store, 0).task.objective.derived, expected)
