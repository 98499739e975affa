"""What validation shows of forecasts that are known: those of an untrained network, which are persistence."""

from dataclasses import replace

import jax
import numpy as np
from synthetic import ON_SIGMA, make_store, with_state

from emulator.config import RolloutStage, TrainConfig, UNetConfig
from emulator.training.devices import WHOLE, Layout
from emulator.training.geopotential_error import geopotential_matrix
from emulator.training.job import set_up
from emulator.training.loader import read_batch
from emulator.training.validation import Validation


def validated(**weights):
    """Store, rows and skill of an untrained network with a loss of these weights."""
    store = make_store(world=ON_SIGMA, days=12, splits=("train", "validation"))
    one = np.ones(1, np.float32)
    store = replace(store, statistics=replace(store.statistics, mean=ON_SIGMA.mean, static_mean=one, static_std=one))
    config = TrainConfig(
        stages=[RolloutStage(steps=1)], batch_size=2, validation_windows=4, validation_steps=3, variable_weights=weights
    )
    job = set_up(config, UNetConfig(width=8, multipliers=[1], blocks=1), store, 0)
    fresh = job.layout.place(job.fresh, WHOLE)
    return store, job.validation.rows.ravel(), job.validation.run(fresh.averaged, job.task)


def test_geopotential_is_watched_where_the_loss_counts_it():
    store, rows, skill = validated(geopotential=2.0)
    matrix = geopotential_matrix(store.spec, ON_SIGMA.mean).astype(np.float64)
    for lead in (1, 2, 3):
        error = (store.take_states(rows) - store.take_states(rows + lead)) @ matrix
        mean_square = np.average((error**2).mean(axis=(0, 2)), axis=0, weights=store.grid.latitude_weights)
        np.testing.assert_allclose(skill.rmse[lead - 1, -4:], np.sqrt(mean_square), rtol=1e-4)
    assert [c.name for c in skill.channels[-4:]] == [f"geopotential@{level:g}" for level in (0.2, 0.5, 0.8, 0.95)]
    assert list(skill.headline(skill.rmse))[-1] == "geopotential@0.8"


def test_initial_times_that_fill_no_batch_are_not_left_out():
    store = make_store(days=12, splits=("train", "validation"))
    for windows, batch, size in ((32, 20, 16), (30, 8, 6), (4, 8, 4), (31, 8, 6)):
        config = TrainConfig(
            stages=[RolloutStage(steps=1)], batch_size=batch, validation_windows=windows, validation_steps=3
        )
        rows = Validation.of(store, config, Layout.of(config.mesh)).rows
        assert rows.shape == (windows // size, size)
        starts = store.windows("validation", 4)
        first, last = rows.ravel()[[0, -1]]  # and they span the split
        assert first - starts[0] < starts.size / rows.size and starts[-1] - last < starts.size / rows.size


def test_skill_is_that_of_forecasts_made_a_step_at_a_time():
    """Of a network that does not let its states persist: error, change over that of the truth, and weighted loss."""
    store = make_store(world=ON_SIGMA, days=12, splits=("train", "validation"))
    one = np.ones(1, np.float32)
    store = replace(store, statistics=replace(store.statistics, mean=ON_SIGMA.mean, static_mean=one, static_std=one))
    weights = {"temperature": 3.0}
    config = TrainConfig(
        stages=[RolloutStage(steps=1)], batch_size=2, validation_windows=4, validation_steps=2, variable_weights=weights
    )
    job = set_up(config, UNetConfig(width=8, multipliers=[1], blocks=1), store, 0)
    moved = job.layout.place(jax.tree.map(lambda p: p + 0.1, job.fresh.averaged), WHOLE)
    skill = job.validation.run(moved, job.task)

    rows = job.validation.rows.ravel()
    truth, forcing, which = read_batch(store, rows, 2)
    advance, state = jax.jit(job.task.stepper.advance), truth[:, 0]
    area = store.grid.latitude_weights[:, None, None]
    of_channels = np.array([3] * 4 + [1] * 5) / (17 / 9)
    losses = []
    for lead in range(2):
        later = np.asarray(advance(moved.params, state, forcing[:, lead], which))
        error, change, true_change = (
            (area * x.astype(np.float64) ** 2).mean(axis=(0, 1, 2))
            for x in (later - truth[:, lead + 1], later - state, truth[:, lead + 1] - truth[:, lead])
        )
        np.testing.assert_allclose(skill.rmse[lead], np.sqrt(error), rtol=1e-3)
        np.testing.assert_allclose(skill.activity[lead], np.sqrt(change / true_change), rtol=1e-3)
        losses.append((of_channels * error / np.asarray(job.task.stepper.normalizer.output_std[0]) ** 2).mean())
        state = later
    assert np.abs(skill.activity - 1).min() > 0.01
    np.testing.assert_allclose(skill.loss, np.mean(losses), rtol=1e-3)


def test_skill_of_a_network_of_several_steps_is_that_of_its_forecasts_and_what_stands_still_has_no_activity():
    store = make_store(world=ON_SIGMA, days=12, splits=("train", "validation"))
    one, state = np.ones(1, np.float32), np.array(store.state)
    state[store.rows_of("validation"), ..., 8] = 1e5
    store = with_state(store, state)
    store = replace(store, statistics=replace(store.statistics, mean=ON_SIGMA.mean, static_mean=one, static_std=one))
    config = TrainConfig(stages=[RolloutStage(steps=1)], batch_size=2, validation_windows=2, validation_steps=2)
    job = set_up(config, UNetConfig(width=8, multipliers=[1], blocks=1, time_steps=[1, 2]), store, 0)
    moved = job.layout.place(jax.tree.map(lambda p: p + 0.1, job.fresh.averaged), WHOLE)
    skill = job.validation.run(moved, job.task)
    truth, forcing, which = read_batch(store, job.validation.rows.ravel(), 2)
    advance = jax.jit(job.task.stepper.advance)
    later = advance(moved.params, truth[:, 0], forcing[:, 1], which + 1)  # in one step of two
    error = np.asarray(later, np.float64) - truth[:, 2]
    area = store.grid.latitude_weights[:, None, None]
    np.testing.assert_allclose(skill.rmse[1], np.sqrt((area * error**2).mean(axis=(0, 1, 2))), rtol=1e-3)
    assert (skill.activity[:, 8] == 0).all() and (skill.activity[:, :8] > 0).all()


def test_only_the_state_is_watched_otherwise():
    store, _, skill = validated(temperature=2.0)
    assert skill.channels == store.spec.state_channels
    assert skill.rmse.shape == (3, 9)
