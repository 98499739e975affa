"""What validation shows of forecasts that are known: those of an untrained network, which are persistence."""

from dataclasses import replace

import numpy as np
from synthetic import ON_SIGMA, make_store

from emulator.config import RolloutStage, TrainConfig, UNetConfig
from emulator.training.devices import WHOLE, Layout
from emulator.training.geopotential_error import geopotential_matrix
from emulator.training.train import set_up
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


def test_only_the_state_is_watched_otherwise():
    store, _, skill = validated(temperature=2.0)
    assert skill.channels == store.spec.state_channels
    assert skill.rmse.shape == (3, 9)
